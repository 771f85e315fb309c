"""What the agent is told over CRI, and how soon."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import AsyncIterator

from grpclib import const

from reconciler import events
from reconciler.daemon import births, polling
from reconciler.host import births as watches
from reconciler.runtime import backoff
from reconciler.sim import runtime, runtime_cri, runtime_cri_messages, runtime_pods
from tests.daemon import node as nodes

WEB = runtime_pods.PodSpec(name="web", uid="5b8a3f10-0000-4000-8000-000000000001")
DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
SHARED = runtime_pods.ContainerSpec(name="main", request=100)
OTHER = runtime_pods.ContainerSpec(name="other", request=100)
NEVER = 3600.0
"""Seconds between polls that nothing calls for."""
TWO = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


class Scene:
    """A node with an agent, a runtime that is polled, and who polls it."""

    def __init__(self, node: nodes.Node, its: runtime.StandInRuntime, side: runtime_cri.CriSide) -> None:
        self.node = node
        self.runtime = its
        self.side = side
        self.polls: polling.Polling

    def cpus(self, container: str) -> str:
        """What the `cpuset.cpus` of a container says, "" where it has no cgroup."""
        path = self.runtime.containers[container].cgroup
        file = pathlib.Path(self.node.host.root, str(path), "cpuset.cpus")
        return file.read_text().strip() if path is not None and file.exists() else ""

    def claims(self) -> dict[str, str]:
        """Claims by pod, as the status has them."""
        return {entry["pod"]: entry["claim"] for entry in self.node.status()["containers"] if entry["claim"]}

    async def run(self, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec) -> str:
        """Run a pod with one container; the container's id."""
        id_ = await self.runtime.create_container(await self.runtime.run_pod(pod), spec)
        await self.runtime.start_container(id_)
        return id_


@contextlib.asynccontextmanager
async def scene(name: str = "containerd-2.1", period: float = 1.0) -> AsyncIterator[Scene]:
    """A node that is polled."""
    with tempfile.TemporaryDirectory(prefix="cri-") as folder:
        path = str(pathlib.Path(folder, "cri.sock"))
        async with nodes.running(pathlib.Path(folder), watch=True, ready=False) as node:
            its = runtime.StandInRuntime("", runtime_cri_messages.PROFILES[name], node.host)
            node.host.make("kubepods.slice")
            async with runtime_cri.serving(path, its) as side:
                made = Scene(node, its, side)
                watcher = births.Births(watches.Births(node.host.root), complain=node.tell.complain)
                soon = backoff.Backoff(0.02, 0.1)
                made.polls = polling.Polling(
                    polling.Runtime(socket=path, backoff=soon, period=period),
                    node.agent,
                    node.agent.set_mode,
                    watcher,
                    node.tell,
                )
                node.watching.on_limits = made.polls.limited
                task = made.polls.start()
                try:
                    await nodes.until(lambda: node.agent.mode == "cri" and not node.agent.busy)
                    yield made
                finally:
                    made.polls.stop()
                    await asyncio.wait([task])


async def test_a_container_that_is_created_has_its_cpus_before_it_starts() -> None:
    async with scene() as its:
        shared = await its.run(WEB, SHARED)
        created = await its.runtime.create_container(await its.runtime.run_pod(DB), TWO)
        await nodes.until(lambda: its.cpus(shared) == "0-1,4-7")
        assert its.claims() == {"db": "2-3"}
        assert its.cpus(created) == ""
        await its.runtime.start_container(created)
        await nodes.until(lambda: its.cpus(created) == "2-3")


async def test_a_known_container_is_placed_when_its_cgroup_is_made_though_no_list_comes() -> None:
    async with scene() as its:
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
    async with scene(period=NEVER) as its:
        await its.run(WEB, SHARED)
        await nodes.until(lambda: len(its.node.records("placement.admitted")) == 1)
        second = await its.runtime.create_container(next(iter(its.runtime.pods)), OTHER)
        await its.runtime.start_container(second)
        await nodes.until(lambda: len(its.node.records("placement.admitted")) == 2)


async def test_a_written_quota_makes_a_resize_known_at_once() -> None:
    async with scene("containerd-1.6", period=NEVER) as its:
        container = await its.run(DB, TWO)
        await nodes.until(lambda: its.cpus(container) == "2-3")
        await its.node.quiet()
        bigger = runtime_pods.ContainerSpec(name="main", limit=3000, request=3000)
        await its.runtime.update_container(container, runtime_pods.cpu_message(bigger))
        await nodes.until(lambda: bool(its.node.records("placement.resized")))
        assert its.cpus(container) == its.claims()["db"]


async def test_after_the_end_nothing_is_told() -> None:
    async with scene() as its:
        await its.run(DB, TWO)
        await nodes.until(lambda: its.claims() == {"db": "2-3"})
        before = its.node.agent.state
        its.polls.stop()
        its.polls.limited([events.ContainerId("x")])
        await its.run(WEB, SHARED)
        await asyncio.sleep(0.1)
        assert its.node.agent.state is before


async def test_a_runtime_that_comes_back_finds_the_claims_as_they_were() -> None:
    async with scene() as its:
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
