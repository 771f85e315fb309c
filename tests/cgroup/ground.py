"""A node that is known by its cgroup tree alone: an agent in this process, a runtime that tells nobody."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import AsyncIterator

from reconciler import events
from reconciler.config import schema
from reconciler.daemon import agent as agents
from reconciler.daemon import births, scanning
from reconciler.host import births as watches
from reconciler.host import pods
from reconciler.runtime import conversion
from reconciler.sim import runtime, runtime_pods, runtime_profile
from tests.daemon import node as nodes

DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
WEB = runtime_pods.PodSpec(name="web", uid="5b8a3f10-0000-4000-8000-000000000001")
TWO = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)
SHARED = runtime_pods.ContainerSpec(name="main", request=100)


class Scene:
    """A node, its runtime, and the walks of the moment."""

    def __init__(self, node: nodes.Node, its: runtime.StandInRuntime) -> None:
        self.node = node
        self.runtime = its
        self.walks: scanning.Scanning | None = None

    @property
    def agent(self) -> agents.Agent:
        """The agent."""
        return self.node.agent

    def cpus(self, container: str) -> str:
        """What the `cpuset.cpus` of a container says, "" where it has no cgroup."""
        path = self.runtime.containers[container].cgroup
        file = pathlib.Path(self.node.host.root, str(path), "cpuset.cpus")
        return file.read_text().strip() if path is not None and file.exists() else ""

    def claims(self) -> dict[str, str]:
        """Claims by pod and name, as the ledger has them."""
        return {
            f"{claim.pod}/{key.name}": str(claim.cpus)
            for key, claim in self.agent.state.ledger.claims.items()
        }

    async def run(self, pod: runtime_pods.PodSpec, *specs: runtime_pods.ContainerSpec) -> list[str]:
        """Run a pod; the ids of its containers."""
        sandbox = await self.runtime.run_pod(pod)
        return [await self.start(sandbox, spec) for spec in specs]

    async def start(self, sandbox: str, spec: runtime_pods.ContainerSpec) -> str:
        """Run one more container of a pod; its id."""
        id_ = await self.runtime.create_container(sandbox, spec)
        await self.runtime.start_container(id_)
        return id_

    async def resize(self, container: str, milli: int) -> None:
        """kubelet resizes a container to so many thousandths of a CPU."""
        spec = runtime_pods.ContainerSpec(name="main", limit=milli, request=milli)
        await self.runtime.update_container(container, runtime_pods.cpu_message(spec))

    def listed(self) -> events.Synchronized:
        """What a runtime that answers would tell of all that it has."""
        gone = {events.Phase.CREATING, events.Phase.STOPPED}
        live = [record.message for record in self.runtime.containers.values() if record.phase not in gone]
        messages = [pod.message for pod in self.runtime.pods.values() if not pod.stopped]
        return conversion.synchronized(messages, live, print)

    async def tell(self) -> None:
        """A runtime answers: its list is told, and taken over."""
        self.agent.connected(nodes.PEER)
        self.agent.synchronized(self.listed(), nodes.PEER)
        await self.node.quiet()

    @contextlib.asynccontextmanager
    async def scanned(self) -> AsyncIterator[scanning.Scanning]:
        """No runtime answers: the tree is walked through; what is there is taken over at the begin."""
        root = self.node.host.root
        watcher = births.Births(watches.Births(root), complain=self.node.tell.complain)
        walk = functools.partial(pods.walk, root)
        self.walks = walks = scanning.Scanning(walk, self.agent, self.agent.set_mode, watcher, self.node.tell)
        task = walks.start()
        try:
            await nodes.until(lambda: self.agent.mode == "cgroup")
            await self.node.quiet()
            yield walks
            await self.node.quiet()
        finally:
            walks.stop()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()


@contextlib.asynccontextmanager
async def scene(
    naming: runtime_pods.Naming = runtime_pods.Naming(),  # noqa: B008  frozen
    config: schema.Config = schema.Config(),  # noqa: B008  frozen
) -> AsyncIterator[Scene]:
    """A node on which nothing runs yet, and of which the agent has heard nothing."""
    with tempfile.TemporaryDirectory(prefix="cgroup-") as folder:
        async with nodes.running(pathlib.Path(folder), config, watch=True, ready=False) as node:
            node.host.make("kubepods" if naming.driver is runtime_pods.Driver.CGROUPFS else "kubepods.slice")
            profile = dataclasses.replace(
                runtime_profile.PROFILES["containerd-2.1.9"], runtime=naming.runtime, naming=naming
            )
            yield Scene(node, runtime.StandInRuntime("", profile, node.host))
