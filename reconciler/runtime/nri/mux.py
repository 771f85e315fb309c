"""The NRI multiplexer: several connections over one socket. Sans-I/O: bytes in, events out; pure.

A frame is `uint32 connection, uint32 length`, big-endian, then the payload (containerd/nri,
pkg/net/multiplex). Connection 0 is reserved; 1 carries the calls that the plugin serves, 2 those that the
runtime serves.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from reconciler import errors
from reconciler.runtime.nri import framing

PLUGIN_SERVICE = 1
RUNTIME_SERVICE = 2

MAX_PAYLOAD = 10 + (16 << 20)
"""Largest payload taken, in bytes: a ttrpc header and the 16 MiB that NRI <= 0.6.1 may send in one frame."""
FIRST_PAYLOAD = 4096
"""Largest first frame of a message, in bytes: the size of the buffer through which Go's ttrpc reads."""

_HEADER = struct.Struct(">II")


class Frame(NamedTuple):
    """One frame as it was sent; `payload` is a piece of the connection's byte stream, maybe empty."""

    connection: int
    payload: bytes


class Decoder(framing.Cutter):
    """Receives one socket's bytes."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("NRI frame", _HEADER, length_at=1, limit=MAX_PAYLOAD)

    def next_event(self) -> Frame | None:
        """The next whole frame, or None until more bytes come. Raises FrameError as `next_frame` does."""
        cut = self.next_frame()
        return None if cut is None else Frame(cut[0][0], cut[1])


def encode(connection: int, message: bytes) -> bytes:
    """The bytes that send `message`, one whole ttrpc message, over `connection`.

    A message of more than 4096 bytes becomes a frame of exactly 4096 and one with all the rest: Go's side
    fails the connection for any frame that is larger than what it wants to read at that moment, and holds at
    most 256 frames. Raises FrameError for an empty message and one of which more than MAX_PAYLOAD is left.
    """
    if not 0 < len(message) <= FIRST_PAYLOAD + MAX_PAYLOAD:
        raise errors.FrameError("NRI frame", f"a message of {len(message)} bytes cannot be sent")
    if len(message) <= FIRST_PAYLOAD:
        return _HEADER.pack(connection, len(message)) + message
    rest = memoryview(message)[FIRST_PAYLOAD:]
    first = memoryview(message)[:FIRST_PAYLOAD]
    return b"".join(
        (_HEADER.pack(connection, FIRST_PAYLOAD), first, _HEADER.pack(connection, len(rest)), rest)
    )
