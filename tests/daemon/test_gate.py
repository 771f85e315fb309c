"""Between a container's birth and its first instruction: who has to wait for what, and who is refused."""

# covers: PRD-4.3

from __future__ import annotations

import asyncio
import dataclasses
import errno
import pathlib
import re

import pytest

from reconciler import errors, events
from tests.daemon import node, pods

EVERYTHING = "0-7"
WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


async def born(made: node.Node, pod: events.Pod, container: events.Container) -> None:
    """Create the container and its cgroup; it is not started."""
    adjustment = await made.create(pod, container)
    made.make(container, adjustment.cpus, adjustment.mems)


async def test_an_exclusive_container_waits_until_everyone_has_left(tmp_path: pathlib.Path) -> None:
    others = [pods.container(WEB, f"other-{number}") for number in range(20)]
    async with node.running(tmp_path) as made:
        for other in others:
            await made.run(WEB, other)
        made.kernel.hold()
        await born(made, DB, INTEGER)
        starting = asyncio.ensure_future(made.start(DB, INTEGER))
        await asyncio.sleep(0.02)
        assert not starting.done()
        assert {made.cpus(other) for other in others} == {EVERYTHING}
        made.kernel.release()
        await starting
        assert {made.cpus(other) for other in others} == {"0-1,4-7"}


async def test_it_is_refused_with_the_names_of_those_who_cannot_leave(tmp_path: pathlib.Path) -> None:
    stuck, other = pods.container(WEB, "stuck"), pods.container(WEB, "other")
    async with node.running(tmp_path) as made:
        for container in (stuck, other):
            await made.run(WEB, container)
        made.kernel.refuses[str(stuck.cgroup)] = errno.EBUSY
        await born(made, DB, INTEGER)
        with pytest.raises(errors.Refused) as refused:
            await made.start(DB, INTEGER)
        assert str(refused.value) == "exclusive CPUs 2-3 are still used by default/web container stuck"
        assert made.cpus(other) == "0-1,4-7"
        del made.kernel.refuses[str(stuck.cgroup)]
        await made.start(DB, INTEGER)
    [told] = made.records("placement.held-up")
    assert (told["pod"], told["reason"]) == ("db", str(refused.value))


async def test_it_is_refused_where_it_cannot_have_its_own_cpus(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.create(DB, INTEGER)
        made.make(INTEGER, EVERYTHING)
        made.kernel.refuses[str(INTEGER.cgroup)] = errno.EROFS
        with pytest.raises(errors.Refused, match=r"CPUs 2-3 could not be given: write .*read-only"):
            await made.start(DB, INTEGER)


async def test_it_is_refused_where_an_ancestor_grants_less(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        made.host.make("kubepods.slice", "0-2")
        await born(made, DB, INTEGER)
        why = "the kernel grants 2: cpuset.cpus of its ancestor kubepods.slice is 0-2"
        with pytest.raises(errors.Refused, match=re.escape(why)):
            await made.start(DB, INTEGER)


async def test_a_wrong_cpuset_at_birth_is_corrected_before_the_start(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.create(DB, INTEGER)
        made.make(INTEGER, EVERYTHING)
        await made.start(DB, INTEGER)
        assert made.cpus(INTEGER) == "2-3"


async def test_a_shared_container_born_on_the_former_pool_is_corrected_before_its_start(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path) as made:
        before = await made.create(WEB, SHARED)
        await made.run(DB, INTEGER)
        assert before.cpus == EVERYTHING
        made.make(SHARED, before.cpus)
        await made.start(WEB, SHARED)
        assert made.cpus(SHARED) == "0-1,4-7"


async def test_a_shared_container_that_cannot_be_kept_off_is_refused(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        await made.create(WEB, SHARED)
        made.make(SHARED, EVERYTHING)
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EPERM
        with pytest.raises(errors.Refused, match=r"could not be confined to 0-1,4-7: write .*not permitted"):
            await made.start(WEB, SHARED)


async def test_a_shared_container_that_disturbs_nobody_is_let_through(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.create(WEB, SHARED)
        made.make(SHARED)
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EPERM
        await made.start(WEB, SHARED)
        assert made.cpus(SHARED) == ""


@pytest.mark.parametrize("container", [SHARED, INTEGER], ids=["shared", "exclusive"])
async def test_a_container_whose_cgroup_is_not_there_is_let_through(
    tmp_path: pathlib.Path, container: events.Container
) -> None:
    pod = DB if container is INTEGER else WEB
    async with node.running(tmp_path) as made:
        await made.create(pod, container)
        await made.start(pod, container)
        await made.start(pod, dataclasses.replace(container, cgroup=None))
    assert made.records("placement.held-up") == []


async def test_containers_of_one_claim_are_not_in_each_others_way(tmp_path: pathlib.Path) -> None:
    pinned = pods.guaranteed("pinned", cores="4-5")
    async with node.running(tmp_path) as made:
        await made.run(pinned, pods.container(pinned, "first", whole=2))
        await made.run(pinned, pods.container(pinned, "sidecar"))
        states = {entry["container"]: entry["state"] for entry in made.status()["containers"]}
        assert states == {"first": "in-sync", "sidecar": "in-sync"}


@pytest.mark.parametrize("told", [True, False], ids=["told of its end", "not told"])
async def test_who_is_gone_is_in_nobodys_way(tmp_path: pathlib.Path, told: bool) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EBUSY
        await made.create(DB, INTEGER)
        await made.quiet()
        assert made.cpus(SHARED) == EVERYTHING
        made.host.remove(str(SHARED.cgroup))
        if told:
            made.agent.stopped(events.ContainerStopped(pod=WEB, container=SHARED))
        made.make(INTEGER, "2-3")
        await made.start(DB, INTEGER)
    assert made.records("placement.held-up") == []


async def test_a_container_that_ends_at_the_gate_is_let_go(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await born(made, DB, INTEGER)
        made.kernel.hold()
        starting = asyncio.ensure_future(made.start(DB, INTEGER))
        await asyncio.sleep(0.02)
        made.host.remove(str(INTEGER.cgroup))
        made.agent.stopped(events.ContainerStopped(pod=DB, container=INTEGER))
        made.agent.removed(events.ContainerRemoved(pod=DB, container=INTEGER))
        made.kernel.release()
        await starting
        await made.quiet()
        assert made.status()["containers"] == []


async def test_nobody_starts_on_the_word_of_a_pass_that_broke_off(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await born(made, DB, INTEGER)
        made.kernel.fault = RuntimeError("a mistake")
        with pytest.raises(errors.Refused, match="the pass that should have placed it failed"):
            await made.start(DB, INTEGER)
        made.kernel.fault = None
        await made.start(DB, INTEGER)


async def test_many_starts_share_a_pass_and_each_has_its_own_verdict(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.create(WEB, SHARED)
        made.make(SHARED, EVERYTHING)
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EBUSY
        await born(made, DB, INTEGER)
        fine = pods.container(WEB, "fine")
        await born(made, WEB, fine)
        await made.quiet()
        before = len(made.records("pass.done"))
        verdicts = await asyncio.gather(
            made.start(DB, INTEGER), made.start(WEB, SHARED), made.start(WEB, fine), return_exceptions=True
        )
        assert len(made.records("pass.done")) == before + 1
    exclusive, shared, harmless = verdicts
    assert str(exclusive) == "exclusive CPUs 2-3 are still used by default/web container main"
    assert str(shared).startswith("it could not be confined to 0-1,4-7: write ")
    assert harmless is None
