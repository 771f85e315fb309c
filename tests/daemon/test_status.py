"""The status document: its keys, and the state of each container."""

from __future__ import annotations

import dataclasses
import errno
import pathlib

from reconciler import events
from reconciler.config import schema
from tests.daemon import node, pods

WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


def state_of(made: node.Node, pod: str) -> tuple[str, str]:
    """The state of the pod's only container and its reason."""
    [entry] = [entry for entry in made.status()["containers"] if entry["pod"] == pod]
    return entry["state"], entry["reason"]


async def test_the_document_has_the_keys_that_others_rely_on(tmp_path: pathlib.Path) -> None:
    config = schema.convert({"reservedCpus": "0"})
    async with node.running(tmp_path, config) as made:
        await made.run(DB, INTEGER)
        document = made.status()
    assert document == {
        "mode": "nri",
        "reason": "",
        "converged": True,
        "pools": {"shared": "0-1,4-7", "exclusive": "2-3", "reserved": "0", "offline": ""},
        "overlaps": 0,
        "containers": [
            {
                "id": "db-main-1",
                "namespace": "default",
                "pod": "db",
                "container": "main",
                "class": "integer",
                "claim": "2-3",
                "desired": {"cpus": "2-3", "mems": None, "quotas": {}},
                "observed": {"cpus": "2-3", "mems": "", "effective": "2-3", "quotas": {}},
                "state": "in-sync",
                "reason": "Guaranteed pod with a whole CPU limit of 2: 2-3 is exclusive",
                "conflict": None,
                "unenforceable": None,
                "isolation": {"wanted": "cpuset", "has": "cpuset", "reason": ""},
            }
        ],
        "host_slices": [],
        "isolation": {"configured": "cpuset", "unavailable": ""},
        "drift": {"found": 0, "repaired": 0, "unrepaired": 0},
    }


async def test_containers_are_in_the_order_of_their_ids(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        for name in ("c", "a", "b"):
            await made.run(WEB, pods.container(WEB, name))
        ids = [entry["id"] for entry in made.status()["containers"]]
    assert ids == ["web-a-1", "web-b-1", "web-c-1"]


async def test_a_container_without_a_look_yet_is_pending(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.create(WEB, SHARED)
        [entry] = made.status()["containers"]
        assert (entry["state"], entry["observed"], entry["claim"]) == ("pending", None, None)
        assert not made.status()["converged"]
        made.make(SHARED)
        await made.start(WEB, SHARED)
        assert state_of(made, "web")[0] == "in-sync"
        assert made.status()["converged"]


async def test_a_change_of_ours_that_failed_is_pending_with_its_error(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EBUSY
        await made.create(DB, INTEGER)
        await made.quiet()
        state, reason = state_of(made, "web")
        assert (state, "errno 16" in reason) == ("pending", True)
        assert not made.status()["converged"]


async def test_a_drift_that_cannot_be_repaired_is_drifted_and_counted(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EROFS
        made.put(SHARED, "0-2")
        await made.passes.passed()
        state, reason = state_of(made, "web")
        assert (state, "read-only" in reason) == ("drifted", True)
        document = made.status()
        assert document["drift"] == {"found": 1, "repaired": 0, "unrepaired": 1}
        assert document["containers"][0]["observed"]["cpus"] == "0-2"
        assert not document["converged"]


async def test_cpus_in_more_than_one_list_are_counted(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, schema.convert({"annotatedOverlap": "allow"})) as made:
        for name, cores in (("one", "2-4"), ("two", "3-5"), ("three", "5"), ("four", "5")):
            its = pods.guaranteed(name, cores=cores)
            await made.run(its, pods.container(its))
        assert made.status()["overlaps"] == 3


async def test_a_container_on_too_narrow_an_ancestor_is_drifted(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.host.make("kubepods.slice", "0-3")
        await made.passes.passed()
        state, reason = state_of(made, "web")
        because = "cpuset.cpus of its ancestor kubepods.slice is 0-3"
        assert (state, reason) == ("drifted", f"cpuset.cpus is 0-7 and the kernel grants 0-3: {because}")
        [entry] = made.status()["containers"]
        assert entry["observed"]["effective"] == "0-3"
        assert entry["unenforceable"] == {
            "file": "cpuset.cpus.effective",
            "lacks": "4-7",
            "ancestor": "kubepods.slice",
            "because": because,
        }
        [told] = made.records("drift.unrepairable")
        assert told["unenforceable"] == entry["unenforceable"]
        made.host.write("kubepods.slice", "cpuset.cpus", "")
        await made.passes.passed()
        [entry] = made.status()["containers"]
        assert (entry["state"], entry["unenforceable"]) == ("in-sync", None)


async def test_who_cannot_have_its_cpus_is_unsatisfied_and_at_rest(tmp_path: pathlib.Path) -> None:
    greedy = pods.guaranteed("greedy")
    container = pods.container(greedy, whole=16)
    async with node.running(tmp_path, ready=False) as made:
        made.make(container)
        await made.synchronize((greedy, container))
        state, reason = state_of(made, "greedy")
        assert state == "unsatisfied"
        assert reason.startswith("on the shared pool: 16 exclusive CPUs wanted, 8 of 8 are free")
        assert made.status()["converged"]


async def test_a_container_that_vanished_is_gone_and_at_rest(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.host.remove(str(SHARED.cgroup))
        await made.passes.passed()
        assert state_of(made, "web")[0] == "gone"
        assert made.status()["converged"]


async def test_a_container_in_no_cgroup_of_the_host_is_gone_and_at_rest(tmp_path: pathlib.Path) -> None:
    elsewhere = dataclasses.replace(SHARED, cgroup=None)
    async with node.running(tmp_path) as made:
        await made.create(WEB, elsewhere)
        await made.start(WEB, elsewhere)
        state, reason = state_of(made, "web")
        assert (state, "no cgroup of this host" in reason) == ("gone", True)
        assert made.status()["converged"]


async def test_a_container_that_has_stopped_is_left_out(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.over(SHARED)
        made.agent.stopped(events.ContainerStopped(pod=WEB, container=SHARED))
        assert made.status()["containers"] == []


async def test_a_node_is_not_converged_before_it_was_taken_over(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ready=False) as made:
        made.make(SHARED)
        assert not made.status()["converged"]
        made.kernel.hold()
        made.agent.synchronized(node.listed((WEB, SHARED)), node.PEER)
        assert not made.status()["converged"]
        made.kernel.release()
        await made.quiet()
        assert made.status()["converged"]
