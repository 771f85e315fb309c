"""A plugin's two ttrpc connections over the multiplexer. Sans-I/O: bytes in, calls and replies out."""

from __future__ import annotations

import struct

from reconciler import errors
from reconciler.runtime.nri import envelope, mux, ttrpc

_BOTH_HEADERS = struct.Struct(">IIIIBB")
"""A frame's header and, after it, that of the message in it."""
_MUX_HEADER = 8
_TTRPC_HEADER = 10

Incoming = envelope.Call | envelope.Reply | ttrpc.BadRequest


class Channel:
    """The plugin's end: it serves connection 1 and calls over connection 2."""

    def __init__(self) -> None:
        self._mux = mux.Decoder()
        self._server = ttrpc.Server()
        self._client = ttrpc.Client()
        self._fed = 0
        self._whole: Incoming | None = None
        self._idle = True

    @property
    def partial(self) -> bool:
        """Whether the beginning of a frame or of a message is held."""
        return self._mux.partial or self._server.partial or self._client.partial

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes from the socket."""
        if not (self._idle and self._take_whole(data)):
            self._idle = False
            self._mux.receive_data(data)

    def next_event(self) -> Incoming | None:
        """The next call or reply, or None until more bytes come. Frames of other connections are dropped, as
        Go's side does. Raises FrameError, and again ever after."""
        whole = self._whole
        if whole is not None:
            self._whole = None
            return whole
        if self._idle:
            return None
        while True:
            if self._fed == mux.PLUGIN_SERVICE:
                event = self._next_call()
            elif self._fed == mux.RUNTIME_SERVICE:
                event = self._next_reply()
            else:
                event = None
            if event is not None:
                return event
            frame = self._mux.next_event()
            if frame is None:
                self._fed = 0
                self._idle = not self.partial
                return None
            self._fed = frame.connection
            if frame.connection == mux.PLUGIN_SERVICE:
                self._server.receive_data(frame.payload)
            elif frame.connection == mux.RUNTIME_SERVICE:
                self._client.receive_data(frame.payload)

    def call(self, service: str, method: str, payload: bytes) -> tuple[int, bytes]:
        """A new call's stream id and the bytes that make it."""
        stream, message = self._client.call(envelope.call(service, method, payload))
        return stream, mux.encode(mux.RUNTIME_SERVICE, message)

    def reply(self, stream: int, body: bytes) -> bytes:
        """The bytes that answer a call with an envelope's `reply` or `failure`. Raises FrameError if it is
        too long to be sent."""
        return mux.encode(mux.PLUGIN_SERVICE, self._server.reply(stream, body))

    def _take_whole(self, data: bytes) -> bool:
        """Whether `data` is one frame with one request in it, which is then the next event.

        That is what nearly every hook looks like, and it needs none of the joining and cutting.
        """
        if self._whole is not None or len(data) < _MUX_HEADER + _TTRPC_HEADER:
            return False
        connection, frame, message, stream, kind, _ = _BOTH_HEADERS.unpack_from(data)
        if (
            connection != mux.PLUGIN_SERVICE
            or frame != len(data) - _MUX_HEADER
            or message != frame - _TTRPC_HEADER
            or frame > mux.FIRST_PAYLOAD
        ):
            return False
        event = self._server.admit(stream, kind, data[_MUX_HEADER + _TTRPC_HEADER :])
        self._mux.skip(len(data))
        self._server.skip(frame)
        self._whole = None if event is None else self._decoded(event)
        return True

    def _next_call(self) -> Incoming | None:
        event = self._server.next_event()
        return None if event is None else self._decoded(event)

    @staticmethod
    def _decoded(event: ttrpc.Request | ttrpc.BadRequest) -> Incoming:
        if isinstance(event, ttrpc.BadRequest):
            return event
        try:
            return envelope.parse_call(event.stream, event.body)
        except errors.Malformed as error:
            return ttrpc.BadRequest(event.stream, str(error))

    def _next_reply(self) -> Incoming | None:
        event = self._client.next_event()
        if event is None:
            return None
        try:
            return envelope.parse_reply(event.stream, event.body)
        except errors.Malformed as error:
            return envelope.Reply(event.stream, envelope.Code.UNKNOWN, str(error), b"")
