"""One connection to the runtime, on asyncio.

What comes in is decoded, decided and answered in one go, without a task or a future in between: the runtime
holds a lock of the whole node while it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from reconciler import errors
from reconciler.runtime.nri import channel, dispatch, envelope, handler, pending, session, ttrpc
from reconciler.runtime.nri.session import State

_PLUGIN = "nri.pkg.api.v1alpha1.Plugin"
_RUNTIME = "nri.pkg.api.v1alpha1.Runtime"
_REGISTER_WITHIN = 60.0
"""Seconds until RegisterPlugin must be granted and Configure have come. The runtime registers one plugin
after the other, and each silent one costs it five seconds."""
_REJECTED_WITHIN = 1.0
"""Seconds after Configure within which a closed connection means that our event mask was not liked."""
_BUFFER = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """How a connection ended. `active_for` is in seconds since it was synchronized, 0 if it never was.

    `rejected` names the runtime (name, version) that seems to have refused the event mask.
    """

    reason: str
    active_for: float
    rejected: tuple[str, str] | None


class Connection(asyncio.BufferedProtocol):
    """Registers, answers and tells the handler, until the socket closes; `lost` is set then."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        its_session: session.Session,
        its_handler: handler.Handler,
        report: handler.Report,
        meter: handler.Meter = handler.UNMETERED,
    ) -> None:
        self.lost: asyncio.Future[Lost] = loop.create_future()
        self._loop = loop
        self._session = its_session
        self._handler = its_handler
        self._report = report
        self._meter = meter
        self._dispatcher = dispatch.Dispatcher(its_handler, report)
        self._channel = channel.Channel()
        # One buffer for ever: asyncio's own way allocates 256 KiB for every read.
        self._buffer = memoryview(bytearray(_BUFFER))
        self._transport: asyncio.Transport | None = None
        self._reason: str | None = None
        self._registration = 0
        self._registered = False
        self._timer: asyncio.TimerHandle | None = None
        self._arrived: float | None = None
        self._first_part: float | None = None
        self._configured_at = 0.0
        self._active_at: float | None = None
        self._pending: set[pending.Pending] = set()

    @property
    def is_made(self) -> bool:
        """Whether there was a connection, so that `lost` will be set."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register at once; Configure may come before the reply."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  narrows the type
        self._transport = transport
        self._registration, message = self._channel.call(
            _RUNTIME, "RegisterPlugin", self._session.registration()
        )
        transport.write(message)
        self._timer = self._loop.call_later(
            _REGISTER_WITHIN, self.close, f"not registered within {_REGISTER_WITHIN:.0f} s"
        )

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  the signature is asyncio's
        """Where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Answer all calls that are whole now."""
        now = self._loop.time()
        if self._arrived is None:
            self._arrived = now
        try:
            self._channel.receive_data(bytes(self._buffer[:nbytes]))
            while self._is_open() and (event := self._channel.next_event()) is not None:
                self._on_event(event)
                self._arrived = now
        except errors.FrameError as error:
            self.close(str(error))
        if not self._channel.partial:
            self._arrived = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing can be answered any more; the handler keeps its claims."""
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._pending:
            waiting.abandon()
        self._pending.clear()
        by_runtime = self._reason is None
        reason = self._reason or (f"{exc}" if exc else "the runtime closed the connection")
        self._reason = reason
        if self._session.peer is not None:
            self._meter.lost()
            self._tell("disconnected", self._handler.disconnected, reason)
        now = self._loop.time()
        self.lost.set_result(
            Lost(
                reason=reason,
                active_for=0.0 if self._active_at is None else now - self._active_at,
                rejected=self._rejected(now) if by_runtime else None,
            )
        )

    def close(self, reason: str) -> None:
        """End the connection now, without waiting for anything. The first reason counts."""
        if self._reason is None and self._transport is not None:
            self._reason = reason
            self._transport.abort()

    def _is_open(self) -> bool:
        return self._reason is None

    def _rejected(self, now: float) -> tuple[str, str] | None:
        peer = self._session.peer
        if peer is None or self._session.state is not State.CONFIGURED:
            return None
        return (peer.runtime, peer.version) if now - self._configured_at < _REJECTED_WITHIN else None

    def _on_event(self, event: channel.Incoming) -> None:
        if isinstance(event, envelope.Call):
            self._on_call(event)
        elif isinstance(event, ttrpc.BadRequest):
            self._report(handler.Notice("nri.malformed", event.why))
            self._send(event.stream, envelope.failure(envelope.Code.INVALID_ARGUMENT, event.why))
        elif event.stream == self._registration:
            self._on_registered(event)

    def _on_call(self, call: envelope.Call) -> None:
        if call.service != _PLUGIN:
            self._send(call.stream, envelope.failure(envelope.Code.UNIMPLEMENTED, f"service {call.service}"))
            return
        match call.method:
            case "Configure":
                self._configure(call)
            case "Synchronize":
                self._synchronize(call)
            case "Shutdown":
                self._shutdown(call)
            case _:
                self._hook(call)

    def _on_registered(self, reply: envelope.Reply) -> None:
        if reply.code != envelope.Code.OK:
            # The runtime leaves the socket open after this, and never says anything again.
            self.close(f"the runtime refused the registration: {reply.text}")
            return
        self._registered = True
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._registered and self._session.peer is not None:
            self._timer.cancel()

    def _configure(self, call: envelope.Call) -> None:
        self._reply_or_fail(call, self._session.configure)
        peer = self._session.peer
        if peer is not None:
            self._configured_at = self._loop.time()
            self._stop_timer()
            self._meter.connected()
            self._tell("connected", self._handler.connected, peer)
        if self._session.config.strip():
            text = "the plugin's own file counts, and what the runtime has for it is not read"
            self._report(handler.Notice("nri.config-ignored", text))
        if self._session.gets_no_list():
            self.close("this runtime gives a plugin that it starts itself no list of what runs")

    def _synchronize(self, call: envelope.Call) -> None:
        if self._first_part is None:
            self._first_part = self._arrived
        self._reply_or_fail(call, self._session.synchronize)
        if self._session.state is not State.ACTIVE:
            return
        now = self._loop.time()
        took = 0.0 if self._first_part is None else now - self._first_part
        self._first_part = None
        if self._session.is_zombie(took):
            self.close(f"Synchronize was answered after {took:.1f} s, too late for this runtime")
            return
        self._active_at = now
        if self._session.peer is not None:
            self._tell("synchronized", self._tell_all, self._session.peer)

    def _tell_all(self, peer: handler.Peer) -> None:
        self._handler.synchronized(self._session.synchronized(self._dispatcher.complain), peer)

    def _shutdown(self, call: envelope.Call) -> None:
        self._send(call.stream, dispatch.EMPTY)
        self.close("the runtime asked to shut down")

    def _hook(self, call: envelope.Call) -> None:
        answer = self._dispatcher.answer(call.method, call.payload)
        if isinstance(answer, bytes):
            self._send(call.stream, answer)
            if self._arrived is not None:
                self._meter.answered(self._dispatcher.hook, self._loop.time() - self._arrived)
        else:
            self._wait(call, answer)

    def _reply_or_fail(self, call: envelope.Call, take: Callable[[bytes], bytes]) -> None:
        try:
            body = envelope.reply(take(call.payload))
        except errors.Malformed as error:
            body = self._dispatcher.failure(call.method, error)
        self._send(call.stream, body)

    def _wait(self, call: envelope.Call, waiting: dispatch.Waiting) -> None:
        """Answer later, and let the guard answer in time."""
        limits = [call.timeout] if call.timeout > 0 else []
        if self._session.peer is not None:
            limits.append(self._session.peer.request_timeout)
        arrived = self._arrived if self._arrived is not None else self._loop.time()
        hook = self._dispatcher.hook

        def send(body: bytes) -> None:
            self._pending.discard(answer)
            self._send(call.stream, body)
            self._meter.answered(hook, self._loop.time() - arrived)

        try:
            answer = pending.Pending(self._dispatcher, call.method, waiting, send)
        except TypeError as error:
            self._send(call.stream, self._dispatcher.failure(call.method, error))
            return
        self._pending.add(answer)
        answer.guard_at(self._loop, arrived + pending.GUARD * min(limits, default=session.REQUEST_TIMEOUT))

    def _send(self, stream: int, body: bytes) -> None:
        if self._reason is None and self._transport is not None:
            self._transport.write(self._channel.reply(stream, body))

    def _tell(self, what: str, listener: Callable[..., None], *args: object) -> None:
        try:
            listener(*args)
        except Exception as error:  # noqa: BLE001  a fault of the handler must not cost the connection
            self._dispatcher.failure(what, error)
