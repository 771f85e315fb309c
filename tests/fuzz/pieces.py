"""How a target reads structure into arbitrary bytes: all are valid, and small changes stay small. Pure."""

from __future__ import annotations

import itertools

MARK = b"\xff\n\xff"
"""Between two parts of an input. Never in UTF-8, so that texts cannot have it by accident."""
_SIZES = 8


def parts(data: bytes) -> list[bytes]:
    """The parts of an input."""
    return data.split(MARK)


def joined(*its: bytes) -> bytes:
    """The input with these parts."""
    return MARK.join(its)


def chunks(data: bytes) -> tuple[bytes, list[bytes]]:
    """A stream, and the same in the chunks whose sizes the first eight bytes say, again and again."""
    sizes, stream = data[:_SIZES], data[_SIZES:]
    cut: list[bytes] = []
    at = 0
    for size in itertools.cycle(sizes or b"\1"):
        if at >= len(stream):
            return stream, cut
        cut.append(stream[at : at + max(size, 1)])
        at += max(size, 1)
    return stream, cut


def streamed(stream: bytes, sizes: bytes = b"\1\2\3\5\x08\x0d\x15\xff") -> bytes:
    """The input that gives this stream in chunks of these eight sizes."""
    return sizes + stream
