"""What the agent makes of the cgroup tree alone, and how the next list takes it over."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib

import pytest

from reconciler import errors, events, intent
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.sim import runtime_pods
from tests.cgroup import ground
from tests.cgroup.ground import DB, SHARED, TWO, WEB
from tests.daemon import node as nodes

# covers: PRD-8.13

LISTED = dataclasses.replace(
    DB, name="listed", uid="5b8a3f10-0000-4000-8000-000000000003", annotations={intent.CORES: "6-7"}
)
PINNED = dataclasses.replace(
    WEB, name="pinned", uid="5b8a3f10-0000-4000-8000-000000000004", annotations={intent.CORES: "5"}
)
LEFT_ALONE = dataclasses.replace(WEB, name="own", uid="5b8a3f10-0000-4000-8000-000000000005", namespace="own")
DB2 = dataclasses.replace(DB, name="db2", uid="5b8a3f10-0000-4000-8000-000000000006")
NAMINGS = [
    pytest.param(
        runtime_pods.Naming(driver=driver, runtime=name, prefix=prefix), id=f"{name} {driver.value}{prefix}"
    )
    for driver, name, prefix in [
        *itertools.product(runtime_pods.Driver, ("containerd", "cri-o"), ("",)),
        (runtime_pods.Driver.SYSTEMD, "containerd", "kubelet"),
    ]
]


@pytest.mark.parametrize("naming", NAMINGS)
async def test_with_no_other_door_containers_have_their_cpus_by_their_cgroups(
    naming: runtime_pods.Naming,
) -> None:
    async with ground.scene(naming) as its:
        [before] = await its.run(WEB, SHARED)
        async with its.scanned():
            [exclusive] = await its.run(DB, TWO)
            await nodes.until(lambda: its.cpus(exclusive) == "2-3" and its.cpus(before) == "0-1,4-7")
            assert its.claims() == {f"/{DB.uid}/{exclusive}": "2-3"}
            await its.node.quiet()
            told = {entry["container"]: entry for entry in its.node.status()["containers"]}
            assert (told[exclusive]["pod"], told[exclusive]["namespace"]) == (DB.uid, "")
            assert (told[exclusive]["class"], told[before]["class"]) == ("integer", "shared")


async def test_the_next_list_gives_a_claim_its_name_and_nobody_moves() -> None:
    async with ground.scene() as its:
        async with its.scanned():
            [shared] = await its.run(WEB, SHARED)
            first, second = await its.run(DB, TWO, dataclasses.replace(TWO, name="side"))
            await nodes.until(lambda: len(its.claims()) == 2 and its.cpus(shared) == "0-1,6-7")
        seen = {first: its.cpus(first), second: its.cpus(second)}
        await its.tell()
        assert its.claims() == {"default/db/main": seen[first], "default/db/side": seen[second]}
        assert {first: its.cpus(first), second: its.cpus(second)} == seen
        assert its.cpus(shared) == "0-1,6-7"
        status = its.node.status()
        assert {entry["pod"] for entry in status["containers"]} == {"db", "web"}
        assert its.node.records("drift.found", "placement.moved", "placement.unsatisfied") == []


async def test_from_door_to_door_everyone_keeps_what_he_has() -> None:
    config = schema.Config(unmanaged_namespaces=("own",))
    async with ground.scene(config=config) as its:
        await its.tell()
        shared, exclusive, down, listed, pinned, own = [
            (await its.run(*pod))[0]
            for pod in (
                (WEB, SHARED),
                (DB, TWO),
                (DB2, TWO),
                (LISTED, TWO),
                (PINNED, SHARED),
                (LEFT_ALONE, SHARED),
            )
        ]
        await its.tell()
        before = its.claims()
        assert before == {
            "default/listed/": "6-7",
            "default/pinned/": "5",
            "default/db/main": "2-3",
            "default/db2/main": before["default/db2/main"],
        }
        sets = {id_: its.cpus(id_) for id_ in (shared, exclusive, listed, pinned, own)}
        await its.runtime.exit_container(down)
        for _ in range(2):
            async with its.scanned():
                assert its.claims() == before
            await its.tell()
            assert its.claims() == before
        assert {id_: its.cpus(id_) for id_ in sets} == sets
        assert its.cpus(own) == ""
        assert its.node.records("drift.found", "placement.moved", "placement.unsatisfied") == []


async def test_a_container_that_comes_again_has_its_claim_and_its_name() -> None:
    async with ground.scene() as its:
        await its.tell()
        [first] = await its.run(DB, TWO)
        await its.tell()
        sandbox = its.runtime.containers[first].pod.message.id
        async with its.scanned():
            await its.runtime.exit_container(first)
            await nodes.until(lambda: _phase(its, first) is events.Phase.STOPPED)
            assert its.claims() == {"default/db/main": "2-3"}
            second = await its.start(sandbox, TWO)
            await nodes.until(lambda: its.cpus(second) == "2-3")
            await nodes.until(lambda: _phase(its, first) is None)
            assert its.claims() == {"default/db/main": "2-3"}
        await its.tell()
        assert its.claims() == {"default/db/main": "2-3"}


def _phase(its: ground.Scene, id_: str) -> events.Phase | None:
    known = its.agent.state.inventory.containers.get(events.ContainerId(id_))
    return None if known is None else known.phase


async def test_a_pod_ends_with_its_cgroup_and_not_before() -> None:
    async with ground.scene() as its, its.scanned():
        [container] = await its.run(DB, TWO)
        await nodes.until(lambda: len(its.claims()) == 1)
        record = its.runtime.containers[container]
        await its.runtime.exit_container(container)
        await nodes.until(lambda: _phase(its, container) is events.Phase.STOPPED)
        await its.node.quiet()
        assert len(its.claims()) == 1, "kubelet starts it again"
        its.node.host.remove(record.pod.message.linux.cgroup_parent.join(("kubepods.slice/", "")))
        await nodes.until(lambda: its.claims() == {})


async def test_a_cgroup_without_a_process_is_no_container_that_runs() -> None:
    async with ground.scene() as its, its.scanned():
        [container] = await its.run(DB, TWO)
        await nodes.until(lambda: its.cpus(container) == "2-3")
        path = its.runtime.containers[container].cgroup
        pathlib.Path(its.node.host.root, str(path), "cgroup.events").write_text("populated 0\nfrozen 0\n")
        await nodes.until(lambda: _phase(its, container) is events.Phase.STOPPED)
        assert len(its.claims()) == 1
        pathlib.Path(its.node.host.root, str(path), "cgroup.events").write_text("populated 1\nfrozen 0\n")
        await nodes.until(lambda: _phase(its, container) is events.Phase.RUNNING)


async def test_annotations_that_nobody_knew_hold_from_the_next_list_on() -> None:
    async with ground.scene() as its:
        async with its.scanned():
            [listed] = await its.run(LISTED, TWO)
            await nodes.until(lambda: its.cpus(listed) == "2-3")
        await its.tell()
        assert its.claims() == {"default/listed/": "6-7"}
        assert its.cpus(listed) == "6-7"


async def test_a_pod_that_is_known_keeps_its_annotations_for_containers_that_nobody_knows() -> None:
    async with ground.scene() as its:
        await its.tell()
        sandbox = await its.runtime.run_pod(LISTED)
        await its.tell()
        async with its.scanned():
            container = await its.start(sandbox, TWO)
            await nodes.until(lambda: its.cpus(container) == "6-7")
        await its.tell()
        assert its.claims() == {"default/listed/": "6-7"}
        claims = its.agent.state.ledger.claims.values()
        assert [sorted(claim.holders) for claim in claims] == [["main"]]


async def test_what_is_left_alone_stays_so_and_who_turns_out_to_be_is() -> None:
    config = schema.Config(unmanaged_namespaces=("own",))
    async with ground.scene(config=config) as its:
        await its.tell()
        [known] = await its.run(LEFT_ALONE, SHARED)
        await its.tell()
        async with its.scanned():
            [exclusive] = await its.run(DB, TWO)
            await nodes.until(lambda: its.cpus(exclusive) == "2-3")
            assert its.cpus(known) == ""
        other = dataclasses.replace(LEFT_ALONE, name="own2", uid="5b8a3f10-0000-4000-8000-000000000007")
        async with its.scanned():
            [unknown] = await its.run(other, SHARED)
            await nodes.until(lambda: its.cpus(unknown) == "0-1,4-7")
        await its.tell()
        kinds = {id_: what.kind for id_, what in its.agent.state.ledger.intents.items()}
        assert kinds[events.ContainerId(unknown)] is kinds[events.ContainerId(known)] is intent.Kind.UNMANAGED


async def test_a_walk_that_fails_ends_nothing_and_says_why() -> None:
    async with ground.scene() as its:
        await its.tell()
        [exclusive] = await its.run(DB, TWO)
        await its.tell()
        async with its.scanned() as walks:

            def fail(_: object) -> tuple[()]:
                raise errors.HostFileError("kubepods.slice", "read", 5, "Input/output error")

            walk, walks._walk = walks._walk, fail
            await nodes.until(lambda: its.agent.mode == "none")
            assert "Input/output error" in its.agent.reason
            assert its.claims() == {"default/db/main": its.cpus(exclusive)} == {"default/db/main": "2-3"}
            walks._walk = walk
            await nodes.until(lambda: its.agent.mode == "cgroup")
            assert its.claims() == {"default/db/main": "2-3"}


async def test_a_pool_of_a_tree_without_pods_is_whole() -> None:
    async with ground.scene() as its, its.scanned():
        assert its.claims() == {}
        assert its.node.status()["pools"]["shared"] == "0-7"
        assert its.node.status()["mode"] == "cgroup"


@pytest.mark.parametrize("scanned", [True, False], ids=["in the tree", "at no door"])
async def test_a_resize_of_which_nobody_told_is_followed_at_the_next_list(*, scanned: bool) -> None:
    async with ground.scene() as its:
        await its.tell()
        [container] = await its.run(DB, TWO)
        await its.tell()
        assert its.claims() == {"default/db/main": "2-3"}
        if scanned:
            async with its.scanned():
                await its.resize(container, 3000)
                await its.node.quiet()
                assert its.claims() == {"default/db/main": "2-3"}
        else:
            its.agent.disconnected("the runtime closed the connection")
            await its.resize(container, 3000)
        await its.tell()
        assert its.claims() == {"default/db/main": its.cpus(container)}
        assert {2, 3} < set(CpuSet.parse(its.cpus(container), what="test"))
        assert len(CpuSet.parse(its.cpus(container), what="test")) == 3
        await its.resize(container, 1500)
        await its.tell()
        assert its.claims() == {}
        assert its.cpus(container) == "0-7"


async def test_a_resize_that_cannot_be_had_costs_nothing_that_is_held() -> None:
    async with ground.scene() as its:
        await its.tell()
        [first], [_] = await its.run(DB, TWO), await its.run(DB2, TWO)
        await its.tell()
        before = its.claims()
        assert sorted(before.values()) == ["2-3", "4-5"]
        its.agent.disconnected("the runtime closed the connection")
        await its.resize(first, 7000)
        await its.tell()
        assert its.claims() == before
        assert its.cpus(first) == before["default/db/main"]
        assert set(its.agent.state.ledger.unsatisfied) == {first}


async def test_namespaces_that_are_to_be_left_alone_are_from_the_next_list_on() -> None:
    async with ground.scene() as its:
        [shared], [exclusive] = await its.run(LEFT_ALONE, SHARED), await its.run(DB, TWO)
        await its.tell()
        its.agent.renew(its.node.topology, schema.Config(unmanaged_namespaces=("own",)))
        kinds = its.agent.state.ledger.intents
        assert kinds[events.ContainerId(shared)].kind is intent.Kind.SHARED
        await its.tell()
        kinds = its.agent.state.ledger.intents
        assert kinds[events.ContainerId(shared)].kind is intent.Kind.UNMANAGED
        assert its.claims() == {"default/db/main": its.cpus(exclusive)}
