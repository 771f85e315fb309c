"""Decisions for which others have to leave their CPUs: carried out before the answer, or taken back whole."""

from __future__ import annotations

import asyncio
import errno
import pathlib

import pytest

from reconciler import errors, events
from reconciler.policy import checkpoint
from reconciler.runtime.nri.handler import Adjustment
from tests.daemon import node, pods

# covers: PRD-2.12, PRD-4.8, PRD-4.14, PRD-5.6, PRD-5.10

WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
LISTED = pods.guaranteed("listed", cores="2-3")
PINNED = pods.container(LISTED, whole=2)
CREATING = events.ContainerCreating(pod=LISTED, container=PINNED)


def resize(made: node.Node, whole: int) -> asyncio.Future[Adjustment]:
    """The runtime asks as kubelet lets it."""
    limits = events.CpuLimits(shares=1024 * whole, quota=100_000 * whole, period=100_000)
    answer = made.agent.update(events.ContainerUpdating(pod=DB, container=INTEGER, limits=limits))
    assert isinstance(answer, asyncio.Future)
    return answer


async def given_up(made: node.Node) -> asyncio.Future[Adjustment]:
    """A creation that moves the integer container, and is refused while the kernel holds its writes up."""
    made.kernel.hold()
    answer = asyncio.ensure_future(made.create(LISTED, PINNED))
    await asyncio.sleep(0.02)
    with pytest.raises(errors.Refused, match="could not be made ready in time"):
        made.agent.guard(CREATING)
    return answer


async def test_a_container_that_is_in_the_way_has_moved_before_the_creation_is_answered(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        assert await made.create(LISTED, PINNED) == Adjustment(cpus="2-3", mems="0")
        assert (made.cpus(INTEGER), made.cpus(SHARED)) == ("4-5", "0-1,6-7")
    [told] = made.records("placement.moved")
    fields = ("namespace", "pod", "container", "cpus_before", "cpus")
    assert [told[key] for key in fields] == ["default", "db", "main", "2-3", "4-5"]
    assert [record["pod"] for record in made.records("placement.admitted")] == ["web", "db", "listed"]


async def test_no_pass_over_a_part_comes_between_a_decision_and_its_writes(tmp_path: pathlib.Path) -> None:
    """It would put others onto CPUs that a container has not left yet, which it does not look at."""
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        await made.quiet()
        before = len(made.records("pass.done"))
        made.passes.signalled((SHARED.id,), 0.0)
        answer = made.agent.create(CREATING)
        assert isinstance(answer, asyncio.Future)
        await answer
        first = made.records("pass.done")[before]
        assert (first["looked_at"], first["found_by"]) == (3, "hook")


async def test_while_writes_go_on_the_node_is_not_converged(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        made.kernel.hold()
        answer = asyncio.ensure_future(made.create(LISTED, PINNED))
        await asyncio.sleep(0.02)
        assert not answer.done()
        assert not made.status()["converged"]
        made.kernel.release()
        assert (await answer).cpus == "2-3"


async def test_a_move_that_fails_is_undone_whole_and_the_creation_refused(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        other = pods.guaranteed("other")
        second = pods.container(other, whole=2)
        await made.run(other, second)
        wide = pods.guaranteed("wide", cores="3-4")
        before = made.agent.state
        made.kernel.refuses[str(second.cgroup)] = errno.EBUSY
        with pytest.raises(errors.Refused) as refused:
            await made.create(wide, pods.container(wide, whole=2))
        assert str(refused.value).startswith("CPUs 3-4 could not be freed: exclusive CPUs ")
        assert str(refused.value).endswith("everything was put back, and it will be tried again")
        await made.quiet()
        assert made.agent.state.ledger == before.ledger
        assert dict(made.agent.state.inventory.containers) == dict(before.inventory.containers)
        assert [made.cpus(its) for its in (SHARED, INTEGER, second)] == ["0-1,6-7", "2-3", "4-5"]
    [told] = made.records("placement.refused")
    assert (told["pod"], told["reason"]) == ("wide", str(refused.value))
    assert made.records("placement.moved") == []


async def test_a_creation_that_the_runtime_has_given_up_is_undone(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        before = made.agent.state
        answer = await given_up(made)
        made.kernel.release()
        with pytest.raises(errors.Refused, match="it took too long; everything was put back"):
            await answer
        assert made.agent.state.ledger == before.ledger
        assert made.cpus(INTEGER) == "2-3"


async def test_while_a_creation_is_undone_its_pod_is_refused_another(tmp_path: pathlib.Path) -> None:
    """Who asks again at once would be given a claim that is about to be taken back."""
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        answer = await given_up(made)
        again = pods.container(LISTED, whole=2, attempt=2)
        with pytest.raises(errors.Refused, match="could not be made ready in time; it will be tried again"):
            await made.create(LISTED, again)
        made.kernel.release()
        with pytest.raises(errors.Refused, match="it took too long; everything was put back"):
            await answer
        assert (made.cpus(INTEGER), made.cpus(SHARED)) == ("2-3", "0-1,4-7")
        assert made.records("placement.moved") == []
        await made.run(LISTED, again)
        assert [made.cpus(its) for its in (INTEGER, again, SHARED)] == ["4-5", "2-3", "0-1,6-7"]
    [moved] = made.records("placement.moved")
    assert moved["reason"] == "2-3 -> 4-5, to make room for default/listed"


async def test_while_a_resize_is_undone_another_of_the_same_pod_is_refused(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        made.kernel.hold()
        answer = resize(made, 4)
        await asyncio.sleep(0.02)
        limits = events.CpuLimits(shares=4096, quota=400_000, period=100_000)
        event = events.ContainerUpdating(pod=DB, container=INTEGER, limits=limits)
        with pytest.raises(errors.Refused, match="could not be made ready in time"):
            made.agent.guard(event)
        with pytest.raises(errors.Refused, match="could not be made ready in time"):
            made.agent.update(event)
        made.kernel.release()
        with pytest.raises(errors.Refused, match="it took too long; everything was put back"):
            await answer
        assert made.cpus(INTEGER) == "2-3"
        assert await resize(made, 4) == Adjustment(cpus="0-3")


async def test_who_appears_meanwhile_keeps_what_it_runs_on(tmp_path: pathlib.Path) -> None:
    """The runtime goes on without the agent where it waits no longer: another attempt is there, unasked."""
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        answer = await given_up(made)
        again = pods.container(LISTED, whole=2, attempt=2)
        made.make(again)
        starting = asyncio.ensure_future(made.start(LISTED, again))
        await asyncio.sleep(0.02)
        made.kernel.release()
        with pytest.raises(errors.Refused, match="it took too long; whoever could go back was put back"):
            await answer
        await starting
        await made.quiet()
        assert [made.cpus(its) for its in (INTEGER, again, SHARED)] == ["4-5", "2-3", "0-1,6-7"]
        assert made.status()["pools"]["exclusive"] == "2-5"
    assert [told["cpus"] for told in made.records("placement.moved")] == ["4-5"]


@pytest.mark.parametrize("listed", [False, True], ids=["it appears", "it is in a list"])
async def test_who_moves_for_a_pod_that_nobody_asked_about_is_told(
    tmp_path: pathlib.Path, *, listed: bool
) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        made.make(PINNED)
        if listed:
            await made.synchronize((DB, INTEGER), (LISTED, PINNED))
        else:
            await made.agent.appeared(events.ContainerStarting(pod=LISTED, container=PINNED))
            await made.quiet()
        assert (made.cpus(INTEGER), made.cpus(PINNED)) == ("4-5", "2-3")
    [moved] = made.records("placement.moved")
    fields = ("pod", "cpus_before", "cpus", "reason")
    assert [moved[key] for key in fields] == [
        "db",
        "2-3",
        "4-5",
        "2-3 -> 4-5, to make room for default/listed",
    ]


async def test_who_was_moved_before_the_agent_was_killed_is_not_told_again(tmp_path: pathlib.Path) -> None:
    """The move is newer than the checkpoint: the claim follows, and nothing happens on the node."""
    async with node.running(tmp_path / "first") as made:
        await made.run(DB, INTEGER)
        now = made.agent.state
    saved = checkpoint.Saved(origin=checkpoint.Origin(), ledger=now.ledger, inventory=now.inventory)
    async with node.running(tmp_path / "second", ready=False, saved=saved) as made:
        made.make(INTEGER, "4-5")
        made.make(PINNED, "2-3", "0")
        await made.synchronize((DB, INTEGER), (LISTED, PINNED))
        assert (made.cpus(INTEGER), made.cpus(PINNED)) == ("4-5", "2-3")
        assert {entry["pod"]: entry["claim"] for entry in made.status()["containers"]} == {
            "db": "4-5",
            "listed": "2-3",
        }
    assert made.records("placement.moved") == []


async def test_a_container_that_grows_has_its_cpus_before_the_resize_is_answered(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        assert await resize(made, 4) == Adjustment(cpus="0-3")
        assert (made.cpus(INTEGER), made.cpus(SHARED)) == ("0-3", "4-7")
        assert await resize(made, 2) == Adjustment(cpus="2-3")
        await made.quiet()
        assert (made.cpus(INTEGER), made.cpus(SHARED)) == ("2-3", "0-1,4-7")
        assert made.status()["drift"] == {"found": 0, "repaired": 0, "unrepaired": 0}
    told = [(record["cpus_before"], record["cpus"]) for record in made.records("placement.resized")]
    assert told == [("2-3", "0-3"), ("0-3", "2-3")]


async def test_a_resize_for_which_nobody_makes_room_is_undone_and_refused(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        before = made.agent.state
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EBUSY
        with pytest.raises(errors.Refused, match="exclusive CPUs 0-3 are still used by default/web"):
            await resize(made, 4)
        made.kernel.refuses.clear()
        await made.quiet()
        assert made.agent.state == before
        assert (made.cpus(INTEGER), made.cpus(SHARED)) == ("2-3", "0-1,4-7")
    [told] = made.records("placement.resize-refused")
    assert (told["pod"], told["container"]) == ("db", "main")


async def test_a_resize_that_cannot_be_is_refused_at_once(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        before = made.agent.state
        with pytest.raises(errors.Refused, match="9 exclusive CPUs wanted, 8 of 8 are free"):
            await resize(made, 9)
        assert made.agent.state is before


async def test_a_resize_to_a_fraction_gives_the_cpus_back(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        limits = events.CpuLimits(shares=1536, quota=150_000, period=100_000)
        event = events.ContainerUpdating(pod=DB, container=INTEGER, limits=limits)
        answer = made.agent.update(event)
        assert isinstance(answer, asyncio.Future)
        assert await answer == Adjustment(cpus="0-7")
        await made.quiet()
        assert made.cpus(INTEGER) == "0-7"
        assert made.status()["containers"][0]["class"] == "shared"
