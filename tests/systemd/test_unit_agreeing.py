"""How often systemd is asked and told, of whom, and what after; in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
from collections.abc import AsyncIterator

import pytest

from reconciler import errors, events, opponents, report
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.daemon import logs, telling, unit_agreeing
from reconciler.host import systemd
from reconciler.policy import desired, lifecycle, state
from reconciler.sim import machine
from tests.daemon import fought, pods
from tests.pipeline import samples

# covers: PRD-7.11

pytestmark = pytest.mark.looptime

MANY = 5
SHAPE = machine.Shape(sockets=2, cores=2, threads=2)


class Bus:
    """A systemd of which every unit has `has`, and which does not learn."""

    def __init__(self) -> None:
        self.has = systemd.Allowed(cpus=CpuSet(), mems=NodeSet())
        self.asked: list[tuple[float, str]] = []
        self.told: list[tuple[float, str, str, NodeSet | None]] = []
        self.fails: errors.ReconcilerError | None = None

    async def allowed(self, name: str) -> systemd.Allowed:
        self.asked.append((asyncio.get_running_loop().time(), name))
        if self.fails is not None:
            raise self.fails
        return self.has

    async def allow(self, name: str, cpus: CpuSet, mems: NodeSet | None) -> None:
        await asyncio.sleep(0.1)
        self.told.append((asyncio.get_running_loop().time(), name, str(cpus), mems))


class Scene(fought.Fought[unit_agreeing.UnitAgreeing]):
    """A node with some shared containers, which may be in conflict."""

    def __init__(self) -> None:
        self.state = samples.fresh(SHAPE)
        self.bus = Bus()
        self.is_there = True
        self.ids = [self.run(pods.pod(f"web{number}")) for number in range(MANY)]
        self.book = report.Book()
        self.log = io.StringIO()
        tell = telling.Teller(logs.configure("json", self.log))
        means = unit_agreeing.Means(connect=self._connect, is_there=lambda: self.is_there)
        self.agreeing = unit_agreeing.UnitAgreeing(self._now, self.book, tell, means)

    def _now(self) -> state.State:
        return self.state

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[Bus]:
        yield self.bus

    def run(self, pod: events.Pod, whole: int = 0) -> events.ContainerId:
        """A container is created, in a unit of its own."""
        container = pods.container(pod, whole=whole)
        event = events.ContainerCreating(pod=pod, container=container)
        self.state, _, _ = lifecycle.admit(self.state, event)
        return container.id

    def wanted(self, id_: events.ContainerId) -> str:
        """The CPUs that a container is to have."""
        return str(desired.desired(self.state, (id_,))[id_].cpus)


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Scene]:
    """One that serves."""
    scene = Scene()
    serving = asyncio.create_task(scene.agreeing.serve())
    await asyncio.sleep(0)
    try:
        yield scene
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def test_who_has_drifted_once_is_not_told_of() -> None:
    async with served() as scene:
        await scene.drift(5, *scene.ids)
        assert scene.bus.asked == []


@pytest.mark.parametrize(
    ("kind", "told"), [("systemd", 1), ("runtime", 1), ("agent", 1), ("kubelet", 0), ("ancestor", 0)]
)
async def test_who_is_in_conflict_is_told_of_unless_the_opponent_does_not_look(
    kind: opponents.Kind, told: int
) -> None:
    async with served() as scene:
        scene.fight(scene.ids[0], kind)
        await scene.drift(1, scene.ids[0])
        assert [(name, cpus, mems) for _, name, cpus, mems in scene.bus.told] == [
            (f"{scene.ids[0]}.scope", "0-7", None)
        ] * told
        assert scene.agreeing.made == told


async def test_a_unit_that_has_it_already_is_not_told() -> None:
    async with served() as scene:
        scene.bus.has = systemd.Allowed(cpus=samples.cpus("0-7"), mems=NodeSet([1]))
        scene.fight(scene.ids[0])
        await scene.drift(20, scene.ids[0])
        assert scene.bus.told == []
        assert 1 < len(scene.bus.asked) < 7


async def test_one_container_a_second_is_asked_for_and_each_has_its_turn() -> None:
    async with served() as scene:
        for id_ in scene.ids:
            scene.fight(id_)
        await scene.drift(20, *scene.ids)
        times = [at for at, _ in scene.bus.asked]
        assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(times))
        assert len({name for _, name in scene.bus.asked}) == MANY


async def test_the_pauses_of_one_container_double_to_five_minutes() -> None:
    async with served() as scene:
        scene.fight(scene.ids[0])
        await scene.drift(1300, scene.ids[0])
        gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(scene.bus.asked)]
        assert gaps == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300], abs=1.5)


async def test_who_was_told_of_once_is_told_of_whenever_something_else_is_wanted_and_nobody_else_is() -> None:
    async with served() as scene:
        scene.fight(scene.ids[0])
        await scene.drift(300, scene.ids[0])
        told = len(scene.bus.told)
        for number in range(2):
            scene.run(pods.guaranteed(f"db{number}"), whole=2)
            # Though its own pause may be minutes long by now.
            await asyncio.sleep(3)
            assert scene.bus.told[told + number][1:3] == (
                f"{scene.ids[0]}.scope",
                scene.wanted(scene.ids[0]),
            )
        await asyncio.sleep(100)
        assert len(scene.bus.told) == told + 2
        assert scene.wanted(scene.ids[0]) != "0-7"


async def test_memory_is_told_where_it_is_decided() -> None:
    async with served() as scene:
        pod = pods.guaranteed("storage", "6-7")
        id_ = scene.run(pod, whole=2)
        scene.fight(id_)
        await scene.drift(1, id_)
        assert [its[2:] for its in scene.bus.told] == [("6-7", NodeSet([1]))]


@pytest.mark.parametrize("error", [errors.Refused("it may not"), errors.Retryable("it is away")])
async def test_a_failure_is_tried_again_after_the_same_pauses_and_told_once(
    error: errors.ReconcilerError,
) -> None:
    async with served() as scene:
        scene.fight(scene.ids[0])
        scene.bus.fails = error
        await scene.drift(1, scene.ids[0])
        await asyncio.sleep(100)
        assert scene.agreeing.failed == len(scene.bus.asked)
        assert len(scene.bus.asked) in (6, 7)
        assert scene.log.getvalue().count("agreement.failed") == 1


async def test_a_unit_that_is_gone_is_let_go() -> None:
    async with served() as scene:
        scene.fight(scene.ids[0])
        scene.bus.fails = errors.Gone("no such unit")
        await scene.drift(1, scene.ids[0])
        await asyncio.sleep(100)
        assert len(scene.bus.asked) in (1, 2)
        assert scene.log.getvalue() == ""


async def test_what_systemd_writes_for_us_counts_as_ours_for_some_seconds() -> None:
    async with served() as scene:
        scene.fight(scene.ids[0])
        assert scene.agreeing.told() == {}
        scene.agreeing.drifted(scene.ids[:1])
        await asyncio.sleep(0.05)
        assert scene.agreeing.told() == {scene.ids[0]: samples.cpus("0-7")}
        await asyncio.sleep(3)
        assert scene.agreeing.told() == {scene.ids[0]: samples.cpus("0-7")}
        await asyncio.sleep(5)
        assert scene.agreeing.told() == {}


async def test_without_systemd_nobody_is_asked_and_others_have_to_tell() -> None:
    async with served() as scene:
        assert scene.agreeing.looks_after(scene.ids[0])
        scene.is_there = False
        assert not scene.agreeing.looks_after(scene.ids[0])
        scene.fight(scene.ids[0])
        await scene.drift(5, scene.ids[0])
        assert scene.bus.asked == []
