"""A kernel in memory: flat cgroups, CPUs that come and go, writes that fail, groups that vanish."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reconciler import errors, observed
from reconciler.cpu.idset import CpuSet, NodeSet

Watch = Callable[[str, CpuSet, CpuSet], None]
"""Is told of each write to a `cpuset.cpus`: the path, what the file said before, and what it says now."""


@dataclass(slots=True)
class Kernel:
    """What the agent's walker needs of `host.cgroupfs.Cgroupfs`, and what a runtime and an operator do.

    An empty file inherits: all CPUs that are online. Where none of the CPUs in a file is online the kernel
    grants those of the parent, which here are all (cgroup-v2.rst, `cpuset.cpus`). Every write to a group in
    `broken` fails, and of the coming writes to one in `failing` those whose bits are set, the lowest for the
    next; a write to one in `vanishing` finds it gone. One in `stubborn` has a process that does not end, so
    it cannot be removed. No fault depends on the order of writes to several groups: a pass takes containers
    as persistent maps have them, whose order is another one each time.
    """

    online: CpuSet
    cpus: dict[str, CpuSet] = field(default_factory=dict)
    mems: dict[str, NodeSet] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    failing: dict[str, int] = field(default_factory=dict)
    vanishing: set[str] = field(default_factory=set)
    stubborn: set[str] = field(default_factory=set)
    watch: Watch = lambda _path, _before, _after: None

    def make(self, path: str, cpus: CpuSet, mems: NodeSet) -> None:
        """Make a group, as the runtime does when a container is born; empty sets inherit."""
        self.cpus[path], self.mems[path] = cpus, mems

    def remove(self, path: str) -> None:
        """Remove a group, if its last process can end."""
        if path in self.stubborn:
            return
        self.cpus.pop(path, None)
        self.mems.pop(path, None)
        self.vanishing.discard(path)
        self.broken.discard(path)
        self.failing.pop(path, None)

    def reach(self, path: str) -> CpuSet:
        """The CPUs that the group's tasks are entitled to."""
        return self.cpus[path] or self.online

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """As `Cgroupfs.look`, without quotas."""
        assert not quotas, "no configuration here lifts any"
        cpus = self.cpus.get(path)
        if cpus is None:
            return observed.Absent()
        mems = self.mems[path]
        return observed.Present(
            outer=observed.Cpuset(
                cpus=cpus,
                mems=mems,
                effective_cpus=cpus & self.online or self.online,
                effective_mems=mems,
            )
        )

    def partition(self, path: str) -> observed.Partition | None:  # noqa: ARG002  no group here has the files
        """As `Cgroupfs.partition`: nobody makes any, and none is left of a former run."""
        return None

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`."""
        if path in self.vanishing:
            self.stubborn.discard(path)
            self.remove(path)
        if path not in self.cpus:
            raise errors.Gone(path)
        coming = self.failing.pop(path, 0)
        if coming > 1:
            self.failing[path] = coming >> 1
        if path in self.broken or coming & 1:
            raise errors.HostFileError(f"{path}/{file}", "write", errno.EBUSY, "busy")
        if file == observed.MEMS:
            self.mems[path] = NodeSet.parse(text, what=file)
            return
        before, self.cpus[path] = self.cpus[path], CpuSet.parse(text, what=file)
        self.watch(path, before, self.cpus[path])

    def forget(self, path: str) -> None:
        """As `Cgroupfs.forget`: there is no descriptor to close."""

    def heal(self) -> None:
        """From now on no write fails."""
        self.broken.clear()
        self.failing.clear()
        self.vanishing.clear()
