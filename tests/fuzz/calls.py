"""Target: bytes from a runtime become ttrpc calls, calls become events, and every call is answered."""

from __future__ import annotations

import struct
from collections.abc import Callable

from reconciler import errors, events
from reconciler.runtime.nri import channel, dispatch, envelope, handler, mux, nri_pb2, session, ttrpc
from tests.fuzz import converted, pieces

METHODS = (
    *("CreateContainer", "UpdateContainer", "StateChange", "Synchronize", "Configure", "RunPodSandbox"),
    *("StopPodSandbox", "RemovePodSandbox", "StartContainer", "StopContainer", "RemoveContainer", "Other"),
)
_SERVICE = "nri.pkg.api.v1alpha1.Plugin"
_RAW = 0
_OUR_CALLS = 2

Made = Callable[[], channel.Channel]
Dispatch = Callable[[handler.Handler, handler.Report], dispatch.Dispatcher]
_Seen = tuple[list[channel.Incoming], str, bool]


def called(method: str, payload: bytes, *, connection: int = mux.PLUGIN_SERVICE, kind: int = 1) -> bytes:
    """The part of an input that makes a call."""
    return bytes((METHODS.index(method), connection, kind, 2)) + payload


def whole(*its: bytes) -> bytes:
    """The input of such parts, in chunks of several sizes."""
    return b"\1" + pieces.streamed(pieces.joined(*its))


def raw(stream: bytes) -> bytes:
    """The input that is a stream as it is."""
    return bytes((_RAW,)) + pieces.streamed(stream)


def check(data: bytes, made: Made = channel.Channel, dispatcher: Dispatch = dispatch.Dispatcher) -> None:
    """The same events however the bytes come, and an answer to every call that carries no fault of ours."""
    mode, rest = data[:1], data[1:]
    sizes, content = rest[:8].ljust(8, b"\1"), rest[8:]
    frames = [content] if mode == bytes((_RAW,)) else _frames(content)
    stream, chunks = pieces.chunks(sizes + b"".join(frames))
    seen = _received(made(), [stream])
    assert _received(made(), chunks) == seen
    assert _received(made(), frames) == seen
    its = _Runtime(dispatcher)
    for event in seen[0]:
        its.answer(event)
    its.taken.check_saved()


def _frames(content: bytes) -> list[bytes]:
    """A frame for each part: its first bytes say method, connection, kind and stream, the payload follows."""
    found = []
    stream = -1
    for part in pieces.parts(content):
        method, connection, kind, step = part[:4].ljust(4, b"\2")
        stream += step
        body = envelope.call(_SERVICE, METHODS[method % len(METHODS)], part[4:])
        message = struct.pack(">IIBB", len(body), stream % (1 << 32), kind, 0) + body
        found.append(struct.pack(">II", connection, len(message)) + message)
    return found


def _received(its: channel.Channel, chunks: list[bytes]) -> _Seen:
    """The events, the fault, and whether something is left. Two calls of ours are open from the start."""
    for _ in range(_OUR_CALLS):
        its.call(_SERVICE, "RegisterPlugin", b"")
    found: list[channel.Incoming] = []
    fault = ""
    for chunk in chunks:
        its.receive_data(chunk)
        try:
            while (event := its.next_event()) is not None:
                found.append(event)
        except errors.FrameError as error:
            assert fault in ("", str(error))
            fault = str(error)
    replies = [event for event in found if isinstance(event, envelope.Reply)]
    assert len(replies) == len({reply.stream for reply in replies}) <= _OUR_CALLS
    return found, fault, bool(fault) or its.partial


class _Runtime:
    """The session and the handler that one connection's calls meet."""

    def __init__(self, dispatcher: Dispatch) -> None:
        self.taken = converted.Taken()
        self._session = session.Session(session.Identity("fuzz", "90"), frozenset())
        self._dispatcher = dispatcher(_Handler(self.taken.take), self._notice)

    def answer(self, event: channel.Incoming) -> None:
        """Answer it, and check that the answer arrives."""
        match event:
            case envelope.Call():
                _check_again(event)
                _check_reply(event.stream, self._body(event))
            case ttrpc.BadRequest(stream, why):
                _check_reply(stream, envelope.failure(envelope.Code.INVALID_ARGUMENT, why))
            case envelope.Reply(code=code):
                assert isinstance(code, int)

    def _body(self, call: envelope.Call) -> bytes:
        if call.method not in ("Configure", "Synchronize"):
            answer = self._dispatcher.answer(call.method, call.payload)
            assert isinstance(answer, bytes), answer
            return answer
        try:
            if call.method == "Configure":
                return envelope.reply(self._configured(call.payload))
            return envelope.reply(self._synchronized(call.payload))
        except errors.Malformed as error:
            return envelope.failure(envelope.Code.INVALID_ARGUMENT, str(error))

    def _configured(self, payload: bytes) -> bytes:
        reply = self._session.configure(payload)
        assert self._session.peer is not None
        assert self._session.peer.request_timeout > 0
        assert self._session.peer.registration_timeout > 0
        return reply

    def _synchronized(self, payload: bytes) -> bytes:
        reply = self._session.synchronize(payload)
        assert not nri_pb2.SynchronizeResponse.FromString(reply).update
        if self._session.state is session.State.ACTIVE:
            self.taken.take(self._session.synchronized(_complaint))
        return reply

    @staticmethod
    def _notice(notice: handler.Notice) -> None:
        assert notice.event == "nri.malformed", notice


def _complaint(error: errors.Malformed) -> None:
    assert str(error)


def _check_again(call: envelope.Call) -> None:
    """What was decoded is decoded the same when it is encoded again."""
    again = envelope.parse_call(call.stream, envelope.call(call.service, call.method, call.payload))
    assert again == call._replace(timeout=again.timeout)


def _check_reply(stream: int, body: bytes) -> None:
    """The other side gets this body under this stream."""
    decoder = mux.Decoder()
    decoder.receive_data(channel.Channel().reply(stream, body))
    sent = b""
    while (frame := decoder.next_event()) is not None:
        assert frame.connection == mux.PLUGIN_SERVICE
        sent += frame.payload
    assert sent == struct.pack(">IIBB", len(body), stream, 2, 0) + body
    reply = envelope.parse_reply(stream, body)
    assert bool(reply.code) == bool(reply.text), reply
    assert "\n" not in reply.text


class _Handler:
    """Grants everything at once and passes every event on."""

    def __init__(self, take: Callable[[events.Event], None]) -> None:
        self._take = take

    def connected(self, peer: handler.Peer) -> None:
        raise AssertionError(peer)

    def disconnected(self, reason: str) -> None:
        raise AssertionError(reason)

    def synchronized(self, event: events.Synchronized, peer: handler.Peer) -> None:
        raise AssertionError(event, peer)

    def create(self, event: events.ContainerCreating) -> handler.Adjustment:
        self._take(event)
        return handler.Adjustment("2-3", "0")

    def start(self, event: events.ContainerStarting) -> None:
        self._take(event)

    def update(self, event: events.ContainerUpdating) -> handler.Adjustment:
        self._take(event)
        return handler.Adjustment("4-5")

    def stopped(self, event: events.ContainerStopped) -> None:
        self._take(event)

    def removed(self, event: events.ContainerRemoved) -> None:
        self._take(event)

    def pod_started(self, event: events.PodStarted) -> None:
        self._take(event)

    def pod_stopped(self, event: events.PodStopped) -> None:
        self._take(event)

    def pod_removed(self, event: events.PodRemoved) -> None:
        self._take(event)

    def guard(self, event: events.Event) -> None:
        raise AssertionError(event)
