"""Stage 5: the cgroup tree as read. Values only; pure. `host.cgroupfs` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler import errors, events
from reconciler.cpu.bandwidth import Bandwidth
from reconciler.cpu.idset import CpuSet, NodeSet

CPUS = "cpuset.cpus"
MEMS = "cpuset.mems"
EFFECTIVE_CPUS = "cpuset.cpus.effective"
EFFECTIVE_MEMS = "cpuset.mems.effective"
EXCLUSIVE = "cpuset.cpus.exclusive"
PARTITION = "cpuset.cpus.partition"
EVENTS = "cgroup.events"
MEMBER = "member"
"""What `cpuset.cpus.partition` says of a group that is no partition."""
INNER = "container"
"""The group that crun makes inside a container's scope and keeps the processes in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpuset:
    """One cgroup's cpuset files, at one moment.

    `cpus` and `mems` are what was asked for (`cpuset.cpus`, `cpuset.mems`), empty where the cgroup
    inherits its parent's; `effective_*` is what the kernel grants (cgroup-v2.rst, "Cpuset Interface
    Files"). Equal `cpus` does not prove the right CPUs: a narrowed ancestor shows in `effective` only.
    """

    cpus: CpuSet
    mems: NodeSet
    effective_cpus: CpuSet
    effective_mems: NodeSet

    @property
    def reach(self) -> CpuSet:
        """The CPUs that its tasks are entitled to: those asked for, or all it inherits."""
        return self.cpus or self.effective_cpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One `cpu.max`, by its name seen from the container's cgroup, or why it could not be read."""

    file: str
    says: Bandwidth | errors.HostFileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """What the partition files of one cgroup say (cgroup-v2.rst, "Cpuset Interface Files").

    `exclusive` is `cpuset.cpus.exclusive`. `state` is `cpuset.cpus.partition`: `member`, `root` or
    `isolated`, or one of the latter with ` invalid (REASON)` where the kernel does not keep others away.
    `populated`: a process is in the group or below it (`cgroup.events`).
    """

    exclusive: CpuSet
    state: str
    populated: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether the group is as one that nobody has made anything of."""
        return self.state == MEMBER and not self.exclusive


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """A container's cgroup, and the inner one in which crun keeps the processes (None without one).

    `quotas` are those that were asked for: none, unless they are to be lifted or given back.
    """

    outer: Cpuset
    inner: Cpuset | None = None
    quotas: tuple[Quota, ...] = ()

    def says(self, file: str) -> Bandwidth | errors.HostFileError | None:
        """What a `cpu.max` says; None where it was not looked at."""
        return next((its.says for its in self.quotas if its.file == file), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A cgroup right under a pod's, as a walk through the tree found it.

    `is_populated`: a process is in it. The rest is what its files said, of one that was not known before:
    `quota` is `cpu.max`, `weight` is `cpu.weight`, `cpus` is `cpuset.cpus`; None where they say nothing.
    """

    path: str
    is_populated: bool
    quota: Bandwidth | None = None
    weight: int | None = None
    cpus: CpuSet = CpuSet()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodGroup:
    """A pod's cgroup, and the groups right under it."""

    path: str
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """The container has no cgroup now: not born yet, or gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """The cgroup is there and reading it failed."""

    error: errors.HostFileError


Look = Present | Absent | Unreadable
Observed = Mapping[events.ContainerId, Look]


def asked_for(looks: Observed) -> dict[events.ContainerId, CpuSet]:
    """The CPUs that each cgroup asks for itself; those that inherit, or could not be read, are left out."""
    return {
        id_: look.outer.cpus for id_, look in looks.items() if isinstance(look, Present) and look.outer.cpus
    }
