"""The kernel's part as dictionaries: what cgroups say, which writes fail, and who is told after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from reconciler import errors, events, observed
from reconciler.cpu.idset import CpuSet, NodeSet

Sets = dict[events.ContainerId, CpuSet]


@dataclass(slots=True)
class Kernel:
    """Cgroups that are called as their containers, under a parent that narrows nothing.

    The writes whose numbers, counted from 0, are in `failing` fail, and so does every write to a cgroup in
    `broken`; one to a cgroup in `vanishing` finds it gone. `after` is called after each write, made or not.
    """

    online: CpuSet
    cpus: Sets
    mems: dict[events.ContainerId, NodeSet]
    failing: frozenset[int] = frozenset()
    broken: frozenset[str] = frozenset()
    vanishing: frozenset[str] = frozenset()
    after: Callable[[], None] = lambda: None
    count: int = field(default=0, init=False)

    def write(self, path: str, file: str, text: str) -> None:
        """As `host.cgroupfs.Cgroupfs.write`."""
        id_ = events.ContainerId(path)
        number, self.count = self.count, self.count + 1
        if path in self.vanishing:
            self.cpus.pop(id_, None)
            self.mems.pop(id_, None)
            raise errors.Gone(path)
        if number in self.failing or path in self.broken:
            raise errors.HostFileError(f"{path}/{file}", "write", 16, "busy")
        if file == observed.CPUS:
            self.cpus[id_] = CpuSet.parse(text, what=file)
        else:
            self.mems[id_] = NodeSet.parse(text, what=file)
        self.after()

    def reach(self) -> Sets:
        """The CPUs that the tasks of each cgroup may run on."""
        return {id_: cpus or self.online for id_, cpus in self.cpus.items()}

    def looks(self, ids: Iterable[events.ContainerId]) -> Mapping[events.ContainerId, observed.Look]:
        """The cgroups of these containers as they are."""
        return {id_: self._look(id_) for id_ in ids}

    def _look(self, id_: events.ContainerId) -> observed.Look:
        if id_ not in self.cpus:
            return observed.Absent()
        cpus, mems = self.cpus[id_], self.mems[id_]
        return observed.Present(
            outer=observed.Cpuset(
                cpus=cpus,
                mems=mems,
                effective_cpus=cpus or self.online,
                effective_mems=mems or NodeSet((0, 1)),
            )
        )
