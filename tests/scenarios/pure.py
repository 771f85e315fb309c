"""The pure pipeline: every stage as a function, and the kernel as a dictionary."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from reconciler import diff, events, observed, plan, report
from reconciler.cpu import bandwidth
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import desired, state
from tests.scenarios import inprocess, model


class PureGround(inprocess.InProcess):
    """No file, no socket, no thread."""

    def __init__(self, scenario: model.Scenario) -> None:
        self._cgroups: dict[str, tuple[CpuSet, NodeSet]] = {}
        self._quotas: dict[str, bandwidth.Bandwidth] = {}
        super().__init__(scenario)

    def topology(self) -> topologies.Topology:
        """Parsed from the machine's texts."""
        return topologies.parse(self.files)

    def make(self, path: str, cpus: str, mems: str) -> None:
        """Into the dictionary; "" leaves what is there."""
        before = self._cgroups.get(path, (CpuSet(), NodeSet()))
        self._cgroups[path] = (
            CpuSet.parse(cpus, what="cpus") if cpus else before[0],
            NodeSet.parse(mems, what="mems") if mems else before[1],
        )

    def unmake(self, path: str) -> None:
        """Out of the dictionary."""
        del self._cgroups[path]
        self._quotas.pop(f"{path}/{bandwidth.FILE}", None)

    def put(self, path: str, file: str, text: str) -> None:
        """As the kernel would take it."""
        if file.endswith(bandwidth.FILE):
            self._quotas[posixpath.normpath(f"{path}/{file}")] = bandwidth.Bandwidth.parse(text, what=file)
            return
        cpus, mems = self._cgroups[path]
        if file == observed.CPUS:
            self._cgroups[path] = (CpuSet.parse(text, what=file), mems)
        else:
            self._cgroups[path] = (cpus, NodeSet.parse(text, what=file))

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """Under ancestors that narrow nothing."""
        if path not in self._cgroups:
            return observed.Absent()
        cpus, mems = self._cgroups[path]
        topology = self.topology()
        nodes = NodeSet(node.id for node in topology.nodes if node.has_memory)
        return observed.Present(
            outer=observed.Cpuset(
                cpus=cpus,
                mems=mems,
                effective_cpus=cpus & topology.online or topology.online,
                effective_mems=mems & nodes or nodes,
            ),
            quotas=tuple(observed.Quota(file=file, says=self._quota(path, file)) for file in quotas),
        )

    def _quota(self, path: str, file: str) -> bandwidth.Bandwidth:
        return self._quotas.get(posixpath.normpath(f"{path}/{file}"), bandwidth.Bandwidth())

    def make_pass(self, found_by: report.FoundBy) -> None:
        """Desired, diff, plan and report, one after the other."""
        wanted = desired.desired(self.now)
        where = _paths(self.now, wanted)
        files = {id_: [wish.file for wish in want.quotas] for id_, want in wanted.items()}
        looks = {id_: self.look(path, files[id_]) for id_, path in where.items()}
        online = self.now.terms.topology.online
        differences = diff.compare(wanted, looks, self.book.confirmed, online)
        steps = plan.order(differences, wanted, looks, self.now.ledger.exclusive, self.now.pool)
        for step in steps:
            self.put(where[step.container], step.file, step.text)
        outcome = report.Outcome(
            wanted=wanted,
            looks=looks,
            differences=differences,
            results=tuple(report.Result(write=step) for step in steps),
            after={step.container: self.look(where[step.container], files[step.container]) for step in steps},
            online=online,
            found_by=found_by,
        )
        self.book.enter(outcome, self.tick())


def _paths(now: state.State, ids: Iterable[events.ContainerId]) -> dict[events.ContainerId, str]:
    """The cgroups of containers."""
    found = {}
    for id_ in ids:
        cgroup = now.inventory.containers[id_].cgroup
        if cgroup is not None:
            found[id_] = cgroup
    return found
