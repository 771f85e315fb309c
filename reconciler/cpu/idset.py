"""Immutable sets of small ids, stored as one int used as a bit set. Pure.

`CpuSet` holds logical CPU ids and `NodeSet` holds NUMA node ids; they share the algebra and the kernel's
list format (`0-3,8`, Documentation/admin-guide/cputopology.rst) but do not mix.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar, Self

from reconciler import errors

_ENTRY = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", re.ASCII)
_BLANK = re.compile(r"[ \t\n]*")
_WHY_CHARS = 40


class _IdSet:
    """What `CpuSet` and `NodeSet` have in common. Equal to, and hashed as, sets of the same class only."""

    LIMIT: ClassVar[int]
    WORD: ClassVar[str]
    bits: int
    __slots__ = ("bits",)

    def __init__(self, ids: Iterable[int] = ()) -> None:
        bits = 0
        for i in ids:
            if not 0 <= i < self.LIMIT:
                raise errors.Malformed(self.WORD, f"{i} is outside 0-{self.LIMIT - 1}")
            bits |= 1 << i
        object.__setattr__(self, "bits", bits)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return type(self).from_bits, (self.bits,)

    @classmethod
    def from_bits(cls, bits: int) -> Self:
        """The set whose member i is bit i of `bits`, which must be >= 0 and below 2**LIMIT."""
        made = cls.__new__(cls)
        object.__setattr__(made, "bits", bits)
        return made

    @classmethod
    def parse(cls, text: str, *, what: str) -> Self:
        """The set that a kernel list such as `0,2-3,8` means.

        Surrounding white space is ignored, and so is white space around commas, as Kubernetes users write
        it; an empty text is the empty set. Runs in memory bounded by LIMIT whatever the text says.
        Raises Malformed, naming `what` and the position, for anything else, a range that runs backwards
        and an id of LIMIT or above included.
        """
        if not text or (text.isspace() and _BLANK.fullmatch(text)):  # a strip could copy most of it
            return cls.from_bits(0)
        bits = 0
        start = 0
        while start <= len(text):
            end = text.find(",", start)
            end = len(text) if end < 0 else end
            bits |= cls._parse_entry(text, start, end, what)
            start = end + 1
        return cls.from_bits(bits)

    @classmethod
    def _parse_entry(cls, text: str, start: int, end: int, what: str) -> int:
        while start < end and text[start] in " \t\n":
            start += 1
        while end > start and text[end - 1] in " \t\n":
            end -= 1
        if start == end:
            raise errors.Malformed(what, f"{cls.WORD} or range expected", position=start)
        found = _ENTRY.fullmatch(text, start, end)
        if found is None:
            shown = text[start : min(end, start + _WHY_CHARS)]
            raise errors.Malformed(what, f"{shown!r} is not a {cls.WORD} or range", position=start)
        first = int(found[1])
        last = first if found[2] is None else int(found[2])
        if last < first:
            raise errors.Malformed(what, f"range {first}-{last} runs backwards", position=start)
        if last >= cls.LIMIT:
            raise errors.Malformed(what, f"{cls.WORD} {last} is above {cls.LIMIT - 1}", position=start)
        return (1 << (last + 1)) - (1 << first)

    def __str__(self) -> str:
        return _format(self.bits)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __iter__(self) -> Iterator[int]:
        bits = self.bits
        while bits:
            low = bits & -bits
            yield low.bit_length() - 1
            bits ^= low

    def __contains__(self, i: object) -> bool:
        return isinstance(i, int) and i >= 0 and bool(self.bits >> i & 1)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __bool__(self) -> bool:
        return self.bits != 0

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.bits == other.bits

    def __hash__(self) -> int:
        return hash(self.bits)

    def __or__(self, other: Self) -> Self:
        return self.from_bits(self.bits | other.bits)

    def __and__(self, other: Self) -> Self:
        return self.from_bits(self.bits & other.bits)

    def __sub__(self, other: Self) -> Self:
        return self.from_bits(self.bits & ~other.bits)

    def __le__(self, other: Self) -> bool:
        return not self.bits & ~other.bits

    def isdisjoint(self, other: Self) -> bool:
        """Whether no id is in both."""
        return not self.bits & other.bits

    def first(self) -> int:
        """The lowest id. Raises ValueError on the empty set."""
        if not self.bits:
            raise ValueError("the empty set has no first id")
        return (self.bits & -self.bits).bit_length() - 1


class CpuSet(_IdSet):
    """A set of logical CPU ids, 0 to 8191 (the largest NR_CPUS that the kernel can be built with on x86)."""

    LIMIT = 8192
    WORD = "CPU"
    __slots__ = ()


class NodeSet(_IdSet):
    """A set of NUMA node ids, 0 to 1023 (2**NODES_SHIFT, at most 10, in the kernel)."""

    LIMIT = 1024
    WORD = "NUMA node"
    __slots__ = ()


@functools.lru_cache(maxsize=4096)
def _format(bits: int) -> str:
    """The kernel's canonical list of the set bits. Cached: a pool is formatted once, used per container."""
    parts = []
    while bits:
        first = (bits & -bits).bit_length() - 1
        run = (~(bits >> first) & (bits >> first) + 1).bit_length() - 1
        parts.append(str(first) if run == 1 else f"{first}-{first + run - 1}")
        bits &= -1 << (first + run)
    return ",".join(parts)
