"""When polls begin and end, as NRI comes and goes; in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator

import pytest

from reconciler import errors, events
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import agent, births, doors, logs, polling, telling, watching
from reconciler.policy import state
from reconciler.runtime.nri import handler
from tests.daemon import node as nodes

pytestmark = pytest.mark.looptime

NOTHING = events.Synchronized(pods=(), containers=())
LOST = doors.LOST_SECONDS


_NO_CPUS = topologies.Topology(
    online=CpuSet(), offline=CpuSet(), isolated=CpuSet(), nodes=(), sockets=(), llcs=(), cores=()
)


class Agent(agent.Agent):
    """One that writes down what it is told."""

    def __init__(self, tell: telling.Teller) -> None:
        terms = state.terms(_NO_CPUS, schema.Config())
        super().__init__(terms, schema.Config(), watching.Watching(None, complain=print), tell)
        self.told: list[str] = []

    def connected(self, peer: handler.Peer) -> None:
        self.told.append("connected")
        self.set_mode("nri", peer.runtime)

    def disconnected(self, reason: str) -> None:
        self.told.append("disconnected")
        self.set_mode("none", reason)

    def synchronized(self, event: events.Synchronized, peer: handler.Peer | None = None) -> None:  # noqa: ARG002
        self.told.append("synchronized")


class Polling(polling.Polling):
    """One that polls nobody, and can fail."""

    def __init__(self, told: list[str], its: Agent, mode: polling.Mode, tell: telling.Teller) -> None:
        nobody = births.Births(None, complain=print)
        super().__init__(polling.Runtime(socket="none"), its, mode, nobody, tell)
        self._told = told
        self._mode = mode
        self.fault = asyncio.Event()

    async def _run(self) -> None:
        self._told.append("polls begin")
        self._mode("cri", "containerd, CRI")
        try:
            await self.fault.wait()
            raise RuntimeError("a fault of ours")
        finally:
            self._told.append("polls end")


class Scene:
    """A ladder, what was told of it, and the polls that it made."""

    def __init__(self) -> None:
        tell = telling.Teller(logs.configure("json", io.StringIO()))
        self.agent = Agent(tell)
        self.told = self.agent.told
        self.polls: list[Polling] = []

        def make(mode: polling.Mode) -> polling.Polling:
            self.polls.append(Polling(self.told, self.agent, mode, tell))
            return self.polls[-1]

        self.ladder = doors.Ladder(self.agent, make, tell)

    async def see(self, seconds: float) -> list[str]:
        """What was told in this time."""
        await asyncio.sleep(seconds)
        told = list(self.told)
        self.told.clear()
        return told


@contextlib.asynccontextmanager
async def climbing() -> AsyncIterator[Scene]:
    """A ladder that runs."""
    scene = Scene()
    running = asyncio.create_task(scene.ladder.run())
    try:
        yield scene
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_where_nri_comes_soon_nobody_polls() -> None:
    async with climbing() as scene:
        scene.ladder.connected(nodes.PEER)
        scene.ladder.synchronized(NOTHING, nodes.PEER)
        assert await scene.see(1000) == ["connected", "synchronized"]
        assert scene.polls == []


async def test_a_connection_that_is_lost_for_a_short_time_changes_no_door() -> None:
    async with climbing() as scene:
        scene.ladder.connected(nodes.PEER)
        scene.ladder.synchronized(NOTHING, nodes.PEER)
        scene.ladder.disconnected("the runtime closed the connection")
        scene.ladder.notice(handler.Notice("nri.retry", "connecting: refused; next attempt in 1.5 s"))
        await asyncio.sleep(LOST - 0.1)
        scene.ladder.connected(nodes.PEER)
        scene.ladder.synchronized(NOTHING, nodes.PEER)
        assert "polls begin" not in await scene.see(1000)


async def test_polls_begin_when_nri_stays_away_and_end_before_its_list_is_told() -> None:
    async with climbing() as scene:
        scene.ladder.connected(nodes.PEER)
        scene.ladder.synchronized(NOTHING, nodes.PEER)
        scene.ladder.disconnected("the runtime closed the connection")
        assert await scene.see(LOST + 0.1) == ["connected", "synchronized", "disconnected", "polls begin"]
        assert (scene.agent.mode, scene.agent.reason) == (
            "cri",
            "containerd, CRI; no NRI: the runtime closed the connection",
        )
        # Registered, but the list may take minutes.
        scene.ladder.connected(nodes.PEER)
        assert await scene.see(300) == []
        scene.ladder.synchronized(NOTHING, nodes.PEER)
        assert await scene.see(1000) == ["connected", "synchronized", "polls end"]
        assert scene.agent.mode == "nri"


async def test_a_connection_that_never_got_its_list_leaves_the_polls_alone() -> None:
    async with climbing() as scene:
        assert await scene.see(LOST + 0.1) == ["polls begin"]
        scene.ladder.connected(nodes.PEER)
        scene.ladder.disconnected("the runtime closed the connection")
        assert await scene.see(1000) == []
        assert scene.agent.mode == "cri"


async def test_without_nri_at_the_start_there_is_nothing_to_wait_for() -> None:
    async with climbing() as scene:
        scene.ladder.notice(handler.Notice("nri.retry", "connecting: No such file; next attempt in 1.5 s"))
        assert await scene.see(0.1) == ["polls begin"]
        assert scene.agent.reason == "containerd, CRI; no NRI: connecting: No such file"


async def test_each_time_without_nri_starts_from_a_list_of_its_own() -> None:
    async with climbing() as scene:
        for _ in range(3):
            await asyncio.sleep(LOST + 0.1)
            scene.ladder.connected(nodes.PEER)
            scene.ladder.synchronized(NOTHING, nodes.PEER)
            scene.ladder.disconnected("the runtime closed the connection")
        assert len(scene.polls) == 3
        assert len(set(map(id, scene.polls))) == 3


async def test_a_connection_that_ends_at_once_is_a_loss_like_any_other() -> None:
    async with climbing() as scene:
        await scene.see(LOST + 0.1)
        scene.ladder.connected(nodes.PEER)
        scene.ladder.synchronized(NOTHING, nodes.PEER)
        scene.ladder.disconnected("the runtime closed the connection")
        assert await scene.see(LOST + 0.1) == [
            "connected",
            "synchronized",
            "disconnected",
            "polls end",
            "polls begin",
        ]


async def test_a_fault_in_polling_ends_the_ladder() -> None:
    scene = Scene()
    running = asyncio.create_task(scene.ladder.run())
    await asyncio.sleep(LOST + 0.1)
    scene.polls[0].fault.set()
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await running


async def test_hints_reach_the_polls_of_the_moment() -> None:
    async with climbing() as scene:
        scene.ladder.limited([events.ContainerId("a")])
        await asyncio.sleep(LOST + 0.1)
        scene.ladder.limited([events.ContainerId("b")])
        assert scene.polls[0].hurried == {"b"}


def test_a_door_that_is_not_there_says_so() -> None:
    assert isinstance(doors.no_door("cgroup"), errors.Usage)
