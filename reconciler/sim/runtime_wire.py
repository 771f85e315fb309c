"""The runtime's end of one plugin's connection, as strict as Go's. On asyncio."""

from __future__ import annotations

import asyncio
import collections
import struct

from reconciler import errors
from reconciler.runtime.nri import envelope, mux, ttrpc

PLUGIN = "nri.pkg.api.v1alpha1.Plugin"
_BUFIO = 4096
_QUEUE = 256
_TTRPC_HEADER = struct.Struct(">IIBB")


class ClosedError(errors.ReconcilerError):
    """The connection is gone; the runtime goes on as if there had never been a plugin."""


class GoReader:
    """What Go's ttrpc gets of one mux connection: frames read through a `bufio.Reader` of 4096 bytes.

    A frame must fit into what the reader wants to read when it comes, and no more than 256 may wait
    (containerd/nri, pkg/net/multiplex). Pure.
    """

    def __init__(self) -> None:
        self._frames: collections.deque[bytes] = collections.deque()
        self._buffered = b""
        self._message = bytearray()
        self._need = _TTRPC_HEADER.size

    def queue(self, payload: bytes) -> None:
        """A frame came. Raises FrameError when too many wait."""
        if len(self._frames) >= _QUEUE:
            raise errors.FrameError("NRI frame", "failed to queue payload for reading")
        self._frames.append(payload)

    def read(self) -> bytes:
        """The whole messages that have come. Raises FrameError for a frame that does not fit."""
        whole = bytearray()
        while self._buffered or self._frames:
            if not self._buffered:
                self._read_frame()
            taken, self._buffered = self._buffered[: self._need], self._buffered[self._need :]
            self._message += taken
            self._need -= len(taken)
            if not self._need and self._is_whole():
                whole += self._message
                self._message = bytearray()
                self._need = _TTRPC_HEADER.size
        return bytes(whole)

    def _read_frame(self) -> None:
        frame = self._frames.popleft()
        capacity = max(self._need, _BUFIO)
        if len(frame) > capacity:
            why = f"{len(frame)} bytes do not fit into a buffer of {capacity} (ENOMEM)"
            raise errors.FrameError("NRI frame", why)
        self._buffered = frame

    def _is_whole(self) -> bool:
        (length, *_) = _TTRPC_HEADER.unpack_from(self._message)
        if length > ttrpc.MAX_SENT:
            raise errors.FrameError("ttrpc message", f"message length {length} exceeds {ttrpc.MAX_SENT}")
        self._need = length - (len(self._message) - _TTRPC_HEADER.size)
        return self._need == 0


class Wire(asyncio.Protocol):
    """One plugin's connection. Not read before `unblock`, as the runtime reads none before its turn."""

    def __init__(self, accepted: asyncio.Queue[Wire], max_sent: int) -> None:
        self.registration: asyncio.Future[envelope.Call] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self.why = ""
        self.config = ""
        """What the runtime has for this plugin in its folder of configurations."""
        self._accepted = accepted
        self._mux = mux.Decoder()
        self._readers = {mux.PLUGIN_SERVICE: GoReader(), mux.RUNTIME_SERVICE: GoReader()}
        self._client = ttrpc.Client(max_sent=max_sent)
        self._server = ttrpc.Server()
        self._calls: dict[int, asyncio.Future[envelope.Reply]] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for our turn: the runtime registers one plugin after the other."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  narrows the type
        self._transport = transport
        transport.pause_reading()
        self._accepted.put_nowait(self)

    def data_received(self, data: bytes) -> None:
        """Take frames; anything that Go's side would stumble over closes the connection."""
        try:
            self._mux.receive_data(data)
            while (frame := self._mux.next_event()) is not None:
                reader = self._readers.get(frame.connection)
                if reader is not None:
                    reader.queue(frame.payload)
            self._client.receive_data(self._readers[mux.PLUGIN_SERVICE].read())
            self._server.receive_data(self._readers[mux.RUNTIME_SERVICE].read())
            self._on_replies()
            self._on_calls()
        except errors.Malformed as error:
            self.close(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """Every call that waits fails."""
        self.why = self.why or (str(exc) if exc else "the plugin closed the connection")
        self.closed.set()
        if not self.registration.done():
            self.registration.set_exception(ClosedError(self.why))
            self.registration.exception()  # there may be nobody who waits for it
        for waiting in self._calls.values():
            if not waiting.done():
                waiting.set_exception(ClosedError(self.why))

    def unblock(self) -> None:
        """Begin to read."""
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self, why: str) -> None:
        """Hang up; `why` is kept for whoever asks."""
        self.why = self.why or why
        if self._transport is not None:
            self._transport.abort()

    async def call(
        self, method: str, payload: bytes, within: float, *, service: str = PLUGIN
    ) -> envelope.Reply:
        """Call the plugin. Raises ClosedError, and TimeoutError after `within` seconds."""
        if self._transport is None or self._transport.is_closing():
            raise ClosedError(self.why)
        stream, message = self._client.call(envelope.call(service, method, payload, timeout=within))
        reply: asyncio.Future[envelope.Reply] = asyncio.get_running_loop().create_future()
        self._calls[stream] = reply
        self._transport.write(mux.encode(mux.PLUGIN_SERVICE, message))
        try:
            async with asyncio.timeout(within):
                return await reply
        finally:
            del self._calls[stream]

    def reply(self, call: envelope.Call, body: bytes) -> None:
        """Answer a call of the plugin's."""
        if self._transport is not None:
            self._transport.write(mux.encode(mux.RUNTIME_SERVICE, self._server.reply(call.stream, body)))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are: faults for tests."""
        if self._transport is not None:
            self._transport.write(data)

    def _on_replies(self) -> None:
        while (response := self._client.next_event()) is not None:
            reply = envelope.parse_reply(response.stream, response.body)
            waiting = self._calls.get(reply.stream)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    def _on_calls(self) -> None:
        while (request := self._server.next_event()) is not None:
            if isinstance(request, ttrpc.BadRequest):
                raise errors.Malformed("ttrpc request", request.why)
            call = envelope.parse_call(request.stream, request.body)
            if call.method == "RegisterPlugin" and not self.registration.done():
                self.registration.set_result(call)
            else:
                body = envelope.failure(envelope.Code.UNIMPLEMENTED, f"method {call.method}")
                self.reply(call, body)
