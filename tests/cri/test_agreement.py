"""Over CRI the runtime is made to agree: what is on record is what was decided, and costs no drift."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from grpclib import const

from reconciler import events
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import runtime_pods
from tests.cri.scenes import DB, SHARED, TWO, WEB, Scene, polled
from tests.daemon import node as nodes

# covers: PRD-7.15

GENERATIONS = ["containerd-1.6", "containerd-1.7", "containerd-2.1"]
STALE = dataclasses.replace(TWO, cpus="0-3")
"""As kubelet's static CPU manager, or a time with NRI, leaves it on record."""


def quota(microseconds: int) -> nri_pb2.LinuxCPU:
    """An update of the quota alone."""
    made = nri_pb2.LinuxCPU()
    made.quota.value = microseconds
    return made


def record(its: Scene, id_: str) -> str:
    """The cpuset that the runtime has on record."""
    return its.runtime.containers[id_].message.linux.resources.cpu.cpus


async def placed(its: Scene, spec: runtime_pods.ContainerSpec) -> str:
    """A container that has its own CPUs, whatever is on record."""
    id_ = await its.run(DB, spec)
    await nodes.until(lambda: its.cpus(id_) == "2-3")
    await its.node.quiet()
    return id_


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_stale_record_that_was_written_back_is_corrected_and_then_costs_no_drift(
    generation: str,
) -> None:
    async with polled(generation) as its:
        id_ = await placed(its, STALE)
        before = its.node.book.counters.found
        await its.runtime.update_container(id_, quota(150_000))
        await nodes.until(lambda: bool(its.node.records("agreement.made")))
        assert (record(its, id_), its.cpus(id_)) == ("2-3", "2-3")
        assert its.node.book.counters.found == before + 1
        await its.runtime.update_container(id_, quota(160_000))
        await its.node.quiet()
        assert (its.cpus(id_), its.node.book.counters.found) == ("2-3", before + 1)
        [told] = its.node.records("agreement.made")
        assert (told["pod"], told["record_before"], told["cpus"]) == ("db", "0-3", "2-3")


async def test_an_agreement_is_no_resize_and_changes_nothing_else() -> None:
    async with polled() as its:
        id_ = await placed(its, STALE)
        limits = its.runtime.containers[id_].message.linux.resources.cpu
        before = limits.shares.value, limits.quota.value, limits.period.value
        its.runtime.containers[id_].message.linux.resources.cpu.mems = "0"
        its.node.host.write(str(its.runtime.containers[id_].cgroup), "cpuset.cpus", "0-3")
        await nodes.until(lambda: bool(its.node.records("agreement.made")))
        for _ in range(3):
            its.polls.limited([events.ContainerId(id_)])
            seen = its.side.calls["ContainerStatus"]
            await nodes.until(lambda: its.side.calls["ContainerStatus"] > seen)  # noqa: B023
        await its.node.quiet()
        assert its.node.records("placement.resized", "placement.resize-refused") == []
        assert (limits.shares.value, limits.quota.value, limits.period.value) == before
        assert limits.mems == "0"
        assert its.claims() == {"db": "2-3"}


async def test_what_is_not_on_record_is_not_written_back_and_one_drift_tells_the_runtime_nothing() -> None:
    async with polled() as its:
        id_ = await placed(its, TWO)
        its.node.host.write(str(its.runtime.containers[id_].cgroup), "cpuset.cpus", "0-7")
        await nodes.until(lambda: its.cpus(id_) == "2-3")
        asked = its.side.calls["ContainerStatus"]
        await nodes.until(lambda: its.side.calls["ContainerStatus"] > asked + 1)
        assert its.side.calls["UpdateContainerResources"] == 0


async def test_after_repeated_drift_the_runtime_is_told_though_nothing_is_on_record() -> None:
    async with polled() as its:
        id_ = await placed(its, TWO)
        for text in ("0-7", "5"):
            its.node.host.write(str(its.runtime.containers[id_].cgroup), "cpuset.cpus", text)
            await nodes.until(lambda: its.cpus(id_) == "2-3")
            await its.node.quiet()
        await nodes.until(lambda: record(its, id_) == "2-3")
        assert its.side.calls["UpdateContainerResources"] == 1


async def test_a_record_that_agrees_is_left_alone() -> None:
    async with polled() as its:
        id_ = await placed(its, dataclasses.replace(TWO, cpus="2,3"))
        for text in ("0-7", "5", "6"):
            its.node.host.write(str(its.runtime.containers[id_].cgroup), "cpuset.cpus", text)
            await nodes.until(lambda: its.cpus(id_) == "2-3")
            await its.node.quiet()
        await asyncio.sleep(0.1)
        assert its.side.calls["UpdateContainerResources"] == 0


async def test_what_the_runtime_writes_late_is_put_right_and_counts_as_no_drift() -> None:
    async with polled() as its:
        stale = dataclasses.replace(SHARED, cpus="0-3")
        shared = await its.run(WEB, stale)
        await nodes.until(lambda: its.cpus(shared) == "0-7")
        await its.node.quiet()
        its.side.hanging.add("UpdateContainerResources")
        await its.runtime.update_container(shared, quota(50_000))
        await nodes.until(lambda: its.side.calls["UpdateContainerResources"] == 1)
        before = its.node.book.counters.found
        await its.run(DB, TWO)
        await nodes.until(lambda: its.cpus(shared) == "0-1,4-7")
        await its.node.quiet()
        # It was told 0-7, which was right then, and writes that only now.
        its.side.released.set()
        await nodes.until(lambda: bool(its.node.records("agreement.made")))
        await nodes.until(lambda: its.cpus(shared) == "0-1,4-7")
        await its.node.quiet()
        assert its.node.book.counters.found == before


async def test_a_runtime_that_fails_is_told_again_and_the_log_says_it_once() -> None:
    async with polled() as its:
        id_ = await placed(its, STALE)
        its.side.faults["UpdateContainerResources"] = const.Status.UNKNOWN
        await its.runtime.update_container(id_, quota(150_000))
        await nodes.until(lambda: its.side.calls["UpdateContainerResources"] >= 2)
        [told] = its.node.records("agreement.failed")
        assert (told["pod"], told["reason"]) == (
            "db",
            "UpdateContainerResources: UpdateContainerResources fails",
        )
        assert its.cpus(id_) == "2-3"
        its.side.faults.clear()
        await nodes.until(lambda: its.node.opposition.agreeing.made == 1)
        assert record(its, id_) == "2-3"


async def test_a_container_that_has_ended_meanwhile_is_let_go() -> None:
    async with polled() as its:
        id_ = await placed(its, STALE)
        its.side.faults["ContainerStatus"] = const.Status.NOT_FOUND
        await its.runtime.update_container(id_, quota(150_000))
        await nodes.until(lambda: its.cpus(id_) == "2-3")
        await its.node.quiet()
        await asyncio.sleep(0.05)
        assert its.node.records("agreement.made", "agreement.failed", "agent.failed") == []


async def test_after_the_end_of_the_polls_nobody_is_told() -> None:
    async with polled() as its:
        id_ = await placed(its, STALE)
        its.polls.stop()
        await asyncio.sleep(0.01)
        await its.runtime.update_container(id_, quota(150_000))
        await nodes.until(lambda: its.cpus(id_) == "2-3")
        await its.node.quiet()
        await asyncio.sleep(0.05)
        assert its.side.calls["UpdateContainerResources"] == 0
