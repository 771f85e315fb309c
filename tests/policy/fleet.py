"""A runtime without processes: pods that come and go in any order, and the state that follows from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from reconciler import errors, events, intent, observed
from reconciler.policy import desired, lifecycle, state
from reconciler.sim import machine
from tests.pipeline import samples

SHAPE = machine.Shape(sockets=2, cores=2)

MANIFESTS = {
    "web": samples.pod("web", paused=True),
    "picky": samples.pod("picky", annotations={intent.FORBID: "0,5-6"}),
    "db": samples.pod("db", qos=samples.GUARANTEED, paused=True),
    "cache": samples.pod("cache", qos=samples.GUARANTEED, annotations={intent.FORBID: "1-2"}),
    "listed": samples.pod("listed", qos=samples.GUARANTEED, annotations={intent.CORES: "2-3"}, paused=True),
    "near": samples.pod("near", qos=samples.GUARANTEED, annotations={intent.CORES: "3,7"}),
    "bad": samples.pod("bad", annotations={intent.CORES: "2-"}),
}
LIMITS = {"main": 2, "side": 0, "big": 3}
"""Whole CPUs of the containers of Guaranteed pods; none for 0."""


@dataclass(slots=True)
class Fleet:
    """The runtime's records, and the state of an agent that is told of everything, or was for a while not."""

    now: state.State
    pods: dict[str, events.Pod] = field(default_factory=dict)
    containers: dict[events.ContainerId, events.Container] = field(default_factory=dict)
    files: dict[events.ContainerId, observed.Look] = field(default_factory=dict)
    refusals: int = 0
    attempts: int = 0

    def tell(self, event: events.Event) -> None:
        """The event, and the second chances that follow it."""
        self.now = lifecycle.retry(lifecycle.absorb(self.now, event))
        self.write()

    def write(self) -> None:
        """The files become what is desired; those of containers that have ended vanish."""
        for id_ in [id_ for id_ in self.files if not self._runs(id_)]:
            del self.files[id_]
        for id_, its in desired.desired(self.now).items():
            if self._runs(id_):
                self.files[id_] = samples.look(str(its.cpus), mems="" if its.mems is None else str(its.mems))

    def _runs(self, id_: events.ContainerId) -> bool:
        its = self.containers.get(id_)
        return its is not None and its.phase is not events.Phase.STOPPED

    def run(self, name: str) -> None:
        """The pod's sandbox; a new one where it has one already, which stops first."""
        before = self.pods.get(name)
        if before is not None:
            self.end_sandbox(name, forget=False)
        self.attempts += 1
        manifest = MANIFESTS[name]
        pod = dataclasses.replace(
            manifest,
            sandbox=events.SandboxId(f"sandbox-{name}-{self.attempts}"),
            cgroup=None if manifest.cgroup is None else f"kubepods/{name}/{self.attempts}",
        )
        self.pods[name] = pod
        self.tell(events.PodStarted(pod=pod))

    def create(self, name: str, container: str) -> None:
        """The next attempt of a container, if its pod has a sandbox and none of that name runs."""
        pod = self.pods.get(name)
        if pod is None or self._running(pod, container) is not None:
            return
        its = self._attempt(pod, container)
        before = self.now
        copy = snapshot(before)
        try:
            self.now, placement, _ = lifecycle.admit(before, samples.creating(pod, its))
        except errors.Refused:
            self.refusals += 1
            assert self.now is before
            assert snapshot(before) == copy
            for ending in (events.ContainerStopped, events.ContainerRemoved):
                self.tell(ending(pod=pod, container=its))
            assert snapshot(self.now) == copy or self.now.ledger.unsatisfied != before.ledger.unsatisfied
            return
        assert placement.cpus
        running = dataclasses.replace(its, phase=events.Phase.RUNNING)
        self.containers[its.id] = running
        self.tell(events.ContainerStarting(pod=pod, container=running))

    def miss(self, name: str, container: str) -> None:
        """The next attempt of a container comes while the agent is away, and runs on everything."""
        pod = self.pods.get(name)
        if pod is None or self._running(pod, container) is not None:
            return
        its = self._attempt(pod, container)
        self.containers[its.id] = dataclasses.replace(its, phase=events.Phase.RUNNING)
        self.files[its.id] = samples.look("", effective="0-7")
        self.reconnect()

    def _attempt(self, pod: events.Pod, container: str) -> events.Container:
        self.attempts += 1
        count = LIMITS[container] if pod.qos is samples.GUARANTEED else 0
        limits = samples.whole(count) if count else None
        return samples.container(pod, container, limits=limits, attempt=self.attempts)

    def _running(self, pod: events.Pod, container: str) -> events.Container | None:
        for its in self.containers.values():
            if (its.sandbox, its.name) == (pod.sandbox, container) and its.phase is not events.Phase.STOPPED:
                return its
        return None

    def exit(self, name: str, container: str) -> None:
        """The attempt that runs ends; its record stays."""
        pod = self.pods.get(name)
        its = None if pod is None else self._running(pod, container)
        if pod is not None and its is not None:
            self.containers[its.id] = dataclasses.replace(its, phase=events.Phase.STOPPED)
            self.tell(events.ContainerStopped(pod=pod, container=its))

    def forget(self, name: str, container: str) -> None:
        """The runtime drops the oldest record of a container that has exited."""
        pod = self.pods.get(name)
        for its in list(self.containers.values()):
            stopped = its.phase is events.Phase.STOPPED
            if pod is not None and stopped and (its.sandbox, its.name) == (pod.sandbox, container):
                del self.containers[its.id]
                self.tell(events.ContainerRemoved(pod=pod, container=its))
                return

    def end_sandbox(self, name: str, *, forget: bool = True) -> None:
        """All its containers end, then the sandbox; with `forget` its records go too."""
        pod = self.pods.pop(name, None)
        if pod is None:
            return
        for its in [its for its in self.containers.values() if its.sandbox == pod.sandbox]:
            del self.containers[its.id]
            self.tell(events.ContainerStopped(pod=pod, container=its))
        self.tell(events.PodStopped(sandbox=pod.sandbox))
        if forget:
            self.tell(events.PodRemoved(sandbox=pod.sandbox))

    def reconnect(self) -> None:
        """The agent gets a full list, of what runs."""
        self.tell(
            events.Synchronized(
                pods=tuple(self.pods.values()),
                containers=tuple(
                    its for its in self.containers.values() if its.phase is not events.Phase.STOPPED
                ),
            )
        )
        self.now = lifecycle.retry(lifecycle.adopt(self.now, observed.asked_for(self.files)))
        self.write()

    def restart(self) -> None:
        """The agent knows nothing any more, and gets a full list."""
        self.now = state.State(terms=self.now.terms)
        self.reconnect()


def snapshot(now: state.State) -> tuple[object, ...]:
    """All that a state says, in containers of its own."""
    return (
        dict(now.inventory.pods),
        dict(now.inventory.containers),
        dict(now.inventory.members),
        dict(now.ledger.intents),
        dict(now.ledger.claims),
        dict(now.ledger.unsatisfied),
        now.ledger.exclusive,
        now.ledger.pinned,
    )
