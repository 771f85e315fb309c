"""What is counted of a connection: hooks by their names, with the time until they were answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from reconciler import errors
from reconciler.runtime.nri import connection, envelope, mux, nri_pb2, session, ttrpc
from reconciler.runtime.nri.handler import Adjustment
from tests.nri import recorder
from tests.nri.test_connection import CREATE, IDENTITY, Line

pytestmark = pytest.mark.looptime

GONE = nri_pb2.Lifecycle(
    pod=nri_pb2.PodSandbox(id="p"), container=nri_pb2.Container(id="c", pod_sandbox_id="p")
)
CHANGES = {
    "RunPodSandbox": nri_pb2.RUN_POD_SANDBOX,
    "StopPodSandbox": nri_pb2.STOP_POD_SANDBOX,
    "RemovePodSandbox": nri_pb2.REMOVE_POD_SANDBOX,
    "StartContainer": nri_pb2.START_CONTAINER,
    "StopContainer": nri_pb2.STOP_CONTAINER,
    "RemoveContainer": nri_pb2.REMOVE_CONTAINER,
}


@dataclass
class Metered:
    """A connection whose meter writes down what it is told."""

    heard: recorder.Recorder = field(default_factory=recorder.Recorder)
    answers: list[tuple[str, float]] = field(default_factory=list)
    diary: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        its_session = session.Session(IDENTITY, frozenset())
        loop = asyncio.get_running_loop()
        self.connection = connection.Connection(
            loop, its_session, self.heard, self.heard.notices.append, self
        )
        self.line = Line(self.connection)
        self.connection.connection_made(self.line)

    def configure(self) -> None:
        """The runtime grants the registration."""
        request = nri_pb2.ConfigureRequest(runtime_name="containerd", runtime_version="v2.1.9")
        self.line.call("Configure", request.SerializeToString())
        self.line.send(mux.encode(mux.RUNTIME_SERVICE, ttrpc.Server.reply(1, envelope.reply(b""))))

    async def end(self) -> None:
        """The connection ends."""
        self.connection.close("the test ends")
        await self.connection.lost

    def connected(self) -> None:
        self.diary.append("connected")

    def lost(self) -> None:
        self.diary.append("lost")

    def answered(self, hook: str, seconds: float) -> None:
        self.answers.append((hook, round(seconds, 6)))


@pytest.fixture
async def its() -> AsyncIterator[Metered]:
    """A connection that is registered."""
    made = Metered()
    made.configure()
    yield made
    await made.end()


@pytest.mark.parametrize("by", ["StateChange", "a call of its own"])
@pytest.mark.parametrize("hook", CHANGES)
async def test_an_event_is_counted_by_one_name_however_it_comes(its: Metered, hook: str, by: str) -> None:
    if by == "StateChange":
        event = nri_pb2.StateChangeEvent(event=CHANGES[hook], pod=GONE.pod, container=GONE.container)
        its.line.call("StateChange", event.SerializeToString())
    else:
        its.line.call(hook, GONE.SerializeToString())
    assert its.answers == [(hook, 0.0)]


async def test_a_call_counts_from_its_first_bytes(its: Metered) -> None:
    data = its.line.encode("CreateContainer", CREATE.SerializeToString())
    its.line.send(data[:10])
    await asyncio.sleep(0.5)
    its.line.send(data[10:])
    assert its.answers == [("CreateContainer", 0.5)]


async def test_an_answer_that_is_waited_for_counts_when_it_is_sent_and_so_does_the_guards(
    its: Metered,
) -> None:
    its.heard.on_create = lambda _: asyncio.sleep(0.25, Adjustment("1"))
    its.line.call("CreateContainer", CREATE.SerializeToString())
    await asyncio.sleep(10)
    its.heard.on_create = lambda _: asyncio.sleep(5, Adjustment("1"))
    its.line.call("CreateContainer", CREATE.SerializeToString())
    await asyncio.sleep(10)
    assert its.answers == [("CreateContainer", 0.25), ("CreateContainer", 1.2)]


async def test_a_refusal_is_an_answer(its: Metered) -> None:
    def refuse(_: object) -> Adjustment:
        raise errors.Refused("no room")

    its.heard.on_create = refuse
    its.line.call("CreateContainer", CREATE.SerializeToString())
    assert its.answers == [("CreateContainer", 0.0)]


async def test_an_answer_that_is_waited_for_keeps_its_name_when_others_come_between(its: Metered) -> None:
    its.heard.on_create = lambda _: asyncio.sleep(0.25, Adjustment("1"))
    its.line.call("CreateContainer", CREATE.SerializeToString())
    its.line.call("StopContainer", GONE.SerializeToString())
    await asyncio.sleep(1)
    assert its.answers == [("StopContainer", 0.0), ("CreateContainer", 0.25)]


@pytest.mark.parametrize(
    ("registered", "diary"), [(True, ["connected", "lost"]), (False, [])], ids=["registered", "not yet"]
)
async def test_a_connection_and_its_end_count_if_it_was_registered(
    registered: bool, diary: list[str]
) -> None:
    made = Metered()
    if registered:
        made.configure()
    await made.end()
    assert made.diary == diary
