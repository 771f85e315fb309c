"""Target: the bytes of a file become a configuration within bounds, or one sentence, in bounded work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType

import msgspec

from reconciler import errors
from reconciler.config import load, schema

_PATH = "the file"
_CALLS_A_BYTE = 60
_CALLS_AT_LEAST = 4000
"""Calls of functions that reading may take: a few dozen for a node of YAML, which has at least a byte."""

Read = Callable[[bytes], schema.Config]


def read(data: bytes) -> schema.Config:
    """What is tested: a file without a disk."""
    descriptor = os.memfd_create("configuration")
    try:
        os.write(descriptor, data)
        return load.read(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def check(data: bytes, read: Read = read) -> None:
    """Config or Usage, and what is a Config can be written and read again."""
    counted = _Counted(_CALLS_AT_LEAST + _CALLS_A_BYTE * len(data))
    sys.setprofile(counted)
    try:
        config = read(data)
    except errors.Usage as error:
        assert "\n" not in str(error)
        assert str(error).startswith("/proc/self/fd/")
        return
    finally:
        sys.setprofile(None)
        assert counted.left > 0, f"{len(data)} bytes took too many calls"
    _check_bounds(config)
    assert load.parse(msgspec.json.encode(config).decode(), what=_PATH) == config


class _Counted:
    """A profiler that counts calls down."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, _: FrameType, event: str, __: object) -> None:
        if event in ("call", "c_call"):
            self.left -= 1


def _check_bounds(config: schema.Config) -> None:
    assert 1 <= config.min_shared_cpus <= 8192
    assert 0.1 <= config.pass_interval_seconds <= 3600
    assert all(0 <= most <= 8192 for most in config.max_exclusive_cpus.values())
    assert config.nri.plugin_index.isdigit()
    assert len(config.nri.plugin_index) == 2
    assert config.nri.plugin_name.isprintable()
    for names in (config.annotated_namespaces, config.unmanaged_namespaces, config.opt_out_namespaces):
        assert all(name.isascii() and name.isprintable() and name for name in names)
    config.reserved()
    config.of_decisions()
    for namespace in ("default", *config.max_exclusive_cpus):
        config.may_annotate(namespace)
        config.leaves_alone(namespace, {schema.UNMANAGED: "true"})
        config.most_exclusive(namespace)
