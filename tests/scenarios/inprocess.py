"""What the grounds without sockets share: a runtime's part as plain calls, and the agent's as pure stages."""

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler import errors, events, inventory, observed, report
from reconciler.config import schema
from reconciler.cpu import bandwidth
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import status
from reconciler.policy import checkpoint, desired, lifecycle, resizing, restoring, state
from reconciler.runtime import conversion
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import runtime_pods
from tests.scenarios import ground, model, specs

_NAMING = runtime_pods.Naming()


@dataclass(slots=True)
class _Sandbox:
    message: nri_pb2.PodSandbox
    manifest: model.Pod
    attempts: dict[str, list[nri_pb2.Container]] = field(default_factory=dict)


def _complain(error: errors.Malformed) -> None:
    raise AssertionError(f"a scenario's pod does not convert: {error}") from error


class InProcess:
    """A node in one process. Subclasses say where cgroups are and how a pass is made."""

    def __init__(self, scenario: model.Scenario) -> None:
        self.files = model.machine(scenario.machine)
        self.config = schema.convert(dict(scenario.config))
        self.now = state.State(terms=state.terms(self.topology(), self.config))
        self.book = report.Book()
        self.pods: dict[str, _Sandbox] = {}
        self._numbers = itertools.count(1)
        self._up = True
        self._time = itertools.count(1)

    @abstractmethod
    def topology(self) -> topologies.Topology:
        """The machine's topology now."""

    @abstractmethod
    def make(self, path: str, cpus: str, mems: str) -> None:
        """Make a cgroup, or write the cpuset of one that is there."""

    @abstractmethod
    def unmake(self, path: str) -> None:
        """Remove a cgroup."""

    @abstractmethod
    def put(self, path: str, file: str, text: str) -> None:
        """Write a file behind the agent's back."""

    @abstractmethod
    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """Read a cgroup, with the files of quotas that are asked for."""

    @abstractmethod
    def make_pass(self, found_by: report.FoundBy) -> None:
        """One pass over everything."""

    def tick(self) -> float:
        """The time of a clock that moves when it is looked at."""
        return float(next(self._time))

    async def run_pod(self, pod: model.Pod) -> None:
        """As `Ground.run_pod`."""
        number = next(self._numbers)
        id_ = runtime_pods.make_id(f"sandbox-{pod.pod}", number)
        message = runtime_pods.pod_message(specs.pod(pod, number), id_, _NAMING)
        self.pods[pod.pod] = _Sandbox(message, pod)
        path = runtime_pods.directory(message)
        assert path is not None
        self.make(path, "", "")
        if quota := specs.quota(pod):
            self.put(path, bandwidth.POD_FILE, quota)
        if self._up:
            self._absorb(events.PodStarted(pod=conversion.pod(message, _complain)))
            self.make_pass("hook")
        for name in pod.first:
            await self.create(f"{pod.pod}/{name}")

    async def create(self, key: str) -> None:
        """As `Ground.create`."""
        pod_name, name = key.split("/")
        sandbox = self.pods[pod_name]
        spec = specs.container(name, sandbox.manifest.containers[name])
        id_ = runtime_pods.make_id(f"container-{key}", next(self._numbers))
        message = runtime_pods.container_message(spec, sandbox.message, id_, _NAMING)
        if self._up:
            self._admit(sandbox, message)
        sandbox.attempts.setdefault(name, []).append(message)
        path = runtime_pods.directory(message)
        assert path is not None
        self._write(path, message.linux.resources.cpu)
        message.state = nri_pb2.CONTAINER_RUNNING
        if self._up:
            self._absorb(events.ContainerStarting(**self._pair(sandbox, message, events.Phase.CREATED)))
            self.make_pass("hook")

    def _admit(self, sandbox: _Sandbox, message: nri_pb2.Container) -> None:
        creating = events.ContainerCreating(**self._pair(sandbox, message, events.Phase.CREATING))
        try:
            self.now, placement, _ = lifecycle.admit(self.now, creating)
        except errors.Refused as refused:
            ending = self._pair(sandbox, message, events.Phase.STOPPED)
            self._absorb(events.ContainerStopped(**ending))
            self._absorb(events.ContainerRemoved(**ending))
            raise ground.RefusedError(str(refused)) from refused
        message.linux.resources.cpu.cpus = str(placement.cpus)
        message.linux.resources.cpu.mems = "" if placement.mems is None else str(placement.mems)

    async def exit(self, key: str) -> None:
        """As `Ground.exit`."""
        sandbox, message = self._newest(key)
        self._end(message)
        if self._up:
            self._absorb(events.ContainerStopped(**self._pair(sandbox, message, events.Phase.STOPPED)))

    async def remove(self, key: str) -> None:
        """As `Ground.remove`."""
        pod_name, name = key.split("/")
        sandbox = self.pods[pod_name]
        message = sandbox.attempts[name].pop(0)
        self._end(message)
        if self._up:
            self._absorb(events.ContainerRemoved(**self._pair(sandbox, message, events.Phase.STOPPED)))

    async def delete_pod(self, name: str) -> None:
        """As `Ground.delete_pod`."""
        sandbox = self.pods.pop(name)
        for attempts in sandbox.attempts.values():
            for message in attempts:
                self._end(message)
        path = runtime_pods.directory(sandbox.message)
        assert path is not None
        self.unmake(path)
        if self._up:
            self._absorb(events.PodStopped(sandbox=events.SandboxId(sandbox.message.id)))
            self._absorb(events.PodRemoved(sandbox=events.SandboxId(sandbox.message.id)))

    async def write(self, key: str, file: str, text: str) -> None:
        """As `Ground.write`."""
        self.put(self._path(key), file, text)

    async def update(self, key: str, quota: int) -> None:
        """As `Ground.update`: containerd writes the cpuset of its record back, laid over by the answer."""
        self._ask(key, nri_pb2.LinuxCPU(quota=nri_pb2.OptionalInt64(value=quota)))

    async def resize(self, resize: model.Resize) -> None:
        """As `Ground.resize`."""
        sandbox, _ = self._newest(resize.container)
        name = resize.container.split("/")[1]
        manifest = sandbox.manifest.resized(name, resize.limit, resize.request)
        self._ask(
            resize.container, runtime_pods.cpu_message(specs.container(name, manifest.containers[name]))
        )
        sandbox.manifest = manifest

    def _ask(self, key: str, asked: nri_pb2.LinuxCPU) -> None:
        sandbox, message = self._newest(key)
        cpu = message.linux.resources.cpu
        if self._up:
            pair = self._pair(sandbox, message, events.Phase.RUNNING)
            event = events.ContainerUpdating(**pair, limits=conversion.limits(asked))
            self._take(event)
            placement = desired.desired(self.now, (event.container.id,))[event.container.id]
            cpu.cpus = str(placement.cpus)
            cpu.mems = "" if placement.mems is None else str(placement.mems)
        cpu.MergeFrom(asked)
        self._write(self._path(key), cpu)

    def _take(self, event: events.ContainerUpdating) -> None:
        if not resizing.is_resize(event):
            self._absorb(event)
            return
        try:
            self.now = lifecycle.retry(resizing.resize(self.now, event))
        except errors.Refused as refused:
            raise ground.RefusedError(str(refused)) from refused

    def _write(self, path: str, cpu: nri_pb2.LinuxCPU) -> None:
        """As a runtime writes a container's record to its cgroup."""
        self.make(path, cpu.cpus, cpu.mems)
        if quota := runtime_pods.quota(cpu):
            self.put(path, bandwidth.FILE, quota)

    async def stop_agent(self, *, kill: bool) -> None:
        """As `Ground.stop_agent`: all that was known is lost but for the checkpoint, however it ends."""
        del kill
        self._checkpoint = b"".join(checkpoint.encode(self.now, checkpoint.Origin()))
        self._up = False

    async def start_agent(self) -> None:
        """As `Ground.start_agent`."""
        self._up = True
        saved = checkpoint.decode(self._checkpoint)
        terms = state.terms(self.topology(), self.config)
        self.now = state.State(terms=terms, ledger=restoring.fit(saved.ledger, terms)[0])
        self.book = report.Book()
        self._synchronize(saved)

    async def restart_runtime(self) -> None:
        """As `Ground.restart_runtime`."""
        self._synchronize()

    async def switch(self, cpus: str, *, online: bool) -> None:
        """As `Ground.switch`."""
        which = CpuSet.parse(cpus, what="switch")
        before = CpuSet.parse(self.files[topologies.ONLINE], what="online")
        self.put_online(before | which if online else before - which)
        terms = state.terms(self.topology(), self.config)
        self.now = lifecycle.retry(dataclasses.replace(self.now, terms=terms))

    def put_online(self, cpus: CpuSet) -> None:
        """The machine says that these CPUs are online."""
        self.files[topologies.ONLINE] = f"{cpus}\n"

    async def settle(self) -> None:
        """As `Ground.settle`."""
        self.make_pass("pass")
        self.make_pass("pass")

    async def seen(self, key: str) -> ground.Seen:
        """As `Ground.seen`."""
        look = self.look(self._path(key), (bandwidth.FILE, bandwidth.POD_FILE))
        assert isinstance(look, observed.Present), f"{key}: {look}"
        return ground.Seen(
            cpus=str(look.outer.cpus),
            mems=str(look.outer.mems),
            effective=str(look.outer.effective_cpus),
            quota=str(look.says(bandwidth.FILE)),
            pod_quota=str(look.says(bandwidth.POD_FILE)),
        )

    async def status(self) -> dict[str, Any]:
        """As `Ground.status`."""
        return status.document(self.now, self.book, mode="nri", reason="", busy=False)

    def _synchronize(self, saved: checkpoint.Saved | None = None) -> None:
        messages = [
            message
            for sandbox in self.pods.values()
            for attempts in sandbox.attempts.values()
            for message in attempts
            if message.state != nri_pb2.CONTAINER_STOPPED
        ]
        pods = [sandbox.message for sandbox in self.pods.values()]
        self._absorb(conversion.synchronized(pods, messages, _complain))
        if saved is not None:
            self.now = restoring.confirm(self.now, saved.shares)
        restored = list(restoring.placed(self.now))
        known = self.now.inventory.containers
        looks = {id_: self.look(its.cgroup) for id_, its in known.items() if its.cgroup is not None}
        self.now = lifecycle.retry(lifecycle.adopt(self.now, observed.asked_for(looks)))
        self.book.trust(desired.desired(self.now, restored))

    def _absorb(self, event: events.Event) -> None:
        before = self.now.inventory.containers
        self.now = lifecycle.retry(lifecycle.absorb(self.now, event))
        for id_ in before:
            after = self.now.inventory.containers.get(id_)
            if after is None or after.phase is events.Phase.STOPPED:
                self.book.forget(id_)

    def _pair(self, sandbox: _Sandbox, message: nri_pb2.Container, phase: events.Phase) -> dict[str, Any]:
        pod, container = conversion.pair(sandbox.message, message, phase, _complain)
        return {"pod": pod, "container": container}

    def _newest(self, key: str) -> tuple[_Sandbox, nri_pb2.Container]:
        pod_name, name = key.split("/")
        sandbox = self.pods[pod_name]
        return sandbox, sandbox.attempts[name][-1]

    def _path(self, key: str) -> str:
        pod_name, name = key.split("/")
        sandbox = self.pods[pod_name]
        message = sandbox.message if name == inventory.PAUSE else sandbox.attempts[name][-1]
        path = runtime_pods.directory(message)
        assert path is not None
        return path

    def _end(self, message: nri_pb2.Container) -> None:
        if message.state != nri_pb2.CONTAINER_STOPPED:
            message.state = nri_pb2.CONTAINER_STOPPED
            path = runtime_pods.directory(message)
            assert path is not None
            self.unmake(path)
