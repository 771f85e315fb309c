"""A machine of 8 CPUs on which containers come, grow, move and go, looked at after each write of the agent's.

No runtime and no event loop: the states are made by the policy, the passes by the walker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib

from reconciler import errors, events, observed, partitions, report
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import walk
from reconciler.host import sysfs
from reconciler.policy import desired, isolation, lifecycle, moving, resizing, state
from reconciler.sim import kernel, machine
from tests.daemon import pods

EVERYTHING = walk.Request(scope=None)


class KilledError(BaseException):
    """SIGKILL between two writes."""


class Kernel(kernel.SimulatedCgroupfs):
    """Calls `looked_at` after each write that is not the runtime's or anybody else's, and can be killed."""

    def __init__(self, root: str, topology: topologies.Topology) -> None:
        super().__init__(root, topology)
        self.ground: Ground | None = None
        self.left = -1
        """So many writes are made before the agent is killed; -1 for never."""
        self.written: list[tuple[str, str, str]] = []
        self.asked: list[str] = []
        """The groups whose partition files the agent has read."""
        self.refused = ""
        """A group to which the agent cannot write."""

    def partition(self, path: str) -> observed.Partition | None:
        """As `Cgroupfs.partition`."""
        if self.ground is not None:
            self.asked.append(path)
        return super().partition(path)

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`."""
        if self.ground is None:
            super().write(path, file, text)
            return
        if self.left == 0:
            raise KilledError
        self.left -= 1
        if path == self.refused:
            raise errors.HostFileError(f"{path}/{file}", "write", errno.EBUSY, "busy")
        self.written.append((path, file, text))
        super().write(path, file, text)
        self.ground.check_after_write()


class Told:
    """Keeps what passes tell."""

    def __init__(self) -> None:
        self.entries: list[report.Entry] = []

    def passed(self, now: state.State, done: walk.Done) -> None:  # noqa: ARG002  the protocol's
        """As `walk.Tell.passed`."""
        self.entries += done.entries

    def planned(self, *_: object) -> None:
        """As `walk.Tell.planned`."""


class Ground:
    """The node. `strict` is whether a write that the kernel refuses is a fault."""

    def __init__(self, folder: str, config: schema.Config) -> None:
        machine.write(folder, machine.vm())
        self.topology = sysfs.topology(folder)
        root = os.path.join(folder, "sys/fs/cgroup")
        os.makedirs(root)
        self.kernel = Kernel(root, self.topology)
        self.host = kernel.SimulatedCgroupfs(root, self.topology)
        self.now = state.State(terms=state.terms(self.topology, config))
        self.strict = True
        self.seconds = 0.0
        self.made = 0
        self.pods: dict[str, events.Pod] = {}
        self.containers: dict[str, events.Container] = {}
        self._trespasses: frozenset[tuple[str, int]] = frozenset()
        self._strays: frozenset[str] = frozenset()
        self.begin()

    def begin(self) -> None:
        """Start the agent, which knows nothing but its claims."""
        self.book, self.told = report.Book(), Told()
        self.walker = walk.Walker(self.kernel, self.book, self.told, clock=lambda: self.seconds)

    def configure(self, config: schema.Config) -> None:
        """Another configuration comes into force."""
        terms = state.terms(self.topology, config)
        self.now = lifecycle.retry(dataclasses.replace(self.now, terms=terms))

    def create(self, pod: events.Pod, container: events.Container) -> bool:
        """A container is created and starts, if it is let; whether it was."""
        if container.id in self.containers:
            return False
        try:
            asked = events.ContainerCreating(pod=pod, container=container)
            now, placement, _ = lifecycle.admit(self.now, asked)
        except errors.Refused:
            return False
        moved = any(move.key.uid != pod.uid for move in moving.moves(self.now.ledger, now.ledger))
        self.now = now
        if moved:
            # Whoever has to move has moved before the creation is answered.
            self.run()
        self.pods[pod.name], self.containers[container.id] = pod, container
        mems = "" if placement.mems is None else str(placement.mems)
        self.host.make(str(container.cgroup), str(placement.cpus), mems)
        born = events.ContainerStarting(pod=pod, container=container)
        self.now = lifecycle.absorb(self.now, born)
        return True

    def resize(self, id_: str, whole: int) -> None:
        """A container's limit becomes another whole number of CPUs, if that can be."""
        container = self.now.inventory.containers.get(events.ContainerId(id_))
        if container is None:
            return
        limits = events.CpuLimits(shares=1024 * whole, quota=100_000 * whole, period=100_000)
        asked = events.ContainerUpdating(pod=self.now.pod_of(container), container=container, limits=limits)
        with contextlib.suppress(errors.Refused):
            self.now = resizing.resize(self.now, asked)

    def end(self, name: str) -> None:
        """A pod ends and its cgroups go."""
        pod = self.pods.pop(name)
        gone = {id_: its for id_, its in self.containers.items() if its.sandbox == pod.sandbox}
        for id_, its in gone.items():
            del self.containers[id_]
            self.host.remove(str(its.cgroup))
            self.book.forget(events.ContainerId(id_))
        self.host.remove(os.path.dirname(str(next(iter(gone.values())).cgroup)))
        self.now = lifecycle.retry(lifecycle.absorb(self.now, events.PodRemoved(sandbox=pod.sandbox)))

    def run(self, request: walk.Request = EVERYTHING) -> walk.Done:
        """One pass, looked at after each write."""
        self._trespasses, self._strays = self.trespasses(), self.strays()
        self.kernel.ground = self
        try:
            done = self.walker.run(self.now, request)
        finally:
            self.kernel.ground = None
        if self.strict:
            assert [str(result.error or result.write) for result in done.results if result.failed] == []
        self.seconds += 0.001
        return done

    def killed_after(self, writes: int) -> bool:
        """A pass that is killed after so many writes; whether it came to that. The agent starts anew then."""
        self.kernel.left = writes
        try:
            self.run()
        except KilledError:
            self.begin()
            return True
        finally:
            self.kernel.left = -1
        return False

    def check_after_write(self) -> None:
        """What holds after every single write."""
        assert self.trespasses() <= self._trespasses
        assert self.strays() <= self._strays
        for path, cpus in self.host.partitions.valid().items():
            assert cpus == self.host.partitions.exclusive(path)
            for group in partitions.above(path):
                assert cpus <= self.host.partitions.exclusive(group)

    def trespasses(self) -> frozenset[tuple[str, int]]:
        """Who may run on which CPU of an exclusive claim whose holder is there and is another."""
        wanted = desired.desired(self.now)
        grants = {id_: self.effective(its) for id_, its in self.containers.items()}
        asks = {id_: self.cpus(its) for id_, its in self.containers.items()}
        found = set()
        for id_, want in wanted.items():
            if want.owner is None or id_ not in asks:
                continue
            in_force = want.cpus & asks[id_] & grants[id_]
            for other, cpus in grants.items():
                theirs = wanted[events.ContainerId(other)]
                if other != id_ and theirs.owner != want.owner:
                    # Who is to be there, as lists may overlap, is no trespasser.
                    found |= {(other, cpu) for cpu in (cpus & in_force) - theirs.cpus}
        return frozenset(found)

    def strays(self) -> frozenset[str]:
        """Who asks for CPUs of which the kernel keeps all for somebody else, and has his parent's instead."""
        return frozenset(
            id_ for id_, its in self.containers.items() if self.effective(its).isdisjoint(self.cpus(its))
        )

    def check_converged(self) -> None:
        """What holds after a pass that nobody disturbed."""
        wishes = isolation.wishes(self.now)
        wants = {
            str(self.containers[id_].cgroup): partitions.Want(container=id_, kind=its.kind, cpus=its.cpus)
            for id_, its in wishes.items()
        }
        online = self.topology.online
        for id_, want in desired.desired(self.now).items():
            container = self.containers[id_]
            assert (self.cpus(container), self.effective(container)) == (want.cpus, want.cpus & online)
            says = self.host.partition(str(container.cgroup))
            assert says is not None
            its = wants.get(str(container.cgroup))
            assert says.is_plain if its is None else its.is_had(says), (container.id, says)
            assert self.book.isolations.level(id_) == ("cpuset" if its is None else wishes[id_].level)
        below = partitions.wanted_below(wants)
        own = {str(its.cgroup) for its in self.containers.values()}
        # Without any container nobody says below which groups something could be left.
        for group in self.groups() if own else ():
            if group not in own:
                assert self.host.partitions.exclusive(group) == below.get(group, CpuSet()), group

    def groups(self) -> list[str]:
        """All groups there are."""
        root = pathlib.Path(self.host.root)
        return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()]

    def cpus(self, container: events.Container) -> CpuSet:
        """What a container's own list says."""
        return self._look(container).outer.cpus

    def effective(self, container: events.Container) -> CpuSet:
        """What the kernel grants it."""
        return self._look(container).outer.effective_cpus

    def _look(self, container: events.Container) -> observed.Present:
        look = self.host.look(str(container.cgroup))
        assert isinstance(look, observed.Present)
        return look

    def close(self) -> None:
        """Leave nothing open."""
        self.kernel.close()
        self.host.close()


def isolated(name: str, level: str = "", *, cores: str = "") -> events.Pod:
    """A Guaranteed pod that chooses how it is isolated, where `level` says something."""
    made = pods.guaranteed(name, cores)
    notes = {**made.annotations, **({isolation.ISOLATION: level} if level else {})}
    return dataclasses.replace(made, annotations=notes)
