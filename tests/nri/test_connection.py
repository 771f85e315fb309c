"""Time-outs, guards and pauses, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator

import pytest

from reconciler import errors, events
from reconciler.runtime.nri import connection, envelope, mux, nri_pb2, plugin, session, ttrpc
from reconciler.runtime.nri.handler import Adjustment
from tests.nri import recorder

pytestmark = pytest.mark.looptime

IDENTITY = session.Identity("test", "90")
PLUGIN = "nri.pkg.api.v1alpha1.Plugin"
CREATE = nri_pb2.CreateContainerRequest(container=nri_pb2.Container(id="c"))


class Line(asyncio.Transport):
    """A transport that keeps what is written, decoded; the runtime's end of it writes by `send`."""

    def __init__(self, connected: connection.Connection) -> None:
        super().__init__()
        self.replies: list[envelope.Reply] = []
        self.aborted = False
        self._connected = connected
        self._client = ttrpc.Client()
        self._mux = mux.Decoder()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._mux.receive_data(bytes(data))
        while (frame := self._mux.next_event()) is not None:
            if frame.connection == mux.PLUGIN_SERVICE:
                self._client.receive_data(frame.payload)
        while (response := self._client.next_event()) is not None:
            self.replies.append(envelope.parse_reply(response.stream, response.body))

    def abort(self) -> None:
        self.aborted = True
        asyncio.get_running_loop().call_soon(self._connected.connection_lost, None)

    def encode(self, method: str, payload: bytes, granted: float = 0) -> bytes:
        body = envelope.call(PLUGIN, method, payload, timeout=granted)
        return mux.encode(mux.PLUGIN_SERVICE, self._client.call(body)[1])

    def send(self, data: bytes) -> None:
        for place in range(0, len(data), 1000):
            piece = data[place : place + 1000]
            self._connected.get_buffer(-1)[: len(piece)] = piece
            self._connected.buffer_updated(len(piece))

    def call(self, method: str, payload: bytes, granted: float = 0) -> None:
        self.send(self.encode(method, payload, granted))


@contextlib.asynccontextmanager
async def connected(
    heard: recorder.Recorder, *, version: str = "v2.1.9", configure: bool = True
) -> AsyncIterator[Line]:
    its_session = session.Session(IDENTITY, frozenset())
    made = connection.Connection(asyncio.get_running_loop(), its_session, heard, heard.notices.append)
    line = Line(made)
    made.connection_made(line)
    if configure:
        request = nri_pb2.ConfigureRequest(runtime_name="containerd", runtime_version=version)
        line.call("Configure", request.SerializeToString())
        registered = ttrpc.Server.reply(1, envelope.reply(b""))
        line.send(mux.encode(mux.RUNTIME_SERVICE, registered))
    yield line
    made.close("the test ends")
    await made.lost


async def test_a_registration_that_is_not_granted_within_a_minute_is_given_up() -> None:
    heard = recorder.Recorder()
    async with connected(heard, configure=False) as line:
        seen = []
        for pause in (59.9, 0.2):
            await asyncio.sleep(pause)
            seen.append(line.aborted)
        assert seen == [False, True]
    assert heard.heard == []


async def test_synchronize_is_waited_for_without_a_deadline() -> None:
    heard = recorder.Recorder()
    async with connected(heard) as line:
        await asyncio.sleep(3600)
        assert not line.aborted
        line.call("Synchronize", b"")
        assert heard.heard == ["connected", "synchronized"]


@pytest.mark.parametrize(("granted", "guard"), [(0.0, 1.2), (0.5, 0.3), (10.0, 1.2), (-1.0, 1.2)], ids=str)
async def test_the_guard_answers_at_60_percent_of_the_smaller_time_out(granted: float, guard: float) -> None:
    heard = recorder.Recorder()
    late = asyncio.get_running_loop().create_future()
    heard.on_create = lambda _: late
    async with connected(heard) as line:
        line.replies.clear()
        line.call("CreateContainer", CREATE.SerializeToString(), granted)
        await asyncio.sleep(guard - 0.01)
        assert line.replies == []
        await asyncio.sleep(0.02)
        [reply] = line.replies
        response = nri_pb2.CreateContainerResponse.FromString(reply.payload)
        assert response.adjust.linux.resources.cpu.cpus == "0"
        late.set_result(Adjustment("7"))
        await asyncio.sleep(10)
        assert len(line.replies) == 1
    assert heard.heard.count("guard") == 1
    assert len(heard.of("nri.guarded")) == 1


async def test_the_guards_time_counts_from_the_first_byte_of_the_request() -> None:
    heard = recorder.Recorder()
    heard.on_create = lambda _: asyncio.get_running_loop().create_future()
    async with connected(heard) as line:
        line.replies.clear()
        data = line.encode("CreateContainer", CREATE.SerializeToString())
        line.send(data[:5])
        await asyncio.sleep(1)
        line.send(data[5:])
        await asyncio.sleep(0.19)
        assert line.replies == []
        await asyncio.sleep(0.02)
        assert len(line.replies) == 1


async def test_a_guard_may_refuse() -> None:
    heard = recorder.Recorder()

    def refuse(_: events.Event) -> Adjustment | None:
        raise errors.Refused("no decision in time")

    heard.on_guard = refuse
    heard.on_create = lambda _: asyncio.get_running_loop().create_future()
    async with connected(heard) as line:
        line.call("CreateContainer", CREATE.SerializeToString())
        await asyncio.sleep(2)
        assert (line.replies[-1].code, line.replies[-1].text) == (9, "no decision in time")


async def test_a_decision_in_time_needs_no_guard() -> None:
    heard = recorder.Recorder()

    async def decide() -> Adjustment:
        await asyncio.sleep(1)
        return Adjustment("5")

    heard.on_create = lambda _: decide()
    async with connected(heard) as line:
        line.call("CreateContainer", CREATE.SerializeToString())
        await asyncio.sleep(10)
        assert len(line.replies) == 2
    assert "guard" not in heard.heard


async def test_a_decision_that_was_cancelled_is_answered_as_a_fault() -> None:
    heard = recorder.Recorder()
    decision: asyncio.Future[Adjustment] = asyncio.get_running_loop().create_future()
    heard.on_create = lambda _: decision
    async with connected(heard) as line:
        line.call("CreateContainer", CREATE.SerializeToString())
        decision.cancel()
        await asyncio.sleep(0)
        assert line.replies[-1].code == 2


async def test_a_lost_connection_leaves_a_decision_to_finish_and_answers_nobody() -> None:
    heard = recorder.Recorder()
    done = []

    async def decide() -> None:
        await asyncio.sleep(5)
        done.append(True)
        raise errors.Refused("too late anyway")

    heard.on_start = lambda _: decide()
    async with connected(heard) as line:
        line.call(
            "StartContainer", nri_pb2.Lifecycle(container=nri_pb2.Container(id="c")).SerializeToString()
        )
    replies = len(line.replies)
    await asyncio.sleep(10)
    assert done == [True]
    assert len(line.replies) == replies
    assert "guard" not in heard.heard


@pytest.mark.parametrize(("version", "closes"), [("1.7.24", True), ("v2.1.9", False)])
async def test_a_synchronize_that_took_too_long_ends_the_connection_where_the_runtime_forgets_to(
    version: str, closes: bool
) -> None:
    heard = recorder.Recorder()
    async with connected(heard, version=version) as line:
        data = line.encode("Synchronize", nri_pb2.SynchronizeRequest().SerializeToString())
        line.send(data[:9])
        await asyncio.sleep(2.5)
        line.send(data[9:])
        assert line.aborted == closes
        assert ("synchronized" in heard.heard) != closes


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(0.0, [1, 2, 4, 8, 16, 30, 30]), (1.0, [2, 4, 8, 16, 32, 60, 60])],
    ids=["shortest", "longest"],
)
async def test_pauses_double_from_one_second_to_a_minute(draw: float, expected: list[float]) -> None:
    backoff = plugin.Backoff(lambda: draw)
    assert [backoff.pause() for _ in expected] == expected
    backoff.reset()
    assert backoff.pause() == expected[0]


class Refusing:
    """There is never anybody there."""

    once = False

    def __init__(self) -> None:
        self.attempts: list[float] = []

    async def connect(self) -> socket.socket:
        self.attempts.append(asyncio.get_running_loop().time())
        raise errors.Retryable("connecting to nowhere: Connection refused")


async def test_a_missing_runtime_is_tried_ever_more_rarely() -> None:
    heard = recorder.Recorder()
    refusing = Refusing()
    running = asyncio.create_task(
        plugin.Plugin(
            identity=IDENTITY,
            via=refusing,
            handler=heard,
            report=heard.notices.append,
            backoff=plugin.Backoff(lambda: 1.0),
        ).run()
    )
    await asyncio.sleep(600)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    gaps = [round(later - sooner) for sooner, later in itertools.pairwise(refusing.attempts)]
    assert gaps[:8] == [2, 4, 8, 16, 32, 60, 60, 60]
    assert heard.heard == []
    assert heard.notices[0].text == "connecting to nowhere: Connection refused; next attempt in 2.0 s"
