"""What each hook is answered, and what follows it."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from reconciler import errors, events
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.host import sysfs
from reconciler.runtime.nri.handler import Adjustment
from reconciler.sim import machine
from tests.daemon import node, pods

EVERYTHING = "0-7"
WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


async def test_a_shared_container_is_born_on_the_pool(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        assert await made.create(WEB, SHARED) == Adjustment(cpus=EVERYTHING)


async def test_an_exclusive_creation_is_answered_before_anyone_was_moved(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.hold()
        assert await made.create(DB, INTEGER) == Adjustment(cpus="2-3")
        await asyncio.sleep(0)
        assert made.cpus(SHARED) == EVERYTHING
        assert made.agent.busy
        made.kernel.release()
        await made.quiet()
        assert made.cpus(SHARED) == "0-1,4-7"
    [told] = made.records("placement.admitted")[1:]
    assert (told["pod"], told["class"], told["cpus"], told["mems"]) == ("db", "integer", "2-3", None)


async def test_an_annotated_container_is_given_its_memory_nodes(tmp_path: pathlib.Path) -> None:
    pinned = pods.guaranteed("pinned", cores="3-4")
    async with node.running(tmp_path) as made:
        answer = await made.create(pinned, pods.container(pinned, whole=2))
        assert answer == Adjustment(cpus="3-4", mems="0-1")


async def test_a_refusal_is_a_sentence_and_changes_nothing(tmp_path: pathlib.Path) -> None:
    greedy = pods.guaranteed("greedy")
    async with node.running(tmp_path) as made:
        before = made.agent.state
        with pytest.raises(errors.Refused, match="16 exclusive CPUs wanted, 8 of 8 are free") as refused:
            await made.create(greedy, pods.container(greedy, whole=16))
        assert made.agent.state is before
        await made.quiet()
    [told] = made.records("placement.refused")
    assert (told["pod"], told["container"], told["reason"]) == ("greedy", "main", str(refused.value))


async def test_a_creation_waits_for_the_adoption_that_is_under_way(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ready=False) as made:
        made.make(INTEGER, "4-5")
        made.kernel.hold()
        made.agent.synchronized(node.listed((DB, INTEGER)), node.PEER)
        other = pods.guaranteed("other", cores="4-5")
        answer = made.agent.create(
            events.ContainerCreating(pod=other, container=pods.container(other, whole=2))
        )
        assert isinstance(answer, asyncio.Future)
        await asyncio.sleep(0.02)
        assert not answer.done()
        made.kernel.release()
        assert (await answer).cpus == "4-5"
        assert made.cpus(INTEGER) == "6-7"


async def test_a_start_waits_for_the_adoption_that_is_under_way(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ready=False) as made:
        made.make(INTEGER, "4-5")
        made.make(SHARED)
        made.kernel.hold()
        made.agent.synchronized(node.listed((DB, INTEGER)), node.PEER)
        answer = asyncio.ensure_future(made.start(WEB, SHARED))
        await asyncio.sleep(0.02)
        assert not answer.done()
        made.kernel.release()
        await answer
        assert (made.cpus(INTEGER), made.cpus(SHARED)) == ("4-5", "0-3,6-7")


async def test_an_update_during_the_adoption_moves_nobody(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ready=False) as made:
        made.make(INTEGER, "4-5")
        made.kernel.hold()
        made.agent.synchronized(node.listed((DB, INTEGER)), node.PEER)
        answer = made.agent.update(events.ContainerUpdating(pod=DB, container=INTEGER, limits=INTEGER.limits))
        made.kernel.release()
        assert (answer if isinstance(answer, Adjustment) else await answer) == Adjustment(cpus="4-5")
        await made.quiet()
        assert made.cpus(INTEGER) == "4-5"


async def test_a_second_list_takes_the_place_of_the_first_one(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ready=False) as made:
        for container in (INTEGER, SHARED):
            made.make(container, EVERYTHING)
        made.kernel.hold()
        made.agent.synchronized(node.listed((DB, INTEGER)), node.PEER)
        made.agent.synchronized(node.listed((WEB, SHARED)), node.PEER)
        made.kernel.release()
        await made.quiet()
        assert [entry["pod"] for entry in made.status()["containers"]] == ["web"]
        assert made.agent.state.ledger.claims.keys() == set()
    [told] = made.records("node.adopted")
    assert (told["containers"], told["exclusive"]) == (1, "")


async def test_what_a_new_list_lacks_is_forgotten_with_its_cpus(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        made.over(INTEGER)
        await made.synchronize((WEB, SHARED))
        assert made.cpus(SHARED) == EVERYTHING
        assert set(made.book.latest) == {SHARED.id}


async def test_an_adoption_that_breaks_off_is_told_and_made_again(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ready=False) as made:
        made.make(INTEGER, "4-5")
        made.kernel.fault = RuntimeError("a mistake")
        made.agent.synchronized(node.listed((DB, INTEGER)), node.PEER)
        await node.until(lambda: bool(made.records("agent.failed")))
        made.kernel.fault = None
        await made.quiet()
        assert made.cpus(INTEGER) == "4-5"
    told = made.records("agent.failed")[0]
    assert (told["what"], told["error"]) == ("adoption", "RuntimeError: a mistake")


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(events.ContainerStarting(pod=DB, container=INTEGER), id="start"),
        pytest.param(events.ContainerUpdating(pod=DB, container=INTEGER, limits=INTEGER.limits), id="update"),
    ],
)
async def test_a_container_that_was_never_heard_of_is_adopted(
    tmp_path: pathlib.Path, event: events.ContainerStarting | events.ContainerUpdating
) -> None:
    async with node.running(tmp_path) as made:
        made.make(INTEGER, EVERYTHING)
        match event:
            case events.ContainerStarting():
                await made.agent.start(event)
            case events.ContainerUpdating():
                assert made.agent.update(event) == Adjustment(cpus="2-3")
        await made.quiet()
        assert made.cpus(INTEGER) == "2-3"


async def test_the_end_of_a_container_that_was_never_heard_of_changes_nothing(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        before = made.status()
        refused = pods.container(DB, "other", whole=2)
        made.agent.stopped(events.ContainerStopped(pod=DB, container=refused))
        made.agent.removed(events.ContainerRemoved(pod=DB, container=refused))
        made.agent.pod_stopped(events.PodStopped(sandbox=events.SandboxId("unknown")))
        await made.quiet()
        assert made.status() == before


async def test_every_end_may_be_told_twice(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        made.over(INTEGER)
        for _ in range(2):
            made.agent.stopped(events.ContainerStopped(pod=DB, container=INTEGER))
            made.agent.removed(events.ContainerRemoved(pod=DB, container=INTEGER))
            made.agent.pod_stopped(events.PodStopped(sandbox=DB.sandbox))
            made.agent.pod_removed(events.PodRemoved(sandbox=DB.sandbox))
        await made.quiet()
        assert made.cpus(SHARED) == EVERYTHING
        assert [entry["pod"] for entry in made.status()["containers"]] == ["web"]


async def test_the_pool_grows_when_a_pod_ends(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        made.over(INTEGER)
        made.agent.stopped(events.ContainerStopped(pod=DB, container=INTEGER))
        await made.quiet()
        assert made.cpus(SHARED) == "0-1,4-7", "the claim is the pod's until the pod ends"
        made.agent.pod_stopped(events.PodStopped(sandbox=DB.sandbox))
        await made.quiet()
        assert made.cpus(SHARED) == EVERYTHING


async def test_who_is_unsatisfied_gets_its_cpus_when_they_are_free(tmp_path: pathlib.Path) -> None:
    first, second = pods.guaranteed("first", cores="2-5"), pods.guaranteed("second", cores="4-7")
    ours, theirs = pods.container(first, whole=4), pods.container(second, whole=4)
    async with node.running(tmp_path, ready=False) as made:
        for container in (ours, theirs):
            made.make(container, EVERYTHING)
        await made.synchronize((first, ours), (second, theirs))
        states = {entry["pod"]: entry["state"] for entry in made.status()["containers"]}
        assert states == {"first": "in-sync", "second": "unsatisfied"}
        assert made.cpus(theirs) == "0-1,6-7"
        made.over(ours)
        made.agent.pod_stopped(events.PodStopped(sandbox=first.sandbox))
        await made.quiet()
        assert made.cpus(theirs) == "4-7"
    [told] = made.records("placement.unsatisfied")
    assert told["pod"] == "second"
    assert "CPU 4-5 by annotated-exclusive default/first" in told["reason"]


async def test_who_is_unsatisfied_gets_the_cpus_of_a_container_of_its_pod_that_exits(
    tmp_path: pathlib.Path,
) -> None:
    init, side = pods.container(DB, "init", whole=7), pods.container(DB, "side", whole=2)
    async with node.running(tmp_path, ready=False) as made:
        made.make(init, "1-7")
        made.make(side, EVERYTHING)
        await made.synchronize((DB, init), (DB, side))
        assert made.cpus(side) == "0"
        made.over(init)
        made.agent.stopped(events.ContainerStopped(pod=DB, container=init))
        await made.quiet()
        assert made.cpus(side) == "2-3"


async def test_a_pause_container_follows_the_pool(tmp_path: pathlib.Path) -> None:
    its_pod = pods.pod("paused", pause=True)
    assert its_pod.cgroup is not None
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        made.host.make(its_pod.cgroup)
        made.agent.pod_started(events.PodStarted(pod=its_pod))
        await made.quiet()
        text = pathlib.Path(made.host.root, its_pod.cgroup, "cpuset.cpus").read_text()
        assert text.strip() == "0-1,4-7"


async def test_an_update_is_answered_with_the_containers_own_cpus(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        lifted = events.CpuLimits(quota=-1)
        answer = made.agent.update(events.ContainerUpdating(pod=DB, container=INTEGER, limits=lifted))
        assert answer == Adjustment(cpus="2-3")


GUARDED: dict[str, events.Event] = {
    "shared creation": events.ContainerCreating(pod=WEB, container=SHARED),
    "exclusive creation": events.ContainerCreating(pod=DB, container=INTEGER),
    "shared start": events.ContainerStarting(pod=WEB, container=SHARED),
    "exclusive start": events.ContainerStarting(pod=DB, container=INTEGER),
    "update of an unknown container": events.ContainerUpdating(
        pod=WEB, container=pods.container(WEB, "unknown"), limits=events.CpuLimits()
    ),
    "end of a pod": events.PodStopped(sandbox=WEB.sandbox),
}


@pytest.mark.parametrize(
    ("on_guard", "what", "answer"),
    [
        ("refuse", "shared creation", Adjustment(cpus="0-3,6-7")),
        ("refuse", "exclusive creation", None),
        ("refuse", "shared start", Adjustment()),
        ("refuse", "exclusive start", None),
        ("admit", "exclusive creation", Adjustment(cpus="0-3,6-7")),
        ("admit", "exclusive start", Adjustment()),
    ],
)
async def test_the_guard_gives_the_pool_and_refuses_exclusive_containers(
    tmp_path: pathlib.Path, on_guard: str, what: str, answer: Adjustment | None
) -> None:
    holder = pods.guaranteed("holder", cores="4-5")
    async with node.running(tmp_path, schema.convert({"onGuard": on_guard})) as made:
        await made.run(holder, pods.container(holder, whole=2))
        if answer is None:
            with pytest.raises(errors.Refused, match="could not be made ready in time"):
                made.agent.guard(GUARDED[what])
        else:
            assert made.agent.guard(GUARDED[what]) == answer


async def test_the_guard_answers_an_update_with_the_containers_own_cpus(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        updating = events.ContainerUpdating(pod=DB, container=INTEGER, limits=events.CpuLimits(quota=-1))
        assert made.agent.guard(updating) == Adjustment(cpus="2-3")


@pytest.mark.parametrize("kind", [events.ContainerCreating, events.ContainerStarting])
async def test_the_guard_leaves_alone_who_is_left_alone(
    tmp_path: pathlib.Path, kind: type[events.ContainerCreating | events.ContainerStarting]
) -> None:
    async with node.running(tmp_path, schema.convert({"unmanagedNamespaces": ["default"]})) as made:
        assert made.agent.guard(kind(pod=DB, container=INTEGER)) == Adjustment()


@pytest.mark.parametrize("what", ["update of an unknown container", "end of a pod"])
async def test_the_guard_has_nothing_to_say_of_others(tmp_path: pathlib.Path, what: str) -> None:
    async with node.running(tmp_path) as made:
        assert made.agent.guard(GUARDED[what]) is None


@pytest.mark.parametrize("what", ["exclusive creation", "exclusive start"])
async def test_who_was_refused_by_the_guard_leaves_no_claim(tmp_path: pathlib.Path, what: str) -> None:
    async with node.running(tmp_path, ready=False) as made:
        made.make(SHARED, EVERYTHING)
        made.kernel.hold()
        made.agent.synchronized(node.listed((WEB, SHARED)), node.PEER)
        hook = made.create if what == "exclusive creation" else made.start
        answer = asyncio.ensure_future(hook(DB, INTEGER))
        with pytest.raises(errors.Refused):
            made.agent.guard(GUARDED[what])
        made.agent.stopped(events.ContainerStopped(pod=DB, container=INTEGER))
        made.agent.removed(events.ContainerRemoved(pod=DB, container=INTEGER))
        made.kernel.release()
        await answer
        await made.quiet()
        assert made.status()["pools"]["exclusive"] == ""
        assert [entry["pod"] for entry in made.status()["containers"]] == ["web"]


async def test_the_mode_is_told_when_it_changes(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ready=False) as made:
        assert (made.agent.mode, made.agent.reason) == ("none", "no runtime has connected yet")
        assert made.agent.busy, "nothing is known of the node before its list has come"
        for _ in range(2):
            made.agent.connected(node.PEER)
        made.agent.disconnected("the runtime closed the connection")
        assert made.agent.mode == "none"
    told = [(record["mode"], record["reason"]) for record in made.records("mode.changed")]
    assert told == [
        ("nri", "containerd v2.1.9, NRI 0.8.0"),
        ("none", "the runtime closed the connection"),
    ]


async def test_what_is_known_counts_for_nothing_from_a_new_connection_to_its_list(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.quiet()
        made.agent.disconnected("the runtime closed the connection")
        assert made.status()["converged"]
        made.agent.connected(node.PEER)
        assert not made.status()["converged"]
        await made.synchronize((WEB, SHARED))
        assert made.status()["converged"]


async def test_claims_hold_without_a_runtime(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        await made.run(WEB, SHARED)
        made.agent.disconnected("gone")
        made.put(INTEGER, EVERYTHING)
        await made.quiet()
        assert (made.cpus(INTEGER), made.cpus(SHARED)) == ("2-3", "0-1,4-7")


async def test_another_configuration_applies_to_what_runs(tmp_path: pathlib.Path) -> None:
    pinned = pods.guaranteed("pinned", cores="4-7")
    container = pods.container(pinned, whole=4)
    async with node.running(tmp_path, schema.convert({"minSharedCpus": 6}), ready=False) as made:
        made.make(container, EVERYTHING)
        await made.synchronize((pinned, container))
        assert made.status()["containers"][0]["state"] == "unsatisfied"
        made.agent.renew(made.topology, schema.Config())
        await made.quiet()
        assert (made.cpus(container), made.status()["containers"][0]["state"]) == ("4-7", "in-sync")


async def test_cpus_that_go_offline_leave_the_pool_and_return(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        machine.write(made.root, {topologies.ONLINE: "0-5\n"})
        made.agent.renew(sysfs.topology(made.root), schema.Config())
        await made.quiet()
        assert made.cpus(SHARED) == "0-5"
        assert made.status()["pools"]["offline"] == "6-7"
        machine.write(made.root, {topologies.ONLINE: "0-7\n"})
        made.agent.renew(sysfs.topology(made.root), schema.Config())
        await made.quiet()
        assert made.cpus(SHARED) == EVERYTHING


async def test_the_same_topology_and_configuration_again_cost_no_pass(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        before = made.agent.state
        made.kernel.looks.clear()
        made.agent.renew(made.topology, schema.Config(pass_interval_seconds=1.0))
        await asyncio.sleep(0.02)
        assert made.agent.state is before
        assert made.kernel.looks == []
