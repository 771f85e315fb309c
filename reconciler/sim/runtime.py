"""A stand-in for containerd or CRI-O: pods on one side, NRI plugins on a real socket. On asyncio.

It makes no processes; cgroups are made by whoever implements `CgroupMaker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from typing import Protocol

from reconciler import events
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import (
    runtime_plugins,
    runtime_pods,
    runtime_profile,
    runtime_records,
    runtime_registration,
    runtime_wire,
)

_FIRST_PID = 1000


class CgroupMaker(Protocol):
    """Makes cgroups, by paths relative to the cgroup2 mount. "" for a file means that it is not written."""

    def create(self, path: str, cpus: str, mems: str, quota: str = "") -> None:
        """Make a cgroup with its ancestors, or write the cpuset and `cpu.max` of one that is there."""

    def remove(self, path: str) -> None:
        """Remove a cgroup that is empty of processes."""


class NoCgroups:
    """Makes none."""

    def create(self, path: str, cpus: str, mems: str, quota: str = "") -> None:
        """As `CgroupMaker.create`."""

    def remove(self, path: str) -> None:
        """As `CgroupMaker.remove`."""


class StandInRuntime:
    """Runs pods, and asks the plugins that connect to `socket_path`. Use as an asynchronous context.

    Requests raise RequestFailedError with the text that kubelet would put into the pod's events, and KeyError
    for ids that are not known.
    """

    def __init__(
        self,
        socket_path: str,
        profile: runtime_profile.Profile,
        cgroups: CgroupMaker | None = None,
    ) -> None:
        self.socket_path = socket_path
        self.profile = profile
        self.plugins = runtime_plugins.Plugins(profile)
        self._cgroups: CgroupMaker = cgroups or NoCgroups()
        self.pods: dict[str, runtime_records.Sandbox] = {}
        """Sandboxes by id."""
        self.containers: dict[str, runtime_records.Record] = {}
        """Containers by id."""
        self._numbers = itertools.count(1)
        self._registrar = runtime_registration.Registrar(profile, self.plugins, self._world)
        self._server: asyncio.Server | None = None
        self._accepting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> StandInRuntime:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; what is left at the socket's path is replaced."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket_path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.socket_path)
        self._server = await asyncio.get_running_loop().create_unix_server(self.wire, sock=listener)
        self._accepting = asyncio.create_task(self._registrar.accept(), name="stand-in runtime: accept")

    async def stop(self) -> None:
        """Close all connections and the socket; pods go on running, as they do without a runtime."""
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
        if self._server is not None:
            self._server.close()
        self.plugins.disconnect("the runtime stops")
        self._registrar.disconnect("the runtime stops")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket_path)

    async def restart(self) -> None:
        """What `systemctl restart` does: plugins lose their connection, pods do not notice."""
        await self.stop()
        await self.start()

    async def run_pod(self, spec: runtime_pods.PodSpec) -> str:
        """Run a sandbox; gives its id."""
        id_ = runtime_pods.make_id("sandbox", next(self._numbers))
        message = runtime_pods.pod_message(spec, id_, self.profile.naming)
        pod = runtime_records.Sandbox(message, spec)
        async with self.plugins.request():
            self.pods[id_] = pod
            self._make(runtime_pods.directory(message), nri_pb2.LinuxCPU())
            try:
                await self.plugins.notify(nri_pb2.RUN_POD_SANDBOX, message)
            except runtime_plugins.RequestFailedError:
                self._remove(runtime_pods.directory(message))
                del self.pods[id_]
                raise
        return id_

    async def create_container(self, pod_id: str, spec: runtime_pods.ContainerSpec) -> str:
        """Create a container; gives its id. For one that is refused the plugins hear of its end too."""
        pod = self.pods[pod_id]
        id_ = runtime_pods.make_id("container", next(self._numbers))
        record = runtime_records.Record(
            runtime_pods.container_message(spec, pod.message, id_, self.profile.naming), pod
        )
        async with self.plugins.request():
            try:
                await self.plugins.create(pod.message, record.message)
            except runtime_plugins.RequestFailedError as error:
                await self.plugins.stop(pod.message, record.message)
                await self._ignore(nri_pb2.REMOVE_CONTAINER, record)
                raise runtime_plugins.RequestFailedError(self._wrapped(str(error))) from error
            self.containers[id_] = record
            record.phase = events.Phase.CREATED
            if self._is_crio:
                self._make_for(record)
            await self._ignore(nri_pb2.POST_CREATE_CONTAINER, record)
        return id_

    async def start_container(self, id_: str) -> None:
        """Start a container: its cgroup is there, then the plugins are asked, then its workload runs."""
        record = self.containers[id_]
        async with self.plugins.request():
            record.message.pid = _FIRST_PID + next(self._numbers)
            self._make_for(record)
            try:
                await self.plugins.notify(nri_pb2.START_CONTAINER, record.pod.message, record.message)
            except runtime_plugins.RequestFailedError as error:
                if not self._is_crio:
                    await self._stopped(record)
                    text = f"failed to start container: NRI container start failed: {error}"
                    raise runtime_plugins.RequestFailedError(text) from error
            record.phase = events.Phase.RUNNING
            record.message.state = nri_pb2.CONTAINER_RUNNING
            await self._ignore(nri_pb2.POST_START_CONTAINER, record)

    async def update_container(self, id_: str, asked: nri_pb2.LinuxCPU) -> None:
        """Resize a container. containerd then writes the cpuset of its record back, whatever the cgroup says;
        the others write only what they were given."""
        record = self.containers[id_]
        async with self.plugins.request():
            try:
                merged = await self.plugins.update(record.pod.message, record.message, asked)
            except runtime_plugins.RequestFailedError as error:
                raise runtime_plugins.RequestFailedError(f"NRI container update failed: {error}") from error
            stored = record.message.linux.resources.cpu
            stored.MergeFrom(merged.cpu)
            written = merged.cpu if self._is_crio else stored
            if record.phase is events.Phase.RUNNING:
                self._make(record.cgroup, written)
            await self._ignore(nri_pb2.POST_UPDATE_CONTAINER, record)

    async def stop_container(self, id_: str, *, grace: float = 0) -> None:
        """Stop a container, whose process takes `grace` seconds to end. All of that counts as one request."""
        record = self.containers[id_]
        async with self.plugins.request():
            if grace:
                await asyncio.sleep(grace)
            await self._stopped(record)

    async def exit_container(self, id_: str) -> None:
        """A container ends by itself; the runtime notices."""
        await self._stopped(self.containers[id_])

    async def remove_container(self, id_: str) -> None:
        """Forget a container; one that runs is stopped first."""
        record = self.containers[id_]
        async with self.plugins.request():
            await self._stopped(record)
            await self._ignore(nri_pb2.REMOVE_CONTAINER, record)
            del self.containers[id_]

    async def stop_pod(self, id_: str) -> None:
        """Stop a sandbox and all its containers."""
        pod = self.pods[id_]
        async with self.plugins.request():
            for record in self._of(pod):
                await self._stopped(record)
            if not pod.stopped:
                pod.stopped = True
                self._remove(runtime_pods.directory(pod.message))
                await self._ignore_pod(nri_pb2.STOP_POD_SANDBOX, pod)

    async def remove_pod(self, id_: str) -> None:
        """Forget a sandbox and all its containers; what runs is stopped first."""
        pod = self.pods[id_]
        await self.stop_pod(id_)
        for record in self._of(pod):
            await self.remove_container(record.message.id)
        async with self.plugins.request():
            del self.pods[id_]
            await self._ignore_pod(nri_pb2.REMOVE_POD_SANDBOX, pod)

    @property
    def _is_crio(self) -> bool:
        return self.profile.runtime == "cri-o"

    def wire(self) -> runtime_wire.Wire:
        """The runtime's end of one more connection, which waits for its turn to be registered."""
        return runtime_wire.Wire(self._registrar.accepted, self.profile.max_sent)

    def _world(self) -> tuple[list[nri_pb2.PodSandbox], list[nri_pb2.Container]]:
        gone = {events.Phase.CREATING, events.Phase.STOPPED}
        return (
            [pod.message for pod in self.pods.values()],
            [record.message for record in self.containers.values() if record.phase not in gone],
        )

    def _of(self, pod: runtime_records.Sandbox) -> list[runtime_records.Record]:
        return [record for record in self.containers.values() if record.pod is pod]

    async def _stopped(self, record: runtime_records.Record) -> None:
        """The process is gone, then the cgroup, then the plugins are told; once."""
        if record.phase is events.Phase.STOPPED:
            return
        record.phase = events.Phase.STOPPED
        record.message.state = nri_pb2.CONTAINER_STOPPED
        self._remove(record.cgroup)
        record.cgroup = None
        await self.plugins.stop(record.pod.message, record.message)

    async def _ignore(self, event: nri_pb2.Event, record: runtime_records.Record) -> None:
        with contextlib.suppress(runtime_plugins.RequestFailedError):
            await self.plugins.notify(event, record.pod.message, record.message)

    async def _ignore_pod(self, event: nri_pb2.Event, pod: runtime_records.Sandbox) -> None:
        with contextlib.suppress(runtime_plugins.RequestFailedError):
            await self.plugins.notify(event, pod.message)

    def _make_for(self, record: runtime_records.Record) -> None:
        if record.cgroup is None:
            record.cgroup = runtime_pods.directory(record.message)
            self._make(record.cgroup, record.message.linux.resources.cpu)

    def _make(self, path: str | None, cpu: nri_pb2.LinuxCPU) -> None:
        if path is not None:
            self._cgroups.create(path, cpu.cpus, cpu.mems, runtime_pods.quota(cpu))

    def _remove(self, path: str | None) -> None:
        if path is not None:
            self._cgroups.remove(path)

    def _wrapped(self, text: str) -> str:
        if self._is_crio:
            return text
        return f"failed to create containerd container: failed to get NRI adjustment for container: {text}"
