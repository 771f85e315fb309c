"""A small machine in a folder, with pods made by hand, for tests of parts of the agent. I/O below it."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from reconciler import errors, events, plan
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import walk
from reconciler.host import sysfs
from reconciler.policy import lifecycle, state
from reconciler.sim import kernel, machine


class Listener:
    """Keeps the plans of dry passes."""

    def __init__(self) -> None:
        self.plans: list[plan.Plan] = []

    def passed(self, now: state.State, done: walk.Done) -> None:
        """As `walk.Tell.passed`."""

    def planned(self, now: state.State, pass_id: int, steps: plan.Plan) -> None:  # noqa: ARG002
        """As `walk.Tell.planned`."""
        self.plans.append(steps)


class Kernel(kernel.SimulatedCgroupfs):
    """Refuses every write to the files of the groups that are `stuck`, as a kernel may."""

    def __init__(self, root: str, topology: topologies.Topology) -> None:
        super().__init__(root, topology)
        self.stuck: set[str] = set()

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`."""
        if path in self.stuck:
            raise errors.HostFileError(f"{path}/{file}", "write", errno.EBUSY, os.strerror(errno.EBUSY))
        super().write(path, file, text)


class Machine:
    """8 CPUs; containers by the names of their pods, one in each."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.root = str(folder / "host")
        machine.write(self.root, machine.vm())
        self.topology = sysfs.topology(self.root)
        self.kernel = Kernel(os.path.join(self.root, "sys/fs/cgroup"), self.topology)
        self.now = state.State(terms=state.terms(self.topology, schema.Config()))

    def create(self, name: str, cpus: int = 0) -> events.ContainerId:
        """Admit a container and make its cgroup as the runtime would: with `cpus` > 0 an integer one."""
        pod = events.Pod(
            sandbox=events.SandboxId(f"sandbox-{name}"),
            uid=events.PodUid(f"uid-{name}"),
            namespace="default",
            name=name,
            annotations={},
            qos=events.Qos.GUARANTEED if cpus else events.Qos.BURSTABLE,
            cgroup=None,
        )
        container = events.Container(
            id=events.ContainerId(f"id-{name}"),
            sandbox=pod.sandbox,
            name="main",
            cgroup=f"kubepods.slice/{name}.scope",
            limits=events.CpuLimits(quota=cpus * 100_000) if cpus else events.CpuLimits(),
            phase=events.Phase.CREATING,
        )
        event = events.ContainerCreating(pod=pod, container=container)
        self.now, placement, _ = lifecycle.admit(self.now, event)
        self.kernel.make(f"kubepods.slice/{name}.scope", cpus=str(placement.cpus))
        self.now = lifecycle.absorb(self.now, events.ContainerStarting(pod=pod, container=container))
        return container.id

    def path(self, name: str, file: str = "cpuset.cpus") -> pathlib.Path:
        """A file of a container."""
        return pathlib.Path(self.kernel.root, "kubepods.slice", f"{name}.scope", file)

    def cpus(self, name: str) -> CpuSet:
        """What a container's file says."""
        return CpuSet.parse(self.path(name).read_text().split("\n")[0].strip(), what=name)


@contextlib.contextmanager
def machine_in(folder: pathlib.Path) -> Iterator[Machine]:
    """A machine whose descriptors are closed at the end."""
    made = Machine(folder)
    with contextlib.closing(made.kernel):
        yield made
