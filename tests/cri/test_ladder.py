"""When polls begin and end, as NRI comes and goes; in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator

import pytest

from reconciler import events
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import agent, births, doors, logs, polling, scanning, telling, watching
from reconciler.inventory import Inventory
from reconciler.policy import state
from reconciler.runtime.nri import handler
from tests.daemon import node as nodes

pytestmark = pytest.mark.looptime

NOTHING = events.Synchronized(pods=(), containers=())
LOST = doors.LOST_SECONDS
SILENT = doors.SILENT_SECONDS


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

    @property
    def known(self) -> Inventory:
        return Inventory()


class Polling(polling.Polling):
    """One that polls nobody, can fail, and can be told what polls would say of themselves."""

    def __init__(
        self, told: list[str], its: Agent, mode: polling.Mode, tell: telling.Teller, *, answers: bool
    ) -> None:
        nobody = births.Births(None, complain=print)
        super().__init__(polling.Runtime(socket="none"), its, mode, nobody, tell)
        self._told = told
        self._answers = answers
        self.fault = asyncio.Event()

    def answered(self) -> None:
        self._mode("cri", "containerd, CRI")

    def failed(self, why: str = "connecting: refused") -> None:
        self._mode("none", why)

    def afresh(self) -> None:
        self._told.append("polls forget")
        super().afresh()

    async def _run(self) -> None:
        self._told.append("polls begin")
        if self._answers:
            self.answered()
        try:
            await self.fault.wait()
            raise RuntimeError("a fault of ours")
        finally:
            self._told.append("polls end")


class Scanning(scanning.Scanning):
    """One that walks through nothing, and can fail."""

    def __init__(self, told: list[str], its: Agent, mode: scanning.Mode, tell: telling.Teller) -> None:
        super().__init__(lambda _: (), its, mode, births.Births(None, complain=print), tell)
        self._told = told
        self.fault = asyncio.Event()

    def walked(self) -> None:
        self._mode("cgroup", "the tree")

    async def _run(self) -> None:
        self._told.append("walks begin")
        self.walked()
        try:
            await self.fault.wait()
            raise RuntimeError("a fault of ours")
        finally:
            self._told.append("walks end")


class Scene:
    """A ladder, what was told of it, and the polls and walks that it made. `answers`: CRI does."""

    def __init__(self, *, answers: bool = True) -> None:
        tell = telling.Teller(logs.configure("json", io.StringIO()))
        self.agent = Agent(tell)
        self.told = self.agent.told
        self.polls: list[Polling] = []
        self.walks: list[Scanning] = []

        def make(mode: polling.Mode) -> polling.Polling:
            self.polls.append(Polling(self.told, self.agent, mode, tell, answers=answers))
            return self.polls[-1]

        def make_scanning(mode: scanning.Mode) -> scanning.Scanning:
            self.walks.append(Scanning(self.told, self.agent, mode, tell))
            return self.walks[-1]

        self.ladder = doors.Ladder(self.agent, make, make_scanning, tell)

    async def see(self, seconds: float) -> list[str]:
        """What was told in this time."""
        await asyncio.sleep(seconds)
        told = list(self.told)
        self.told.clear()
        return told


@contextlib.asynccontextmanager
async def climbing(*, answers: bool = True) -> AsyncIterator[Scene]:
    """A ladder that runs."""
    scene = Scene(answers=answers)
    parts = [asyncio.create_task(scene.ladder.run()), asyncio.create_task(scene.ladder.scan())]
    try:
        yield scene
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)


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


async def test_walks_begin_when_polls_fail_for_long_and_end_before_the_list_of_one_that_does_not() -> None:
    async with climbing(answers=False) as scene:
        assert await scene.see(LOST + 0.1) == ["polls begin"]
        scene.polls[0].failed("connecting: refused")
        assert (scene.agent.mode, scene.agent.reason) == (
            "none",
            "connecting: refused; no NRI: it has not synchronized yet",
        )
        assert await scene.see(SILENT - 0.1) == []
        scene.polls[0].failed("connecting: no such file")
        assert await scene.see(0.2) == ["polls forget", "walks begin"]
        assert (scene.agent.mode, scene.agent.reason) == (
            "cgroup",
            "the tree; no CRI: connecting: no such file; no NRI: it has not synchronized yet",
        )
        scene.polls[0].answered()
        assert scene.agent.mode == "cri"
        assert await scene.see(1000) == ["walks end"]


async def test_polls_that_fail_go_on_beside_the_walks_and_say_why() -> None:
    async with climbing(answers=False) as scene:
        await scene.see(LOST + 0.1)
        scene.polls[0].failed()
        await scene.see(SILENT + 0.1)
        scene.polls[0].failed("connecting: no such file")
        assert scene.agent.mode == "cgroup", "a poll that fails is no news"
        scene.walks[0].walked()
        assert "no CRI: connecting: no such file; no NRI" in scene.agent.reason
        assert await scene.see(1000) == []


async def test_a_poll_that_fails_now_and_then_begins_no_walk() -> None:
    async with climbing() as scene:
        await scene.see(LOST + 0.1)
        for _ in range(10):
            scene.polls[0].failed()
            await asyncio.sleep(SILENT - 0.1)
            scene.polls[0].answered()
        assert await scene.see(1000) == []


async def test_nri_ends_polls_and_walks_before_its_list_is_told() -> None:
    async with climbing(answers=False) as scene:
        await scene.see(LOST + 0.1)
        scene.polls[0].failed()
        await scene.see(SILENT + 0.1)
        scene.ladder.connected(nodes.PEER)
        assert await scene.see(300) == []
        scene.ladder.synchronized(NOTHING, nodes.PEER)
        told = await scene.see(1000)
        assert told[:2] == ["connected", "synchronized"]
        assert sorted(told[2:]) == ["polls end", "walks end"]
        assert scene.agent.mode == "nri"


async def test_a_poll_that_failed_before_nri_came_begins_no_walk_after_it() -> None:
    async with climbing(answers=False) as scene:
        await scene.see(LOST + 0.1)
        scene.polls[0].failed()
        scene.ladder.synchronized(NOTHING, nodes.PEER)
        await scene.see(1000)
        assert scene.walks == []


async def test_what_polls_say_that_were_stopped_changes_no_door() -> None:
    async with climbing(answers=False) as scene:
        await scene.see(LOST + 0.1)
        scene.ladder.connected(nodes.PEER)
        scene.ladder.synchronized(NOTHING, nodes.PEER)
        scene.polls[0].failed()
        await scene.see(1000)
        assert (scene.walks, scene.agent.mode) == ([], "nri")


async def test_each_silence_has_walks_of_its_own() -> None:
    async with climbing() as scene:
        await scene.see(LOST + 0.1)
        for _ in range(3):
            scene.polls[0].failed()
            await asyncio.sleep(SILENT + 0.1)
            scene.polls[0].answered()
            await asyncio.sleep(0.1)
        assert len(set(map(id, scene.walks))) == 3
        assert len(scene.polls) == 1


async def test_a_fault_in_walking_ends_the_ladder() -> None:
    scene = Scene(answers=False)
    polls, walks = asyncio.create_task(scene.ladder.run()), asyncio.create_task(scene.ladder.scan())
    await asyncio.sleep(LOST + 0.1)
    scene.polls[0].failed()
    await asyncio.sleep(SILENT + 0.1)
    scene.walks[0].fault.set()
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await walks
    polls.cancel()
    await asyncio.gather(polls, return_exceptions=True)
