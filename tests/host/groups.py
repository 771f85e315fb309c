"""Cgroups as plain files, without a kernel's rules. I/O below a root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from reconciler import errors, observed
from reconciler.host import cgroupfs


def make(root: str, path: str, cpus: str = "", mems: str = "", effective: str = "0-7") -> str:
    """Write the cpuset files of a group, with the directories above it; its full path."""
    full = os.path.join(root, path)
    os.makedirs(full, exist_ok=True)
    texts = {
        "cpuset.cpus": cpus,
        "cpuset.mems": mems,
        "cpuset.cpus.effective": effective,
        "cpuset.mems.effective": mems or "0-1",
    }
    for name, text in texts.items():
        with open(os.path.join(full, name), "w", encoding="ascii") as file:
            file.write(f"{text}\n")
    return full


def put(full: str, name: str, text: str) -> None:
    """Write a file of a group, which may be a new one."""
    with open(os.path.join(full, name), "w", encoding="ascii") as file:
        file.write(text)


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def opened(root: str) -> Iterator[cgroupfs.Cgroupfs]:
    """The tree below a root; nothing of it stays open."""
    with contextlib.closing(cgroupfs.Cgroupfs(root)) as tree:
        yield tree


def cpus_of(look: observed.Look) -> str:
    """The CPUs that the group asks for."""
    assert isinstance(look, observed.Present)
    return str(look.outer.cpus)


def inner_of(look: observed.Look) -> str | None:
    """The CPUs that the inner group asks for; None without one."""
    assert isinstance(look, observed.Present)
    return None if look.inner is None else str(look.inner.cpus)


def error_of(look: observed.Look) -> errors.HostFileError:
    """Why the group could not be read."""
    assert isinstance(look, observed.Unreadable)
    return look.error


def text(*pieces: str) -> str:
    """What is in a file."""
    with open(os.path.join(*pieces), encoding="ascii") as file:
        return file.read()
