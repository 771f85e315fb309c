"""ttrpc messages, for unary calls. Sans-I/O: bytes in, events out; pure.

A message is `uint32 length, uint32 stream, uint8 type, uint8 flags`, big-endian, then the body
(containerd/ttrpc, channel.go). What a body holds is `envelope`'s matter. A client numbers its calls with odd,
growing stream ids; a reply carries the id of its call. There is nothing to open, close or acknowledge.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from reconciler import errors
from reconciler.runtime.nri import framing

MAX_RECEIVED = 16 << 20
"""Largest body taken, in bytes. ttrpc <= 1.2.5 (containerd <= 1.7.25) sends more than the nominal 4 MiB."""
MAX_SENT = 4 << 20
"""Largest body sent, in bytes: what the other side takes."""

_HEADER = struct.Struct(">IIBB")
_REQUEST = 1
_RESPONSE = 2
_LAST_STREAM = 0xFFFFFFFF


class Request(NamedTuple):
    """A call that came in, to be answered under the same stream id."""

    stream: int
    body: bytes


class BadRequest(NamedTuple):
    """A call that cannot be right, its id for example; to be answered with InvalidArgument and `why`."""

    stream: int
    why: str


class Response(NamedTuple):
    """The reply to one of our calls."""

    stream: int
    body: bytes


class Server(framing.Cutter):
    """The side that is called."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        super().__init__("ttrpc message", _HEADER, length_at=0, limit=MAX_RECEIVED)
        self._last = 0

    def next_event(self) -> Request | BadRequest | None:
        """The next call, or None until more bytes come.

        What is not a request (stream data, types of a later version) is skipped, as Go's server does. Raises
        FrameError as `next_frame` does.
        """
        while (cut := self.next_frame()) is not None:
            (_, stream, kind, _), body = cut
            event = self.admit(stream, kind, body)
            if event is not None:
                return event
        return None

    def admit(self, stream: int, kind: int, body: bytes) -> Request | BadRequest | None:
        """What a whole message is, by the rules for its stream id; None if it is no request."""
        if kind != _REQUEST:
            return None
        if stream % 2 == 0:
            return BadRequest(stream, "StreamID must be odd for client initiated streams")
        if stream <= self._last:
            return BadRequest(stream, "StreamID cannot be re-used and must increment")
        self._last = stream
        return Request(stream, body)

    @staticmethod
    def reply(stream: int, body: bytes) -> bytes:
        """The bytes that answer the call of that stream. Raises FrameError above MAX_SENT bytes of body."""
        return _encode(stream, _RESPONSE, body, MAX_SENT)


class Client(framing.Cutter):
    """The side that calls."""

    __slots__ = ("_max_sent", "_open", "_stream")

    def __init__(self, *, max_sent: int = MAX_SENT) -> None:
        """`max_sent` is the largest body that `call` takes, in bytes."""
        super().__init__("ttrpc message", _HEADER, length_at=0, limit=MAX_RECEIVED)
        self._open: set[int] = set()
        self._stream = -1
        self._max_sent = max_sent

    def next_event(self) -> Response | None:
        """The next reply to a call of ours, or None until more bytes come.

        Whatever answers no open call is skipped. Raises FrameError as `next_frame` does.
        """
        while (cut := self.next_frame()) is not None:
            (_, stream, kind, _), body = cut
            if kind == _RESPONSE and stream in self._open:
                self._open.remove(stream)
                return Response(stream, body)
        return None

    def call(self, body: bytes) -> tuple[int, bytes]:
        """A new call's stream id and the bytes that make it; they must be sent in the order of their ids.

        Raises FrameError for a body that is too long, and after 2**31 calls.
        """
        message = _encode(self._stream + 2, _REQUEST, body, self._max_sent)
        self._stream += 2
        self._open.add(self._stream)
        return self._stream, message


def _encode(stream: int, kind: int, body: bytes, max_sent: int) -> bytes:
    if len(body) > max_sent:
        raise errors.FrameError("ttrpc message", f"a body of {len(body)} bytes is more than {max_sent}")
    if stream > _LAST_STREAM:
        raise errors.FrameError("ttrpc message", f"stream id {stream} does not fit into 32 bits")
    return _HEADER.pack(len(body), stream, kind, 0) + body
