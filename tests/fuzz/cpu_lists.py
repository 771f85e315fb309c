"""Target: a text becomes the CPUs that it names, or says where it cannot be right, in constant memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

from reconciler import errors
from reconciler.cpu import idset
from tests.fuzz import memory

_SPACE = " \t\n"
_DIGITS = "0123456789"
_REPEATED = 200
_HELD = 16 << 10
"""Bytes for any list of 8192 CPUs; most of it is ints of a bit per CPU, and what a regex match takes."""

Parse = Callable[[str], idset.CpuSet]


class Fault(NamedTuple):
    """Where a list goes wrong: the position of the entry, in characters."""

    position: int


def parse(text: str) -> idset.CpuSet:
    """What is tested."""
    return idset.CpuSet.parse(text, what="list")


def check(data: bytes, parse: Parse = parse) -> None:
    """The text's CPUs are those that a slow reading finds, the fault is where it finds it."""
    text = data.decode(errors="replace")
    expected = by_hand(text, idset.CpuSet.LIMIT)
    found = _read(text, parse)
    if isinstance(expected, Fault):
        assert found == expected
    else:
        assert not isinstance(found, Fault), found
        assert set(found) == expected
        assert len(found) == len(expected)
        _check_format(found, sorted(expected), parse)
    _check_node_list(text)
    long = (text + "," * (len(data) % 2)) * _REPEATED
    assert memory.peak(lambda: _read(long, parse)) <= _HELD


def by_hand(text: str, limit: int) -> set[int] | Fault:
    """The ids in a kernel list, read character by character: no regex, no bits."""
    if not text.strip(_SPACE):
        return set()
    found: set[int] = set()
    start = 0
    for entry in text.split(","):
        blank = len(entry) - len(entry.lstrip(_SPACE))
        ids = _entry(entry.strip(_SPACE), limit)
        if ids is None:
            return Fault(start + blank)
        found |= ids
        start += len(entry) + 1
    return found


def _entry(entry: str, limit: int) -> set[int] | None:
    """The ids of one entry; None if it is none."""
    numbers = entry.split("-")
    if len(numbers) > 2 or not all(
        1 <= len(number) <= 9 and all(c in _DIGITS for c in number) for number in numbers
    ):
        return None
    first, last = int(numbers[0]), int(numbers[-1])
    return set(range(first, last + 1)) if first <= last < limit else None


def _read(text: str, parse: Parse) -> idset.CpuSet | Fault:
    try:
        return parse(text)
    except errors.Malformed as error:
        assert error.position is not None
        assert 0 <= error.position <= len(text)
        assert error.what == "list"
        assert len(str(error)) < 600
        return Fault(error.position)


def _check_format(found: idset.CpuSet, ids: list[int], parse: Parse) -> None:
    """The canonical text means the same set, in the fewest ranges, in order."""
    assert list(found) == ids
    runs = [
        [its for _, its in group]
        for _, group in itertools.groupby(enumerate(ids), key=lambda pair: pair[1] - pair[0])
    ]
    expected = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    assert str(found) == expected
    assert parse(str(found)) == found


def _check_node_list(text: str) -> None:
    """NUMA nodes obey the same grammar under a smaller limit."""
    expected = by_hand(text, idset.NodeSet.LIMIT)
    try:
        found = idset.NodeSet.parse(text, what="list")
    except errors.Malformed as error:
        assert expected == Fault(error.position if error.position is not None else -1)
    else:
        assert set(found) == expected
