"""Drives the runtime as kubelet does: slices, sandboxes and containers over CRI, with kubelet's values."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeVar

from reconciler import errors
from reconciler.runtime import cgroup_path
from reconciler.runtime.cri import client
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.sim import runtime_pods
from tests.e2e import cgroups, kubelet, place

SOCKET = "/run/containerd/containerd.sock"
IMAGE = "localhost/pause:1"
SLEEP = ("/bin/sleep", "1000000")
_MEMORY = 32 << 20
_PATIENCE = 60.0
_TRIES = 5
_TOO_SLOW = "it will be tried again"
"""Part of both sentences that the agent has for this: the guard's, and that of a decision taken back."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A host folder in a container."""

    host: str
    inside: str
    readonly: bool = False


@dataclass(slots=True)
class Pod:
    """A pod that runs here. `containers` holds the ids of each name's attempts, oldest first."""

    spec: runtime_pods.PodSpec
    sandbox: str
    config: cri.PodSandboxConfig
    containers: dict[str, list[str]] = field(default_factory=dict)

    @property
    def parent(self) -> str:
        """Its slice."""
        return place.NAMING.parent(self.spec)


class Node:
    """The node's pods, by name. Leaving it deletes them."""

    def __init__(self, socket: str = SOCKET) -> None:
        self.cri = client.Client(socket)
        self.pods: dict[str, Pod] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.clear()
        self.cri.close()

    async def clear(self) -> None:
        """Delete every pod that this object ran, all at once."""
        pods, self.pods = list(self.pods.values()), {}
        await asyncio.gather(*map(self._end_sandbox, pods))
        if pods:
            kubelet.remove(*(pod.parent for pod in pods))

    async def run_pod(self, spec: runtime_pods.PodSpec, config: cri.PodSandboxConfig | None = None) -> Pod:
        """Make the pod's slice and run its sandbox, as `sandbox_config` has it or another. Raises Refused."""
        kubelet.make(place.NAMING.parent(spec))
        config = sandbox_config(spec) if config is None else config
        pod = Pod(spec=spec, sandbox=await self.cri.run_sandbox(config), config=config)
        self.pods[spec.name] = pod
        return pod

    async def create(
        self,
        pod: Pod,
        spec: runtime_pods.ContainerSpec,
        command: Sequence[str] = SLEEP,
        mounts: Sequence[Mount] = (),
    ) -> str:
        """Create the next attempt of a container without starting it; its id. Raises Refused."""
        attempts = len(pod.containers.get(spec.name, []))
        return await self.create_as(pod, container_config(pod.spec, spec, attempts, command, mounts))

    async def create_as(self, pod: Pod, config: cri.ContainerConfig) -> str:
        """Create a container as the request says; its id. Raises Refused."""
        id_ = await _insist(lambda: self.cri.create_container(pod.sandbox, config, pod.config))
        pod.containers.setdefault(config.metadata.name, []).append(id_)
        return id_

    async def run(
        self,
        pod: Pod,
        spec: runtime_pods.ContainerSpec,
        command: Sequence[str] = SLEEP,
        mounts: Sequence[Mount] = (),
    ) -> str:
        """Create a container and start it; its id. Raises Refused."""
        id_ = await self.create(pod, spec, command, mounts)
        await self.cri.start_container(id_)
        return id_

    async def end(self, pod: Pod, id_: str) -> None:
        """The container's processes end by themselves; returns once the runtime has noticed."""
        for pid in self.cgroup(pod, id_).pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self.until_exited(id_)

    async def until_exited(self, id_: str) -> None:
        """Return once the runtime has noticed the container's end."""
        until = time.monotonic() + _PATIENCE
        while (await self.cri.container_status(id_)).status.state != cri.CONTAINER_EXITED:
            assert time.monotonic() < until, f"the runtime did not see {id_} end"
            await asyncio.sleep(0.05)

    async def remove(self, pod: Pod, name: str) -> None:
        """The runtime forgets the oldest attempt of a container."""
        await self.cri.remove_container(pod.containers[name].pop(0))

    async def delete(self, name: str) -> None:
        """Stop and remove a pod and its slice, as kubelet does in the end."""
        pod = self.pods.pop(name)
        await self._end_sandbox(pod)
        kubelet.remove(pod.parent)

    async def _end_sandbox(self, pod: Pod) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                with contextlib.suppress(errors.Gone):
                    await self.cri.stop_sandbox(pod.sandbox)
                    await self.cri.remove_sandbox(pod.sandbox)
            # A container is just ending, or the runtime waited too long for it; kubelet tries again, too.
            except (errors.Refused, errors.Retryable):
                if attempt == _TRIES:
                    raise
            else:
                return

    async def until_answered(self) -> None:
        """Wait until the runtime answers, as after a restart."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                await self.cri.version()
            except errors.ReconcilerError:
                assert time.monotonic() < until, "the runtime does not answer"
                await asyncio.sleep(0.2)
            else:
                return

    async def update(self, id_: str, **resources: object) -> None:
        """Have the runtime change a container's resources; what is left out stays."""
        asked = cri.LinuxContainerResources(**resources)  # type: ignore[arg-type]
        await _insist(lambda: self.cri.update_resources(id_, asked))

    def cgroup(self, pod: Pod, id_: str) -> cgroups.Cgroup:
        """The cgroup of a container, or of the pause container by the sandbox's id."""
        return cgroups.Cgroup(kubelet.ROOT / cgroup_path.directory(place.NAMING.path(pod.parent, id_)))

    def cgroups(self) -> dict[str, cgroups.Cgroup]:
        """The cgroup of everything that was run here and not deleted, by id; some may be gone."""
        ids = {
            id_: pod
            for pod in self.pods.values()
            for id_ in (pod.sandbox, *(id_ for attempts in pod.containers.values() for id_ in attempts))
        }
        return {id_: self.cgroup(pod, id_) for id_, pod in ids.items()}

    async def alive(self) -> set[str]:
        """The ids that the runtime says are alive: ready sandboxes, created and running containers."""
        sandboxes = (await self.cri.list_sandboxes()).items
        containers = (await self.cri.list_containers()).containers
        living = {cri.CONTAINER_CREATED, cri.CONTAINER_RUNNING}
        return {its.id for its in sandboxes if its.state == cri.SANDBOX_READY} | {
            its.id for its in containers if its.state in living
        }


async def _insist(call: Callable[[], Awaitable[_T]]) -> _T:
    """Try again after a while, as kubelet does, where the agent needed too long; each time is written down.

    An emulated machine on a busy host can be slower than the runtime's time-out.
    """
    tries = 1
    while True:
        try:
            return await call()
        except errors.Refused as refused:
            if tries == _TRIES or _TOO_SLOW not in str(refused):
                raise
            with (pathlib.Path(os.environ["RESULTS"]) / "retries.txt").open("a") as retries:
                retries.write(f"{refused}\n")
            # The agent may still be at work, taking back what it was too slow for.
            await asyncio.sleep(tries)
            tries += 1


def _labels(spec: runtime_pods.PodSpec) -> dict[str, str]:
    return {
        "io.kubernetes.pod.name": spec.name,
        "io.kubernetes.pod.namespace": spec.namespace,
        "io.kubernetes.pod.uid": spec.uid,
    }


def sandbox_config(spec: runtime_pods.PodSpec) -> cri.PodSandboxConfig:
    """The request for a pod's sandbox."""
    # The host's network, so that no CNI plugin is needed; a namespace of processes for each container,
    # as kubelet asks for.
    namespaces = cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER)
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=spec.name, uid=spec.uid, namespace=spec.namespace),
        labels=_labels(spec),
        annotations={**spec.annotations, "kubernetes.io/config.source": "api"},
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=place.NAMING.parent(spec),
            security_context=cri.LinuxSandboxSecurityContext(namespace_options=namespaces),
        ),
    )


def container_config(
    pod: runtime_pods.PodSpec,
    spec: runtime_pods.ContainerSpec,
    attempt: int,
    command: Sequence[str],
    mounts: Sequence[Mount],
) -> cri.ContainerConfig:
    """The request for a container with kubelet's values."""
    cpu = runtime_pods.cpu_message(spec)
    resources = cri.LinuxContainerResources(
        cpu_period=cpu.period.value,
        cpu_quota=cpu.quota.value,
        cpu_shares=cpu.shares.value,
        cpuset_cpus=spec.cpus,
        memory_limit_in_bytes=_MEMORY if spec.limit else 0,
        oom_score_adj=1000,
    )
    security = cri.LinuxContainerSecurityContext(
        namespace_options=cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER)
    )
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=spec.name, attempt=attempt),
        image=cri.ImageSpec(image=IMAGE),
        command=list(command),
        mounts=[
            cri.Mount(container_path=its.inside, host_path=its.host, readonly=its.readonly) for its in mounts
        ],
        labels={**_labels(pod), "io.kubernetes.container.name": spec.name},
        annotations={"io.kubernetes.container.restartCount": str(attempt)},
        linux=cri.LinuxContainerConfig(resources=resources, security_context=security),
    )
