"""An agent over a directory that stands for a machine of 8 CPUs, without a socket.

Its hooks are called as the connection to the runtime calls them. The machine is `sim.machine.vm`: the cores
are 0-1, 2-3, 4-5 and 6-7, of which each two are a NUMA node.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pathlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from reconciler import events, fights, report
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import agent, logs, opposition, passes, slicing, status, telling, walk, watching
from reconciler.host import inotify, survivors, sysfs
from reconciler.policy import checkpoint, state
from reconciler.runtime.nri import handler, levels
from reconciler.sim import kernel, machine
from tests.daemon import kernels

PATIENCE = kernels.PATIENCE
PEER = handler.Peer(
    runtime="containerd",
    version="v2.1.9",
    level=levels.Level(0, 8, 0),
    registration_timeout=5.0,
    request_timeout=2.0,
    events=levels.EVENTS,
)


class Node:
    """The parts of a running agent. `kernel` is the agent's own view, `host` that of everyone else."""

    def __init__(
        self,
        folder: pathlib.Path,
        config: schema.Config,
        *,
        dry: bool,
        watch: bool,
        saved: checkpoint.Saved | None = None,
    ) -> None:
        self.root = str(folder / "host")
        machine.write(self.root, machine.vm())
        self.topology = sysfs.topology(self.root)
        cgroups = os.path.join(self.root, "sys/fs/cgroup")
        os.makedirs(cgroups)
        self.kernel = kernels.Kernel(cgroups, self.topology)
        self.host = kernel.SimulatedCgroupfs(cgroups, self.topology)
        self.log = io.StringIO()
        self.followed: list[CpuSet] = []
        self.fights = config.fights
        self.tell = tell = telling.Teller(logs.configure("json", self.log))
        watcher = inotify.Watcher(cgroups) if watch else None
        self.watching = watching.Watching(watcher, complain=tell.complain)
        terms = state.terms(self.topology, config)
        self.agent = agent.Agent(terms, config, self.watching, tell, dry=dry)
        self.book = report.Book(fights=fights.Fights(rules=lambda: self.fights))
        self.opposition = opposition.Opposition(
            self.root, lambda: self.agent.state, self.book, tell, agreement=lambda: config.agreement
        )
        loop = asyncio.get_running_loop()
        self.walker = walk.Walker(
            self.kernel,
            self.book,
            tell,
            dry=dry,
            follow=self.followed.append,
            lifted=lambda quotas: loop.call_soon_threadsafe(self.watching.lifted, quotas),
            suspects=self.opposition.suspects,
            told=self.opposition.told,
            isolated=lambda paths: loop.call_soon_threadsafe(self.watching.isolated, paths),
            sliced=slicing.Slicing(
                self.kernel,
                self.book,
                "" if dry else str(folder / "host-slices"),
                told=self.opposition.told,
                watch=lambda groups: loop.call_soon_threadsafe(self._sliced, groups),
                complain=tell.complain,
            ),
        )
        self.passes = passes.Passes(
            self.walker, lambda: self.agent.state, failed=lambda error: tell.failed("pass", error)
        )
        self.passes.on_drift = self.opposition.drifted
        self.survivors = survivors.Survivors(cgroups)
        self.agent.attach(self.passes, self.survivors, saved)

    def _sliced(self, groups: Mapping[events.ContainerId, str]) -> None:
        self.watching.sliced(groups)
        self.opposition.units.wake()

    def records(self, *names: str) -> list[dict[str, Any]]:
        """What was logged so far, of these events or of all."""
        records = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [record for record in records if not names or record["event"] in names]

    async def synchronize(self, *running: tuple[events.Pod, events.Container]) -> None:
        """The runtime connects and tells what it has; returns when that is taken over."""
        self.agent.connected(PEER)
        self.agent.synchronized(listed(*running), PEER)
        await self.quiet()

    async def create(self, pod: events.Pod, container: events.Container) -> handler.Adjustment:
        """The runtime asks where the container shall be born, and gives it that cgroup, later."""
        answer = self.agent.create(events.ContainerCreating(pod=pod, container=container))
        return answer if isinstance(answer, handler.Adjustment) else await answer

    async def start(self, pod: events.Pod, container: events.Container) -> None:
        """The runtime asks whether a container may start whose cgroup is there."""
        await self.agent.start(events.ContainerStarting(pod=pod, container=container))

    async def run(self, pod: events.Pod, container: events.Container) -> None:
        """The whole birth of a container."""
        adjustment = await self.create(pod, container)
        self.make(container, adjustment.cpus, adjustment.mems)
        await self.start(pod, container)

    def make(self, container: events.Container, cpus: str = "", mems: str = "") -> None:
        """Make the container's cgroup, as its runtime does."""
        assert container.cgroup is not None
        self.host.make(container.cgroup, cpus, mems)

    def over(self, container: events.Container) -> None:
        """Its last process ends."""
        self.host.populate(str(container.cgroup))

    def put(self, container: events.Container, text: str, file: str = "cpuset.cpus") -> None:
        """Write to a file of the container's cgroup, as anyone on the host may."""
        assert container.cgroup is not None
        self.host.write(container.cgroup, file, text)

    def cpus(self, container: events.Container) -> str:
        """What the container's `cpuset.cpus` says."""
        return pathlib.Path(self.host.root, str(container.cgroup), "cpuset.cpus").read_text().strip()

    def status(self) -> dict[str, Any]:
        """The status document."""
        return status.document(
            self.agent.state, self.book, mode=self.agent.mode, reason="", busy=self.agent.busy
        )

    async def quiet(self) -> None:
        """Return when all that was asked for is done."""
        await until(lambda: not self.agent.busy)
        async with asyncio.timeout(PATIENCE):
            await self.passes.passed()


def listed(*running: tuple[events.Pod, events.Container]) -> events.Synchronized:
    """The runtime's list of these containers with their pods."""
    pods = {pod.sandbox: pod for pod, _ in running}
    return events.Synchronized(
        pods=tuple(pods.values()), containers=tuple(container for _, container in running)
    )


@contextlib.asynccontextmanager
async def running(
    folder: pathlib.Path,
    config: schema.Config = schema.Config(),  # noqa: B008  frozen
    *,
    dry: bool = False,
    watch: bool = False,
    ready: bool = True,
    saved: checkpoint.Saved | None = None,
) -> AsyncIterator[Node]:
    """A node whose agent makes passes; it has an empty node taken over, if `ready`."""
    made = Node(folder, config, dry=dry, watch=watch, saved=saved)
    loop = asyncio.get_running_loop()
    made.watching.listen(loop, made.agent)
    serving = asyncio.create_task(made.passes.serve())
    try:
        if ready:
            await made.synchronize()
        yield made
    finally:
        made.kernel.release()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        made.watching.close(loop)
        made.kernel.close()
        made.host.close()


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fails after some seconds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  the condition is anyone's, there is nothing to set
            await asyncio.sleep(0.001)
