"""How often the runtime is asked and told; in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
from collections.abc import AsyncIterator

import pytest

from reconciler import errors, events, opponents, report
from reconciler.daemon import agreeing, logs, telling
from reconciler.policy import lifecycle, state
from reconciler.runtime.cri import client
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.sim import machine
from tests.daemon import fought, pods
from tests.pipeline import samples

# covers: PRD-7.15

pytestmark = pytest.mark.looptime

MANY = 20
SHAPE = machine.Shape(sockets=1, cores=4)


class Runtime(client.Client):
    """Has a record of every container, and never does what it is told."""

    def __init__(self, record: str) -> None:
        super().__init__("none")
        self.record = record
        self.asked: list[tuple[float, str]] = []
        self.told: list[tuple[float, str, cri.LinuxContainerResources]] = []
        self.fails: errors.ReconcilerError | None = None

    async def container_status(self, container: str, *, verbose: bool = False) -> cri.ContainerStatusResponse:
        assert verbose
        self.asked.append((asyncio.get_running_loop().time(), container))
        response = cri.ContainerStatusResponse()
        response.status.resources.linux.cpuset_cpus = self.record
        return response

    async def update_resources(self, container: str, linux: cri.LinuxContainerResources) -> None:
        await asyncio.sleep(0.5)
        self.told.append((asyncio.get_running_loop().time(), container, linux))
        if self.fails is not None:
            raise self.fails


class Scene(fought.Fought[agreeing.Agreeing]):
    """A node with many containers that all drift, as often as one likes."""

    def __init__(self, record: str) -> None:
        self.state = samples.fresh(SHAPE)
        self.ids = []
        for number in range(MANY):
            pod = pods.pod(f"web{number}")
            container = pods.container(pod)
            event = events.ContainerCreating(pod=pod, container=container)
            self.state, _, _ = lifecycle.admit(self.state, event)
            self.ids.append(container.id)
        self.book = report.Book()
        self.log = io.StringIO()
        tell = telling.Teller(logs.configure("json", self.log))
        self.agreeing = agreeing.Agreeing(self._now, self.book, tell)
        self.runtime = Runtime(record)

    def _now(self) -> state.State:
        return self.state


@contextlib.asynccontextmanager
async def served(record: str = "0-3") -> AsyncIterator[Scene]:
    """One whose containers have this on record, and are 0-7 by right."""
    scene = Scene(record)
    serving = asyncio.create_task(scene.agreeing.serve(scene.runtime))
    await asyncio.sleep(0)
    try:
        yield scene
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        scene.runtime.close()


async def test_one_container_a_second_is_asked_for_and_each_has_its_turn() -> None:
    async with served() as scene:
        await scene.drift(40, *scene.ids)
        times = [at for at, _ in scene.runtime.asked]
        assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(times))
        assert {id_ for _, id_ in scene.runtime.asked} == set(scene.ids)


async def test_the_pauses_of_one_container_double_to_five_minutes() -> None:
    async with served() as scene:
        await scene.drift(1300, scene.ids[0])
        times = [at for at, _, _ in scene.runtime.told]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        # Each has half a second of the update's own, and a second of the bound for all.
        assert gaps == pytest.approx(
            [1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5, 128.5, 256.5, 300.5, 300.5], abs=1.0
        )


async def test_what_was_told_long_ago_delays_nothing() -> None:
    async with served() as scene:
        await scene.drift(20, scene.ids[0])
        await asyncio.sleep(700)
        before = len(scene.runtime.told)
        await scene.drift(5, scene.ids[0])
        assert len(scene.runtime.told) - before >= 2


async def test_only_the_cpuset_is_told() -> None:
    async with served() as scene:
        await scene.drift(3, scene.ids[0])
        [(_, id_, linux), *_] = scene.runtime.told
        assert (id_, linux) == (scene.ids[0], cri.LinuxContainerResources(cpuset_cpus="0-7"))


@pytest.mark.parametrize(
    ("error", "told"),
    [(errors.Refused("it does not like to"), 1), (errors.Retryable("it is away, as the mode says"), 0)],
)
async def test_a_failure_is_tried_again_after_the_same_pauses_and_a_refusal_told_once(
    error: errors.ReconcilerError, told: int
) -> None:
    async with served() as scene:
        scene.runtime.fails = error
        await scene.drift(1, scene.ids[0])
        await asyncio.sleep(100)
        assert len(scene.runtime.told) in (6, 7)
        assert scene.log.getvalue().count("agreement.failed") == told
        assert (scene.agreeing.failed, scene.agreeing.made) == (len(scene.runtime.told), 0)


@pytest.mark.parametrize(
    ("record", "kind", "told"),
    [
        pytest.param("", None, False, id="nothing on record"),
        pytest.param("0-7", None, False, id="on record as it should be"),
        pytest.param("0,1-7", None, False, id="in other words"),
        pytest.param("0-3", None, True, id="something else on record"),
        pytest.param("", "agent", True, id="nothing on record, in conflict"),
        pytest.param("0-7", "agent", False, id="in conflict with somebody who does not ask the runtime"),
        pytest.param("0-7", "systemd", True, id="a unit that may differ from the record"),
        pytest.param("0-3", "kubelet", False, id="kubelet would not hear of it"),
        pytest.param("0-9000", None, False, id="nonsense on record"),
    ],
)
async def test_the_runtime_is_told_where_that_helps(
    record: str, kind: opponents.Kind | None, told: bool
) -> None:
    async with served(record) as scene:
        if kind is not None:
            scene.fight(scene.ids[0], kind)
        await scene.drift(2, scene.ids[0])
        assert bool(scene.runtime.told) == told
        assert scene.agreeing.records[scene.ids[0]] == ("0-7" if told else record)


async def test_while_nobody_serves_nothing_is_kept_for_later() -> None:
    async with served() as scene:
        other = Scene("0-3")
        other.agreeing.drifted(other.ids)
        serving = asyncio.create_task(other.agreeing.serve(scene.runtime))
        await asyncio.sleep(60)
        serving.cancel()
        await asyncio.wait([serving])
        assert scene.runtime.asked == []


async def test_what_has_ended_is_forgotten() -> None:
    async with served() as scene:
        await scene.drift(30, *scene.ids)
        scene.state = samples.fresh(SHAPE)
        await asyncio.sleep(30)
        asked = len(scene.runtime.asked)
        await scene.drift(3, *scene.ids)
        await asyncio.sleep(30)
        assert len(scene.runtime.asked) == asked
        assert scene.agreeing.records == {}


async def test_what_the_runtime_is_told_counts_as_ours_until_shortly_after() -> None:
    async with served() as scene:
        assert scene.agreeing.told() == {}
        scene.agreeing.drifted(scene.ids[:1])
        await asyncio.sleep(0.1)
        assert scene.agreeing.told() == {scene.ids[0]: samples.cpus("0-7")}
        await asyncio.sleep(0.4 + 4.9)
        assert scene.agreeing.told() == {scene.ids[0]: samples.cpus("0-7")}
        await asyncio.sleep(0.2)
        assert scene.agreeing.told() == {}
