"""The simulated node: a machine's files, cgroups, a runtime on a real socket, and the agent. I/O, on asyncio.

Everything lives in one folder, so that its removal is the end of the node.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from reconciler import inventory
from reconciler.daemon import api
from reconciler.host import sysfs
from reconciler.sim import agent, cast, kernel, machine, runtime, runtime_pods, runtime_profile, wording

PROFILE = runtime_profile.PROFILES["containerd-2.1.9"]

_CONFIG = "fights: {drifts: 100}\n"
"""Who plays with the node changes the same containers again and again, and is to be shown each repair."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the parts of a node are."""

    folder: str

    @property
    def host_root(self) -> str:
        """What stands for `/` of the host."""
        return posixpath.join(self.folder, "host")

    @property
    def cgroup_root(self) -> str:
        """What stands for the cgroup2 mount."""
        return posixpath.join(self.host_root, "sys/fs/cgroup")

    @property
    def nri_socket(self) -> str:
        """The runtime's socket."""
        return posixpath.join(self.folder, "nri.sock")

    @property
    def api_socket(self) -> str:
        """The agent's socket."""
        return posixpath.join(self.folder, "api.sock")

    @property
    def config(self) -> str:
        """The agent's configuration."""
        return posixpath.join(self.folder, "config.yaml")

    @property
    def by_name(self) -> str:
        """Links to the cgroups, named after pod and container: their own names are made of ids."""
        return posixpath.join(self.folder, "containers")

    def agent_arguments(self) -> list[str]:
        """How the agent is told of this node."""
        return [
            *("run", "--simulated", "--source", "nri", "--log-format", "json"),
            *("--host-root", self.host_root),
            *("--nri-socket", self.nri_socket),
            *("--api-socket", self.api_socket),
            *("--state-dir", posixpath.join(self.folder, "state")),
            *("--config", self.config),
        ]


class SimulatedNode:
    """A node in `folder`, with no pods yet. Use as an asynchronous context.

    Containers go by names such as `web/nginx`, pause containers by `web/POD`, as in the agent's log.
    """

    def __init__(
        self, folder: str, on_record: Callable[[wording.Record], None], command: Sequence[str]
    ) -> None:
        """`command` starts the agent; its arguments are added here."""
        self.paths = Paths(folder)
        machine.write(self.paths.host_root, machine.two_sockets())
        os.makedirs(self.paths.cgroup_root)
        os.mkdir(self.paths.by_name)
        with open(self.paths.config, "w", encoding="utf-8") as file:
            file.write(_CONFIG)
        self.topology = sysfs.topology(self.paths.host_root)
        self._kernel = kernel.SimulatedCgroupfs(self.paths.cgroup_root, self.topology)
        self.runtime = runtime.StandInRuntime(self.paths.nri_socket, PROFILE, self._kernel)
        self.agent = agent.Agent([*command, *self.paths.agent_arguments()], on_record)
        self._ids: dict[str, str] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> SimulatedNode:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._kernel.close)
            await stack.enter_async_context(self.runtime)
            stack.push_async_callback(self.agent.stop)
            await self.agent.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def run_pod(self, member: cast.Member) -> None:
        """Run a pod's sandbox."""
        name = member.pod.name
        self._ids[name] = await self.runtime.run_pod(member.pod)
        self._link(f"{name}/{inventory.PAUSE}")

    async def run_container(self, pod: str, spec: runtime_pods.ContainerSpec) -> None:
        """Create and start a container. Raises RequestFailedError with what the pod's owner is told."""
        id_ = await self.runtime.create_container(self._ids[pod], spec)
        self._ids[f"{pod}/{spec.name}"] = id_
        await self.runtime.start_container(id_)
        self._link(f"{pod}/{spec.name}")

    async def remove_pod(self, pod: str) -> None:
        """Stop a pod and forget it."""
        names = [name for name in self.names() if name.startswith(f"{pod}/")]
        await self.runtime.remove_pod(self._ids.pop(pod))
        for name in names:
            self._ids.pop(name, None)
            os.unlink(self.link(name))

    def names(self) -> Iterator[str]:
        """Every container that has a cgroup now."""
        for pod in [name for name in self._ids if "/" not in name]:
            for name, id_ in self._ids.items():
                record = self.runtime.containers.get(id_)
                if name.startswith(f"{pod}/") and record is not None and record.cgroup is not None:
                    yield name
            yield f"{pod}/{inventory.PAUSE}"

    def id(self, name: str) -> str:
        """The runtime's id of a container."""
        return self._ids[name.removesuffix(f"/{inventory.PAUSE}")]

    def link(self, name: str) -> str:
        """The path by which people find a container's cgroup."""
        return posixpath.join(self.paths.by_name, name.replace("/", "-"))

    def file(self, name: str, file: str) -> str:
        """The path of a file of a container's cgroup."""
        id_ = self.id(name)
        message = (
            self.runtime.pods[id_].message
            if id_ in self.runtime.pods
            else self.runtime.containers[id_].message
        )
        return posixpath.join(self.paths.cgroup_root, runtime_pods.directory(message) or "", file)

    def read(self, name: str, file: str) -> str:
        """What a file of a container's cgroup says."""
        with open(self.file(name, file), encoding="ascii") as opened:
            return opened.read().strip()

    def meddle(self, name: str, file: str, text: str) -> None:
        """Write to a container's cgroup as some other program would, behind the agent's back.

        One write of one length, as the kernel takes it: a reader sees the old text or the new one.
        """
        path = self.file(name, file)
        padded = text.encode().ljust(max(os.path.getsize(path) - 1, 0)) + b"\n"
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, padded)
        finally:
            os.close(descriptor)

    async def status(self) -> dict[str, object]:
        """What the agent says of itself. Raises Retryable where it does not answer."""
        return await api.ask(self.paths.api_socket, {"request": "status"})

    def _link(self, name: str) -> None:
        os.symlink(os.path.dirname(self.file(name, "cpuset.cpus")), self.link(name))
