"""A node without processes: a runtime's records, kubelet's pods, hotplug, and an agent that is told of it."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from reconciler import events, intent
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import checkpoint, desired, lifecycle, restoring, state
from reconciler.sim import machine
from tests.pipeline import samples
from tests.soak import decisions, kernel, tally, witness

CAPPED = "capped"
"""The namespace of every other pod."""
FRACTION = events.CpuLimits(shares=1536, quota=150_000, period=samples.PERIOD)


@functools.lru_cache(maxsize=4096)
def _topology(shape: machine.Shape, online: CpuSet) -> topologies.Topology:
    return samples.topology(shape, online=str(online))


def limits(count: int) -> events.CpuLimits:
    """Those of a container with `count` whole CPUs; a fraction for 0."""
    return samples.whole(count) if count else FRACTION


@dataclass(slots=True)
class Runtime:
    """Everything that is not the agent. Containers are found by their place in the order of their ids."""

    shape: machine.Shape
    reached: Counter[str]
    config: schema.Config = field(default_factory=schema.Config)
    mask: int = 0
    pods: dict[str, events.Pod] = field(default_factory=dict, init=False)
    containers: dict[events.ContainerId, events.Container] = field(default_factory=dict, init=False)
    unborn: dict[events.ContainerId, desired.Placement] = field(default_factory=dict, init=False)
    ground: kernel.Kernel = field(init=False)
    agent: decisions.Agent = field(init=False)
    _booted: schema.Config = field(init=False)
    _attempts: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._booted = self.config
        self.ground = kernel.Kernel(CpuSet(range(self.shape.cpus)))
        self._begin()

    def _begin(self) -> None:
        terms = state.terms(_topology(self.shape, self.ground.online), self.config)
        self.agent = decisions.Agent(state.State(terms=terms), self.ground, self.reached, self.mask)

    # What kubelet asks for.

    def run(self, name: str, qos: events.Qos, annotations: Mapping[str, str]) -> None:
        """A new pod of this name; an older one ends first. Every other name has a pause container, and the
        others are in the namespace that can have a ceiling."""
        self.end(name)
        self._attempts += 1
        pod = samples.pod(name, qos=qos, annotations=annotations)
        uid, namespace = f"uid-{name}-{self._attempts}", CAPPED if ord(name[-1]) % 2 else pod.namespace
        self._sandbox(name, dataclasses.replace(pod, uid=events.PodUid(uid), namespace=namespace))

    def again(self, name: str) -> None:
        """The pod's sandbox has died, and it gets another one."""
        pod = self.pods.get(name)
        if pod is not None:
            self.end(name)
            self._sandbox(name, pod)

    def _sandbox(self, name: str, pod: events.Pod) -> None:
        self._attempts += 1
        sandbox = events.SandboxId(f"{name}-{self._attempts:04}")
        paused = ord(name[-1]) % 2 == 0
        pod = dataclasses.replace(pod, sandbox=sandbox, cgroup=str(sandbox) if paused else None)
        self.pods[name] = pod
        if paused:
            self.ground.make(sandbox, CpuSet(), NodeSet())
        self.agent.absorb(events.PodStarted(pod=pod))
        if paused:
            self.agent.everything_or(frozenset({events.ContainerId(sandbox)}))

    def create(
        self,
        name: str,
        container: str,
        count: int,
        *,
        held: bool = False,
        meanwhile: Callable[[], None] = decisions.nothing,
    ) -> None:
        """The next attempt of a container whose pod has a sandbox, if none runs; `held` leaves it unborn."""
        its = self._next(name, container, count)
        if its is None:
            return
        pod = self.pods[name]
        placement = self.agent.create(samples.creating(pod, its), meanwhile)
        if placement is None:
            before, unsatisfied = self.agent.now, self.agent.now.ledger.unsatisfied
            for ending in (events.ContainerStopped, events.ContainerRemoved):
                self.agent.absorb(ending(pod=pod, container=its))
            assert unsatisfied or self.agent.now == before
        elif self.pods.get(name) is pod:
            self.containers[its.id] = dataclasses.replace(its, phase=events.Phase.CREATED)
            self.unborn[its.id] = placement
            if not held:
                self.bear(its.id)

    def _next(self, name: str, container: str, count: int) -> events.Container | None:
        pod = self.pods.get(name)
        if pod is None or any(
            (its.sandbox, its.name) == (pod.sandbox, container) and its.phase is not events.Phase.STOPPED
            for its in self.containers.values()
        ):
            return None
        self._attempts += 1
        id_ = events.ContainerId(f"{pod.sandbox}/{container}-{self._attempts:04}")
        whole = limits(count) if pod.qos is samples.GUARANTEED else FRACTION
        its = samples.container(pod, container, limits=whole)
        return dataclasses.replace(its, id=id_, cgroup=str(id_))

    def bear(self, id_: events.ContainerId) -> None:
        """An unborn container's cgroup is made, as its creation was answered, and it asks to start."""
        placement = self.unborn.pop(id_)
        self.ground.make(id_, placement.cpus, placement.mems or NodeSet())
        its = dataclasses.replace(self.containers[id_], phase=events.Phase.RUNNING)
        self.containers[id_] = its
        pod = self._pod(its)
        if self.agent.start(events.ContainerStarting(pod=pod, container=its)):
            self.exit(id_)
            self.drop(id_)

    def resize(self, id_: events.ContainerId, count: int, meanwhile: Callable[[], None]) -> None:
        """A resize in place, as kubelet asks for it."""
        its, wanted = self.containers[id_], limits(count)
        event = events.ContainerUpdating(pod=self._pod(its), container=its, limits=wanted)
        if self.agent.resize(event, meanwhile) and id_ in self.containers:
            self.containers[id_] = dataclasses.replace(self.containers[id_], limits=wanted)

    def _pod(self, its: events.Container) -> events.Pod:
        return next(pod for pod in self.pods.values() if pod.sandbox == its.sandbox)

    # What happens by itself.

    def exit(self, id_: events.ContainerId) -> None:
        """A container ends, or has ended already and now its event comes."""
        its = self.containers[id_]
        self._end(its)
        self._stop(its)

    def _end(self, its: events.Container) -> None:
        self.unborn.pop(its.id, None)
        self.ground.remove(its.id)
        self.containers[its.id] = dataclasses.replace(its, phase=events.Phase.STOPPED)

    def cling(self, id_: events.ContainerId) -> None:
        """A process of a container cannot end, whatever its runtime does, until it is let go."""
        self.ground.stubborn.add(id_)

    def cling_all(self, name: str) -> None:
        """A process of every container of a pod that runs cannot end."""
        pod = self.pods.get(name)
        for id_, its in self.containers.items():
            if pod is not None and its.sandbox == pod.sandbox and its.phase is events.Phase.RUNNING:
                self.cling(id_)

    def let_go(self, id_: str, *, noticed: bool = True) -> None:
        """It can end now, and does if it should have; the agent sees it now, or when it looks again."""
        self.ground.stubborn.discard(id_)
        its = self.containers.get(events.ContainerId(id_))
        if its is None or its.phase is events.Phase.STOPPED:
            self.ground.remove(id_)
        if noticed:
            self.agent.look_at_leftovers()

    def _stop(self, its: events.Container) -> None:
        self.agent.absorb(events.ContainerStopped(pod=self._pod(its), container=its))
        self.agent.forget(its)

    def drop(self, id_: events.ContainerId) -> None:
        """The runtime forgets a container that has exited."""
        its = self.containers.pop(id_)
        self.agent.absorb(events.ContainerRemoved(pod=self._pod(its), container=its))
        self.agent.forget(its)

    def end(self, name: str) -> None:
        """A pod's sandbox stops, and is forgotten with all its containers."""
        pod = self.pods.get(name)
        if pod is None:
            return
        for id_ in [id_ for id_, its in self.containers.items() if its.sandbox == pod.sandbox]:
            if self.containers[id_].phase is not events.Phase.STOPPED:
                self.exit(id_)
            del self.containers[id_]
        del self.pods[name]
        self.ground.remove(pod.sandbox)
        for ending in (events.PodStopped, events.PodRemoved):
            self.agent.end_pod(ending(sandbox=pod.sandbox))

    def hotplug(self, online: CpuSet, *, noticed: bool) -> None:
        """Other CPUs are online; the agent sees it now, or when it looks the next time."""
        self.ground.online = online
        if noticed:
            self.notice()

    def notice(self) -> None:
        """The agent follows the topology and the configuration."""
        self.agent.renew(_topology(self.shape, self.ground.online), self.config)
        tally.terms(self.reached, self.agent.now)

    def drift(self, id_: events.ContainerId, cpus: CpuSet) -> None:
        """Someone else writes to a cgroup; inotify tells."""
        if id_ in self.ground.cpus:
            self.ground.cpus[id_] = cpus
            self.agent.everything_or(frozenset({id_}))

    def heal(self) -> None:
        """No write fails any more, and what has vanished is told."""
        self.ground.heal()
        for id_, its in list(self.containers.items()):
            if its.phase is events.Phase.RUNNING and id_ not in self.ground.cpus:
                self.exit(id_)
        self.agent.look_at_leftovers()
        self.notice()
        self.agent.everything()

    # What the agent misses.

    def miss(self, name: str, container: str, count: int) -> None:
        """A container comes while the agent is away, and runs on everything."""
        its = self._next(name, container, count)
        if its is not None:
            self.containers[its.id] = dataclasses.replace(its, phase=events.Phase.RUNNING)
            self.ground.make(its.id, CpuSet(), NodeSet())
            self.reconnect()

    def miss_end(self, id_: events.ContainerId) -> None:
        """A container exits, and is forgotten, while the agent is away."""
        self._end(self.containers[id_])
        del self.containers[id_]
        self.reconnect()

    def reconnect(self, saved: checkpoint.Saved | None = None) -> None:
        """The agent gets a full list, of what runs or is about to."""
        alive = (its for its in self.containers.values() if its.phase is not events.Phase.STOPPED)
        event = events.Synchronized(pods=tuple(self.pods.values()), containers=tuple(alive))
        self.agent.synchronized(event, saved)

    def restart(self, *, remembers: bool) -> None:
        """The agent knows no more than what it has saved, if it `remembers` that, and gets a full list.

        Without its checkpoint it does not know of what lingers.
        """
        if not remembers:
            for id_ in sorted(self.agent.now.inventory.leftovers.lingering):
                self.let_go(id_)
        before = desired.desired(self.agent.now)
        saved = checkpoint.decode(b"".join(checkpoint.encode(self.agent.now, checkpoint.Origin())))
        lingered = self.agent.now.inventory.leftovers.lingering & self.ground.cpus.keys()
        self._begin()
        if remembers:
            ledger = restoring.fit(saved.ledger, self.agent.now.terms)[0]
            self.agent.now = dataclasses.replace(self.agent.now, ledger=ledger)
            self.reconnect(saved)
            assert self.agent.now.inventory.leftovers.lingering == lingered
            self.reached["leftovers found again"] += len(lingered)
        else:
            self.reconnect()
        self._check_kept(before)

    def _check_kept(self, before: desired.Desired) -> None:
        """Whoever was on its own CPUs keeps them, where all are online and the configuration is the first.

        But for one that has kept the size of a resize which was refused, because it could not be taken back
        (`reverting.revert`): the runtime knows nothing of that size.
        """
        self.reached["restarts"] += 1
        after = desired.desired(self.agent.now)
        for id_, was in before.items():
            if id_ not in self.ground.cpus:
                continue
            its_own = was.owner is not None and self.ground.cpus[id_] == was.cpus
            what = self.agent.now.ledger.intents[id_]
            if what.kind is intent.Kind.INTEGER and len(was.cpus) != what.count:
                self.reached["a size that the runtime does not know"] += 1
                continue
            if its_own and self.config == self._booted and len(self.ground.online) == self.shape.cpus:
                assert after[id_].cpus == was.cpus
                self.reached["keeps its CPUs through a restart"] += 1

    # The end.

    def settle(self) -> None:
        """All faults end: two passes later everything is as it should be, and a third one writes nothing."""
        if not self.agent.now.pool:
            self.ground.online = CpuSet(range(self.shape.cpus))
        self.heal()
        for id_ in list(self.unborn):
            if id_ in self.unborn:
                self.bear(id_)
        self.agent.everything()
        if not self.agent.now.pool:
            return
        wanted = desired.desired(self.agent.now)
        assert witness.misplaced(self.ground, wanted) == {}
        assert list(witness.trespasses(self.ground, wanted, witness.kin(self.agent.now, wanted))) == []
        assert self.agent.everything().results == ()
        now, again = self.agent.now.ledger, lifecycle.retry(self.agent.now).ledger
        assert (again.claims, set(again.unsatisfied)) == (now.claims, set(now.unsatisfied))

    def clear(self) -> None:
        """All pods end, then all that lingers, and nothing is left of them."""
        for name in list(self.pods):
            self.end(name)
        for id_ in sorted(self.ground.stubborn):
            self.let_go(id_)
        now = self.agent.now
        ledger = dataclasses.replace(now.ledger, former=state.Ledger().former)
        assert dataclasses.replace(now, ledger=ledger) == state.State(terms=now.terms)
        assert self.ground.cpus == {}
