"""Stage 1: what the world said. Values only; pure.

An event is a report, never a command: it updates the inventory, and a pass works out the rest. `runtime/`
makes them from NRI messages and CRI lists.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

SandboxId = NewType("SandboxId", str)
"""The runtime's id of a pod sandbox. One pod has several in a row when its sandbox is recreated."""
ContainerId = NewType("ContainerId", str)
"""The runtime's id of one attempt of a container; a sandbox's pause container has the sandbox's id."""
PodUid = NewType("PodUid", str)
"""The Kubernetes UID of a pod; it outlives sandboxes and restarts."""


class Qos(enum.Enum):
    """The Kubernetes QoS class, read off the pod's place under the kubepods root."""

    GUARANTEED = "guaranteed"
    BURSTABLE = "burstable"
    BEST_EFFORT = "besteffort"


class Phase(enum.Enum):
    """How far a container is. CREATING has no cgroup yet; STOPPED has no process any more."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuLimits:
    """The CPU part of a container's resources, as kubelet asked for them; None where it did not say.

    `shares` is 1024 for a request of one CPU (2 to 262144); `quota` and `period` are microseconds,
    a quota below 1 means no limit.
    """

    shares: int | None = None
    quota: int | None = None
    period: int | None = None

    def changed(self, by: CpuLimits) -> CpuLimits:
        """These limits after a resize that says only what it changes."""
        return CpuLimits(
            shares=self.shares if by.shares is None else by.shares,
            quota=self.quota if by.quota is None else by.quota,
            period=self.period if by.period is None else by.period,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod sandbox. `cgroup` is its pause container's cgroup, None where it has none.

    `annotations` holds at least those of `weka.io/`. Cgroup paths are relative to the cgroup2 mount.
    """

    sandbox: SandboxId
    uid: PodUid
    namespace: str
    name: str
    annotations: Mapping[str, str]
    qos: Qos
    cgroup: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One attempt of a container. `cgroup` is None for a runtime without one on this host (kata, gvisor).

    `cpus` is the kernel list that the request or the runtime's record carries, "" where it carries none.
    """

    id: ContainerId
    sandbox: SandboxId
    name: str
    cgroup: str | None
    limits: CpuLimits
    phase: Phase
    cpus: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synchronized:
    """Everything that the runtime has now. What is not listed does not exist any more."""

    pods: tuple[Pod, ...]
    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStarted:
    """A sandbox runs; its pause container has its cgroup."""

    pod: Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStopped:
    """A sandbox has stopped; none of its containers runs any more."""

    sandbox: SandboxId


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRemoved:
    """The runtime forgot a sandbox."""

    sandbox: SandboxId


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerCreating:
    """A container is asked for; it has no cgroup yet, and its placement is waited for."""

    pod: Pod
    container: Container


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStarting:
    """A container's cgroup exists, its workload has not run yet; the runtime waits for the answer."""

    pod: Pod
    container: Container


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUpdating:
    """A resize. `limits` holds the changed values only; `cpus` the cpuset asked for, "" for none."""

    pod: Pod
    container: Container
    limits: CpuLimits
    cpus: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStopped:
    """A container's processes and cgroup are gone. May come for one that was refused, and twice."""

    pod: Pod
    container: Container


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRemoved:
    """The runtime forgot a container. May come for one that was refused, and without a stop before."""

    pod: Pod
    container: Container


Event = (
    Synchronized
    | PodStarted
    | PodStopped
    | PodRemoved
    | ContainerCreating
    | ContainerStarting
    | ContainerUpdating
    | ContainerStopped
    | ContainerRemoved
)
