"""Cuts whole frames from a byte stream that arrives split and joined anywhere. Pure.

What the multiplexer and ttrpc have in common: a header of fixed size that tells the length of what follows.
"""

from __future__ import annotations

import struct

from reconciler import errors


class Cutter:
    """Bytes in, `(header, body)` out. The cost is linear in the bytes, however they are split."""

    __slots__ = ("_at", "_error", "_header", "_length_at", "_limit", "_size", "_source", "_taken", "_what")

    def __init__(self, what: str, header: struct.Struct, *, length_at: int, limit: int) -> None:
        """`length_at` is the place of the body's length among the header's fields, `limit` the largest length
        that is taken, in bytes; `what` names the frame in errors."""
        self._what = what
        self._header = header
        self._size = header.size
        self._length_at = length_at
        self._limit = limit
        self._source: bytes | bytearray = b""
        self._at = 0
        self._taken = 0
        self._error: errors.FrameError | None = None

    @property
    def partial(self) -> bool:
        """Whether bytes are held that do not make a whole frame yet."""
        return self._at < len(self._source)

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream. Nothing is parsed before the next frame is asked for."""
        if self._at == len(self._source):
            # The common case by far: nothing is held, so nothing need be copied.
            self._source, self._at = data, 0
        elif isinstance(self._source, bytearray):
            self._source += data
        else:
            self._source = bytearray(memoryview(self._source)[self._at :])
            self._source += data
            self._at = 0

    def skip(self, size: int) -> None:
        """Count a whole frame of so many bytes that someone else has cut; none must be held here."""
        self._taken += size

    def next_frame(self) -> tuple[tuple[int, ...], bytes] | None:
        """The next whole frame, or None until more bytes come.

        Raises FrameError for a body that is announced as longer than the limit, and again ever after: what
        follows has no meaning any more. Its position is the header's offset in bytes since the stream began.
        """
        source, at = self._source, self._at
        body = at + self._size
        if len(source) < body:
            self._forget_taken()
            return None
        header = self._header.unpack_from(source, at)
        length: int = header[self._length_at]
        if length > self._limit:
            raise self._broken(length)
        end = body + length
        if len(source) < end:
            self._forget_taken()
            return None
        self._taken += end - at
        self._at = end
        if isinstance(source, bytearray):
            return header, bytes(memoryview(source)[body:end])
        return header, source[body:end]

    def _forget_taken(self) -> None:
        """Forget what was taken of a joined buffer; CPython does so without moving the rest."""
        if self._at and isinstance(self._source, bytearray):
            del self._source[: self._at]
            self._at = 0

    def _broken(self, length: int) -> errors.FrameError:
        """The error for the header at hand, one object however often it is asked for."""
        if self._error is None:
            why = f"{length} bytes announced, more than {self._limit}"
            self._error = errors.FrameError(self._what, why, position=self._taken)
        return self._error
