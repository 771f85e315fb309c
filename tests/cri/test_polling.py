"""What the agent is told over CRI, and how soon."""

from __future__ import annotations

import asyncio

from grpclib import const

from reconciler import events
from reconciler.sim import runtime_pods
from tests.cri.scenes import DB, NEVER, OTHER, SHARED, TWO, WEB, polled
from tests.daemon import node as nodes


async def test_a_container_that_is_created_has_its_cpus_before_it_starts() -> None:
    async with polled() as its:
        shared = await its.run(WEB, SHARED)
        created = await its.runtime.create_container(await its.runtime.run_pod(DB), TWO)
        await nodes.until(lambda: its.cpus(shared) == "0-1,4-7")
        assert its.claims() == {"db": "2-3"}
        assert its.cpus(created) == ""
        await its.runtime.start_container(created)
        await nodes.until(lambda: its.cpus(created) == "2-3")


async def test_a_known_container_is_placed_when_its_cgroup_is_made_though_no_list_comes() -> None:
    async with polled() as its:
        created = await its.runtime.create_container(await its.runtime.run_pod(DB), TWO)
        await nodes.until(lambda: its.claims() == {"db": "2-3"})
        its.side.hanging.add("ListContainers")
        seen = its.side.calls["ListContainers"]
        await nodes.until(lambda: its.side.calls["ListContainers"] > seen)
        await its.runtime.start_container(created)
        await nodes.until(lambda: its.cpus(created) == "2-3")
        assert its.side.calls["ListContainers"] == seen + 1
        its.side.released.set()


async def test_a_new_cgroup_brings_the_next_poll_at_once() -> None:
    async with polled(period=NEVER) as its:
        await its.run(WEB, SHARED)
        await nodes.until(lambda: len(its.node.records("placement.admitted")) == 1)
        second = await its.runtime.create_container(next(iter(its.runtime.pods)), OTHER)
        await its.runtime.start_container(second)
        await nodes.until(lambda: len(its.node.records("placement.admitted")) == 2)


async def test_a_written_quota_makes_a_resize_known_at_once() -> None:
    async with polled("containerd-1.6", period=NEVER) as its:
        container = await its.run(DB, TWO)
        await nodes.until(lambda: its.cpus(container) == "2-3")
        await its.node.quiet()
        bigger = runtime_pods.ContainerSpec(name="main", limit=3000, request=3000)
        await its.runtime.update_container(container, runtime_pods.cpu_message(bigger))
        await nodes.until(lambda: bool(its.node.records("placement.resized")))
        assert its.cpus(container) == its.claims()["db"]


async def test_after_the_end_nothing_is_told() -> None:
    async with polled() as its:
        await its.run(DB, TWO)
        await nodes.until(lambda: its.claims() == {"db": "2-3"})
        before = its.node.agent.state
        its.polls.stop()
        its.polls.limited([events.ContainerId("x")])
        await its.run(WEB, SHARED)
        await asyncio.sleep(0.1)
        assert its.node.agent.state is before


async def test_a_runtime_that_comes_back_finds_the_claims_as_they_were() -> None:
    async with polled() as its:
        await its.run(DB, TWO)
        await nodes.until(lambda: its.claims() == {"db": "2-3"})
        its.side.faults["ListPodSandbox"] = const.Status.UNAVAILABLE
        await nodes.until(lambda: its.node.agent.mode == "none")
        assert its.node.agent.reason == "ListPodSandbox: ListPodSandbox fails"
        assert its.claims() == {"db": "2-3"}
        its.side.faults.clear()
        await nodes.until(lambda: its.node.agent.mode == "cri")
        assert its.claims() == {"db": "2-3"}
        modes = [record["mode"] for record in its.node.records("mode.changed")]
        assert modes == ["cri", "none", "cri"]
