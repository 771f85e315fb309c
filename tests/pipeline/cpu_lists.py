"""Reads fixtures/annotations.yaml: lists of CPUs as people write them, and what is made of each."""

from __future__ import annotations

import functools
import pathlib

import msgspec
import yaml

FILE = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "annotations.yaml"


class Good(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A list that is taken, and what it means."""

    text: str
    cpus: tuple[int, ...]


class Lists(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    good: tuple[Good, ...]
    empty: tuple[str, ...]
    bad: tuple[str, ...]


@functools.cache
def lists() -> Lists:
    """The lists of the file. Raises msgspec.ValidationError."""
    return msgspec.convert(yaml.load(FILE.read_text(), Loader=yaml.CSafeLoader), Lists)
