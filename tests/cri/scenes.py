"""A node with an agent that is told over CRI, a stand-in runtime, and who polls it."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import AsyncIterator

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
async def polled(name: str = "containerd-2.1", period: float = 1.0) -> AsyncIterator[Scene]:
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
                    agree=node.opposition.agreeing.serve,
                )
                node.watching.on_limits = made.polls.limited
                task = made.polls.start()
                try:
                    await nodes.until(lambda: node.agent.mode == "cri" and not node.agent.busy)
                    yield made
                finally:
                    made.polls.stop()
                    await asyncio.wait([task])
