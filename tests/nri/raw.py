"""A plugin that does exactly what a test says, right or wrong."""

from __future__ import annotations

import asyncio

from reconciler.runtime.nri import channel, envelope, levels, mux, nri_pb2, ttrpc


class RawPlugin:
    """Reads calls and writes bytes; answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._channel = channel.Channel()

    @classmethod
    async def connect(cls, path: str) -> RawPlugin:
        """Connect, and say nothing."""
        return cls(*await asyncio.open_unix_connection(path))

    @classmethod
    async def registered(cls, path: str, *, index: str = "10", mask: int = levels.EVENTS) -> RawPlugin:
        """Connect, register and answer Configure."""
        raw = await cls.connect(path)
        request = nri_pb2.RegisterPluginRequest(plugin_name="raw", plugin_idx=index)
        _, message = raw._channel.call(
            "nri.pkg.api.v1alpha1.Runtime", "RegisterPlugin", request.SerializeToString()
        )
        raw.send(message)
        response = nri_pb2.ConfigureResponse(events=mask)
        raw.reply(await raw.call("Configure"), response.SerializeToString())
        return raw

    @classmethod
    async def active(cls, path: str, *, index: str = "10", mask: int = levels.EVENTS) -> RawPlugin:
        """Connect, register, and answer Configure and an unsplit Synchronize."""
        raw = await cls.registered(path, index=index, mask=mask)
        raw.reply(await raw.call("Synchronize"), b"")
        return raw

    async def call(self, method: str) -> envelope.Call:
        """The next call, which must be to that method. Raises EOFError when the runtime hangs up."""
        async with asyncio.timeout(5):
            while True:
                event = self._channel.next_event()
                if isinstance(event, envelope.Call):
                    assert event.method == method
                    return event
                if event is None:
                    await self._read()

    async def eof(self) -> None:
        """Return when the runtime hangs up."""
        async with asyncio.timeout(5):
            try:
                while True:
                    await self._read()
            except (EOFError, ConnectionError):
                return

    def reply(self, call: envelope.Call, payload: bytes) -> None:
        """Answer as it should be."""
        self.send(self._channel.reply(call.stream, envelope.reply(payload)))

    def fail(self, call: envelope.Call, code: envelope.Code) -> None:
        """Answer with a status."""
        self.send(self._channel.reply(call.stream, envelope.failure(code, "no")))

    def message(self, call: envelope.Call, payload: bytes) -> bytes:
        """The ttrpc message of an answer, for sending it in some other way."""
        return ttrpc.Server.reply(call.stream, envelope.reply(payload))

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    def send_frames(self, pieces: list[bytes]) -> None:
        """Send each piece as a frame of its own, all at once."""
        frames = [mux.PLUGIN_SERVICE.to_bytes(4) + len(piece).to_bytes(4) + piece for piece in pieces]
        self.send(b"".join(frames))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _read(self) -> None:
        data = await self._reader.read(1 << 16)
        if not data:
            raise EOFError
        self._channel.receive_data(data)
