"""Quotas that are lifted: by whole passes, at the gate, by inotify, in status and plan."""

# covers: PRD-2.13

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import pathlib

import pytest

from reconciler import events, report
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import status, watching
from reconciler.host import inotify
from reconciler.policy import resizing
from tests.daemon import node, pods
from tests.host import watched

KEEP = schema.Config()
LIFT = schema.Config(cfs_quota="lift")
FREE = "max 100000"
WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
MAIN = pods.container(DB, whole=2)
HALF = events.CpuLimits(shares=512, quota=50_000, period=100_000)
SIDECAR = events.Container(
    id=events.ContainerId("db-sidecar-1"),
    sandbox=DB.sandbox,
    name="sidecar",
    cgroup=f"{os.path.dirname(str(MAIN.cgroup))}/db-sidecar-1.scope",
    limits=HALF,
    phase=events.Phase.CREATING,
)
OWN = "cpu.max"
PODS = "../cpu.max"


async def run(made: node.Node, pod: events.Pod, *containers: events.Container) -> None:
    """The whole birth of containers, with the quotas that kubelet and the runtime write."""
    for its in containers:
        adjustment = await made.create(pod, its)
        made.make(its, adjustment.cpus, adjustment.mems)
        made.put(its, limit(its), OWN)
    total = sum(its.limits.quota or 0 for its in containers)
    made.put(containers[0], f"{total} 100000", PODS)
    for its in containers:
        await made.start(pod, its)
    await made.quiet()


def limit(its: events.Container) -> str:
    """What the runtime writes."""
    return f"{its.limits.quota} {its.limits.period}"


def says(made: node.Node, its: events.Container, file: str = OWN) -> str:
    """What a file says."""
    return pathlib.Path(made.host.root, str(its.cgroup), file).read_text().strip()


def both(made: node.Node, its: events.Container = MAIN) -> tuple[str, str]:
    """The quota of the container and that of its pod."""
    return says(made, its), says(made, its, PODS)


def quota_writes(made: node.Node) -> list[tuple[str, str]]:
    """What the agent wrote to quotas."""
    return [(file, text) for _, file, text in made.kernel.attempts if file.endswith(OWN)]


async def everything(made: node.Node) -> None:
    """A pass over all that runs."""
    made.passes.everything()
    await made.quiet()


async def test_an_exclusive_container_has_no_quota_when_it_starts(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT) as made:
        await run(made, DB, MAIN)
        assert both(made) == (FREE, FREE)
        assert made.cpus(MAIN) == "2-3"
        assert quota_writes(made) == [(OWN, FREE), (PODS, FREE)]
        await everything(made)
        assert len(quota_writes(made)) == 2
    assert made.records("drift.found", "placement.failed") == []


async def test_quotas_are_not_even_read_where_they_are_kept(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, KEEP) as made:
        await run(made, DB, MAIN)
        await everything(made)
        assert both(made) == ("200000 100000", "200000 100000")
        assert made.kernel.quotas == []


async def test_only_exclusive_containers_and_their_pods_are_read(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT) as made:
        await made.run(WEB, SHARED)
        await run(made, DB, MAIN, SIDECAR)
        await everything(made)
        assert set(made.kernel.quotas) == {(MAIN.cgroup, OWN), (MAIN.cgroup, PODS)}


async def test_a_pod_with_another_container_keeps_its_quota(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT) as made:
        await run(made, DB, MAIN, SIDECAR)
        assert both(made) == (FREE, "250000 100000")
        assert says(made, SIDECAR) == "50000 100000"


async def test_the_pods_quota_comes_back_before_another_container_starts(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT) as made:
        await run(made, DB, MAIN)
        await made.create(DB, SIDECAR)
        made.make(SIDECAR)
        await made.start(DB, SIDECAR)
        assert both(made) == (FREE, "250000 100000")
        made.over(SIDECAR)
        made.agent.stopped(events.ContainerStopped(pod=DB, container=SIDECAR))
        await everything(made)
        assert both(made) == (FREE, FREE)


async def test_the_pods_quota_grows_with_each_container_that_comes(tmp_path: pathlib.Path) -> None:
    second = dataclasses.replace(
        SIDECAR, id=events.ContainerId("db-z-1"), name="z", cgroup=str(SIDECAR.cgroup).replace("sidecar", "z")
    )
    async with node.running(tmp_path, LIFT) as made:
        await run(made, DB, MAIN)
        seen = []
        for its in (SIDECAR, second):
            await made.run(DB, its)
            seen.append(both(made))
        assert seen == [(FREE, "250000 100000"), (FREE, "300000 100000")]


async def test_a_reload_lifts_and_gives_back(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, KEEP) as made:
        await run(made, DB, MAIN)
        made.agent.renew(made.topology, LIFT)
        await made.quiet()
        assert both(made) == (FREE, FREE)
        made.agent.renew(made.topology, KEEP)
        await made.quiet()
        assert both(made) == ("200000 100000", "200000 100000")
        assert made.status()["converged"]
        reads = len(made.kernel.quotas)
        await everything(made)
        assert len(made.kernel.quotas) == reads
    assert made.records("drift.found") == []


async def test_a_resize_to_a_fraction_gives_back_what_the_runtime_does_not_write(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path, LIFT, watch=True) as made:
        await run(made, DB, MAIN)
        event = events.ContainerUpdating(pod=DB, container=MAIN, limits=HALF)
        made.agent.current.put(resizing.resize(made.agent.state, event))
        await everything(made)
        assert (made.cpus(MAIN), both(made)) == ("0-7", ("50000 100000", "50000 100000"))
        [entry] = made.status()["containers"]
        assert (entry["class"], entry["state"], entry["desired"]["quotas"]) == ("shared", "in-sync", {})
        await asyncio.sleep(0.02)
        made.put(MAIN, "max 100000", OWN)
        await everything(made)
        assert says(made, MAIN) == FREE
    assert made.records("drift.found") == []


async def test_a_resize_to_more_cpus_leaves_the_quota_lifted(tmp_path: pathlib.Path) -> None:
    larger = events.CpuLimits(shares=3072, quota=300_000, period=100_000)
    async with node.running(tmp_path, LIFT, watch=True) as made:
        await run(made, DB, MAIN)
        event = events.ContainerUpdating(pod=DB, container=MAIN, limits=larger)
        made.agent.current.put(resizing.resize(made.agent.state, event))
        for file in (PODS, OWN):
            made.put(MAIN, "300000 100000", file)
        await everything(made)
        assert len(CpuSet.parse(made.cpus(MAIN), what="cpuset.cpus")) == 3
        assert both(made) == (FREE, FREE)
        assert made.status()["drift"] == {"found": 0, "repaired": 0, "unrepaired": 0}


async def test_giving_back_that_fails_is_tried_again(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT) as made:
        await run(made, DB, MAIN)
        made.kernel.refuses[str(MAIN.cgroup)] = errno.EROFS
        made.agent.renew(made.topology, KEEP)
        await made.quiet()
        assert both(made) == (FREE, FREE)
        [entry] = made.status()["containers"]
        assert (entry["state"], "cpu.max: the cgroup2 mount is read-only" in entry["reason"]) == (
            "pending",
            True,
        )
        made.kernel.refuses.clear()
        await node.until(lambda: both(made) == ("200000 100000", "200000 100000"))
        await made.quiet()
        assert made.status()["containers"][0]["state"] == "in-sync"


async def test_a_quota_that_somebody_else_sets_is_drift(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT, watch=True) as made:
        await run(made, DB, MAIN)
        await asyncio.sleep(0.02)
        made.put(MAIN, "1000 100000", OWN)
        await node.until(lambda: bool(made.records("drift.repaired")))
        assert both(made) == (FREE, FREE)
        assert made.status()["drift"] == {"found": 1, "repaired": 1, "unrepaired": 0}
    [found] = made.records("drift.found")
    assert (found["file"], found["desired"], found["observed"]) == (OWN, FREE, "1000 100000")
    assert found["found_by"] == "inotify"


@pytest.mark.parametrize("file", [OWN, PODS], ids=["the runtime's", "kubelet's"])
async def test_what_the_owner_writes_is_lifted_at_once_and_is_no_drift(
    tmp_path: pathlib.Path, file: str
) -> None:
    async with node.running(tmp_path, LIFT, watch=True) as made:
        await run(made, DB, MAIN)
        await asyncio.sleep(0.02)
        for _ in range(3):
            made.put(MAIN, limit(MAIN), file)
            await node.until(lambda: both(made) == (FREE, FREE))
        await made.quiet()
        assert made.status()["drift"] == {"found": 0, "repaired": 0, "unrepaired": 0}
    assert made.records("drift.found") == []


async def test_quotas_are_watched_only_where_they_are_lifted(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, KEEP, watch=True) as made:
        await run(made, DB, MAIN)
        await made.run(WEB, SHARED)
        await made.quiet()

        async def looked_at(its: events.Container, file: str) -> bool:
            await asyncio.sleep(0.02)
            await made.quiet()
            before = len(made.kernel.looks)
            made.put(its, "70000 100000", file)
            await asyncio.sleep(0.05)
            return len(made.kernel.looks) > before

        files = [(MAIN, OWN), (MAIN, PODS), (SHARED, OWN), (SHARED, PODS)]
        assert [await looked_at(*its) for its in files] == [False, False, False, False]
        made.agent.renew(made.topology, LIFT)
        await made.quiet()
        assert [await looked_at(*its) for its in files] == [True, True, False, False]
        made.agent.renew(made.topology, KEEP)
        await made.quiet()
        assert [await looked_at(*its) for its in files] == [False, False, False, False]


async def test_the_kernel_keeps_no_watch_of_a_pod_that_is_not_lifted_any_more(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pod/main").mkdir(parents=True)
    watcher = inotify.Watcher(str(tmp_path))
    watched_by = watching.Watching(watcher, complain=lambda _: None)
    with contextlib.closing(watcher):
        watched_by.watch(MAIN.id, "pod/main")
        counts = [watched.watches(watcher)]
        for quotas in ({"pod": MAIN.id, "pod/main": MAIN.id}, {}):
            watched_by.lifted(quotas)
            counts.append(watched.watches(watcher))
    assert counts == [1, 2, 1]


async def test_a_quota_that_cannot_be_lifted_holds_nobody_up(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT) as made:
        adjustment = await made.create(DB, MAIN)
        made.make(MAIN, adjustment.cpus)
        os.unlink(pathlib.Path(made.host.root, str(MAIN.cgroup), OWN))
        await made.start(DB, MAIN)
        [entry] = made.status()["containers"]
        assert entry["state"] == "pending"
        assert "cpu.max: no such file; the cpu controller is not enabled" in entry["reason"]
    [failed] = made.records("placement.failed")
    assert failed["container"] == "main"
    assert made.records("placement.held-up") == []


async def test_a_restarted_agent_finds_a_lifted_container_in_order(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT, ready=False) as made:
        made.make(MAIN, "2-3")
        for file in (OWN, PODS):
            made.put(MAIN, FREE, file)
        await made.synchronize((DB, MAIN))
        [entry] = made.status()["containers"]
        assert (entry["class"], entry["claim"], entry["state"]) == ("integer", "2-3", "in-sync")
        assert made.kernel.attempts == []


async def test_status_says_what_quotas_should_be_and_are(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT) as made:
        await made.run(WEB, SHARED)
        await run(made, DB, MAIN, SIDECAR)
        told = {entry["id"]: entry for entry in made.status()["containers"]}
    assert told[MAIN.id]["desired"]["quotas"] == {OWN: "max", PODS: "250000 100000"}
    assert told[MAIN.id]["observed"]["quotas"] == {OWN: FREE, PODS: "250000 100000"}
    for id_ in (SHARED.id, SIDECAR.id):
        assert told[id_]["desired"]["quotas"] == told[id_]["observed"]["quotas"] == {}


async def test_a_plan_shows_what_would_be_lifted(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, LIFT, dry=True) as made:
        await made.create(DB, MAIN)
        made.make(MAIN, "2-3")
        made.put(MAIN, "200000 50000", OWN)
        await made.start(DB, MAIN)
        looks, steps = await made.passes.preview()
        writes = status.plan_document(made.agent.state, looks, steps)["writes"]
        assert isinstance(writes, list)
        assert [(its["file"], its["observed"], its["text"], its["phase"]) for its in writes] == [
            (OWN, "200000 50000", "max 50000", "settle"),
        ]
        assert both(made) == ("200000 50000", FREE)
        assert made.book == report.Book(latest=made.book.latest)
    assert [record["file"] for record in made.records("plan.write")] == [OWN]
