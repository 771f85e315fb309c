"""The agent's own passes over the files of a machine: sysfs and cgroups on a fake file system."""

from __future__ import annotations

import os
from collections.abc import Sequence

from reconciler import observed, plan, report
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import walk
from reconciler.host import sysfs
from reconciler.policy import state
from reconciler.sim import kernel, machine
from tests.scenarios import inprocess, model

_ROOT = "/host"


class _Silent:
    def passed(self, now: state.State, done: walk.Done) -> None: ...

    def planned(self, now: state.State, pass_id: int, steps: plan.Plan) -> None: ...


class FakeFsGround(inprocess.InProcess):
    """To be made while the fake file system is in place."""

    def __init__(self, scenario: model.Scenario) -> None:
        machine.write(_ROOT, model.machine(scenario.machine))
        super().__init__(scenario)
        self._tree = kernel.SimulatedCgroupfs(f"{_ROOT}/sys/fs/cgroup", self.topology())
        self._walker = self._new_walker()

    def topology(self) -> topologies.Topology:
        """Read from the files."""
        return sysfs.topology(_ROOT)

    def put_online(self, cpus: CpuSet) -> None:
        """Written into sysfs; offline CPUs lose their directories, as on Linux."""
        super().put_online(cpus)
        machine.write(_ROOT, {topologies.ONLINE: self.files[topologies.ONLINE]})

    def make(self, path: str, cpus: str, mems: str) -> None:
        """As a runtime makes it."""
        self._tree.make(path, cpus, mems)

    def unmake(self, path: str) -> None:
        """As a runtime removes it."""
        self._tree.remove(path)

    def put(self, path: str, file: str, text: str) -> None:
        """As a shell writes it."""
        with open(os.path.join(self._tree.root, path, file), "w", encoding="ascii") as written:
            written.write(f"{text}\n")

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """What the files say."""
        return self._tree.look(path, quotas)

    def make_pass(self, found_by: report.FoundBy) -> None:
        """The daemon's walk."""
        self._walker.run(self.now, walk.Request(scope=None, found_by=found_by))

    async def start_agent(self) -> None:
        """As `Ground.start_agent`."""
        await super().start_agent()
        self._walker = self._new_walker()

    def _new_walker(self) -> walk.Walker:
        return walk.Walker(self._tree, self.book, _Silent(), clock=self.tick)
