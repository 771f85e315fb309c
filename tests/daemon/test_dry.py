"""What a dry agent does: everything but writing, refusing and placing."""

# covers: PRD-10.5

from __future__ import annotations

import pathlib

import pytest

from reconciler import events
from reconciler.runtime.nri.handler import Adjustment
from tests.daemon import node, pods

WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
GREEDY = pods.guaranteed("greedy")
TOO_MANY = pods.container(GREEDY, whole=16)


async def test_a_dry_agent_writes_nothing(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, dry=True) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        made.put(INTEGER, "0-7")
        await made.quiet()
        assert made.kernel.attempts == []
        assert (made.cpus(SHARED), made.cpus(INTEGER)) == ("", "0-7")
        assert made.followed == []


async def test_a_dry_agent_says_what_it_would_write_once(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, dry=True) as made:
        made.make(SHARED, "0-7")
        made.make(INTEGER, "2-3")
        await made.synchronize((WEB, SHARED), (DB, INTEGER))
        for _ in range(3):
            await made.quiet()
    told = [(record["pod"], record["file"], record["text"]) for record in made.records("plan.write")]
    assert told == [("web", "cpuset.cpus", "0-1,4-7")]
    assert [record["writes"] for record in made.records("plan.done")] == [1]


async def test_a_dry_agent_refuses_nobody_and_places_nobody(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, dry=True) as made:
        assert await made.create(DB, INTEGER) == Adjustment()
        assert await made.create(GREEDY, TOO_MANY) == Adjustment()
        made.make(TOO_MANY)
        await made.start(GREEDY, TOO_MANY)
        updating = events.ContainerUpdating(pod=DB, container=INTEGER, limits=INTEGER.limits)
        assert made.agent.update(updating) == Adjustment()
        entries = {entry["pod"]: entry["reason"] for entry in made.status()["containers"]}
        assert "16 exclusive CPUs wanted" in entries["greedy"]
    assert [record["pod"] for record in made.records("placement.refused")] == ["greedy"]


async def test_a_dry_agent_says_who_would_move(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, dry=True) as made:
        await made.run(DB, INTEGER)
        listed = pods.guaranteed("listed", cores="2-3")
        await made.run(listed, pods.container(listed, whole=2))
        assert made.kernel.attempts == []
    [told] = made.records("placement.moved")
    assert (told["pod"], told["cpus_before"], told["cpus"]) == ("db", "2-3", "4-5")


async def test_a_dry_agent_lets_creations_through_during_its_adoption(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, dry=True, ready=False) as made:
        made.make(SHARED, "0-7")
        made.kernel.hold()
        made.agent.synchronized(node.listed((WEB, SHARED)), node.PEER)
        answer = made.agent.create(events.ContainerCreating(pod=DB, container=INTEGER))
        assert answer == Adjustment()


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(events.ContainerCreating(pod=DB, container=INTEGER), id="creation"),
        pytest.param(events.ContainerStarting(pod=DB, container=INTEGER), id="start"),
        pytest.param(events.ContainerUpdating(pod=DB, container=INTEGER, limits=INTEGER.limits), id="update"),
    ],
)
async def test_the_guard_of_a_dry_agent_lets_everything_through(
    tmp_path: pathlib.Path, event: events.Event
) -> None:
    async with node.running(tmp_path, dry=True) as made:
        await made.run(DB, INTEGER)
        assert made.agent.guard(event) in (None, Adjustment())
