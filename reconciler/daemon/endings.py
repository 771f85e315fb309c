"""What the runtime says has ended, and what of it is alive nevertheless. On asyncio. PRD 6.8, ADR 0024.

Whoever ends is looked at once, in the event loop, for what is decided next depends on it: one failed open
as a rule, for the runtime tells of an end when the cgroup is gone. What lingers is looked at again in a
thread, when its cgroup tells of a change and with every period, until its last process has ended. That is
told to the policy as the end that it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping

from reconciler import events, intent, inventory
from reconciler.daemon import adoption, current, departed, passes, telling, watching
from reconciler.host import survivors
from reconciler.policy import lifecycle, state

_Alive = frozenset[events.ContainerId]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What this works with. `current` holds the state, `period` gives the seconds between two looks at what
    lingers."""

    host: survivors.Survivors
    passes: passes.Passes
    watching: watching.Watching
    tell: telling.Teller
    current: current.Current
    period: Callable[[], float]


class Endings:
    """Absorbs events; knows which of the leftovers have been told of."""

    def __init__(self, means: Means) -> None:
        self._its = means
        self._told: set[events.ContainerId] = set()
        self._wake = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        means.watching.on_population = self.signalled
        self._departed = departed.Departed(means.host, self.pod_stopped, means.tell.failed, means.period)

    def absorb(self, event: events.Event) -> None:
        """What has happened is so; second chances follow where somebody may have left CPUs to others."""
        before = self._its.current.now
        after = lifecycle.absorb(before, event, self._alive(before, event))
        stopped = isinstance(event, events.ContainerStopped)  # others of its pod may have its CPUs
        if after.ledger.unsatisfied and (stopped or after.ledger.claims is not before.ledger.claims):
            after = lifecycle.retry(after)
        self._its.current.become(after)
        self._follow(before, after)

    def synchronized(self, event: events.Synchronized, adoption_: adoption.Adoption) -> None:
        """Takes a full list; whoever was known, before the agent's start too, and is not in it has ended, and
        so has a pod in it whose cgroup is gone."""
        event = self._departed.without(event)
        before = self._its.current.now
        known = dataclasses.replace(before, inventory=adoption_.known)
        after = adoption_.named(lifecycle.absorb(known, event, self._alive(known, event)))
        self._its.current.become(after)
        for id_, container in before.inventory.containers.items():
            if id_ not in after.inventory.containers:
                self._forget(container)
        for container in after.inventory.containers.values():
            self._its.watching.follow(container)
        self._follow(before, after)

    def stopped(self, event: events.ContainerStopped | events.ContainerRemoved) -> None:
        """The claim stays until the record or the pod is gone, and all processes are."""
        self.absorb(event)
        if event.container.id not in self._lingering:
            self._forget(event.container)

    def pod_stopped(self, event: events.PodStopped | events.PodRemoved) -> None:
        """The pod's claims end, but for those of which a process is alive."""
        known = self._its.current.now.inventory
        members = [known.containers[id_] for id_ in known.members.get(event.sandbox, ())]
        self.absorb(event)
        for container in members:
            if container.id not in self._lingering:
                self._forget(container)

    def signalled(self, ids: Iterable[events.ContainerId]) -> None:
        """Something has happened to the processes of these containers, or to their cgroups."""
        if self._lingering and not self._lingering.isdisjoint(ids):
            self._wake.set()

    @property
    def _lingering(self) -> _Alive:
        return self._its.current.now.inventory.leftovers.lingering

    def _alive(self, known: state.State, event: events.Event) -> _Alive:
        """Of the containers that the event ends, those of which a process is alive."""
        return frozenset(
            its.id
            for its in inventory.ended_by(known.inventory, event)
            if its.cgroup is not None
            and _is_managed(known.ledger, its.id)
            and self._its.host.is_populated(its.cgroup)
        )

    def _forget(self, container: events.Container) -> None:
        if container.cgroup is not None:
            self._its.watching.unwatch(container.id, container.cgroup)
        self._its.passes.forget(container.id, container.cgroup)

    def _follow(self, before: state.State, after: state.State) -> None:
        was, left = before.inventory.leftovers.lingering, after.inventory.leftovers.lingering
        if was == left:
            return
        for id_ in (was - left) & self._told:
            self._told.remove(id_)
            if id_ not in after.inventory.containers:
                self._its.tell.claim_ended(before, id_)
        if left - was:
            self._wake.set()
            if self._looking is None:
                self._looking = asyncio.get_running_loop().create_task(self._look(), name="leftovers")

    async def _look(self) -> None:
        """Look at what lingers, again and again, while anything does."""
        try:
            while self._lingering:
                self._wake.clear()
                await self._look_once()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._its.period()):
                        await self._wake.wait()
        finally:
            self._looking = None

    async def _look_once(self) -> None:
        now = self._its.current.now
        groups = {id_: now.inventory.containers[id_].cgroup for id_ in sorted(self._lingering)}
        try:
            pids = await asyncio.to_thread(self._pids, groups)
            self._saw({id_: pid for id_, pid in pids.items() if pid is not None})
            for id_ in [id_ for id_, pid in pids.items() if pid is None and id_ in self._lingering]:
                self.stopped(_end(self._its.current.now, id_))
        except Exception as error:  # noqa: BLE001  it must be looked at again, whatever broke it off
            self._its.tell.failed("leftovers", error)

    def _pids(self, groups: Mapping[events.ContainerId, str | None]) -> dict[events.ContainerId, int | None]:
        return {id_: self._its.host.one_in(path) for id_, path in groups.items() if path is not None}

    def _saw(self, pids: Mapping[events.ContainerId, int]) -> None:
        now = self._its.current.now
        known = inventory.seen(now.inventory, pids)
        if known is not now.inventory:
            now = dataclasses.replace(now, inventory=known)
            self._its.current.become(now)
        for id_ in (now.inventory.leftovers.forgotten & pids.keys()) - self._told:
            self._told.add(id_)
            self._its.tell.claim_lingers(now, id_)


def _is_managed(ledger: state.Ledger, id_: events.ContainerId) -> bool:
    what = ledger.intents.get(id_)
    return what is not None and what.kind is not intent.Kind.UNMANAGED


def _end(now: state.State, id_: events.ContainerId) -> events.ContainerStopped | events.ContainerRemoved:
    """The end of one that lingers, as the runtime told it."""
    container = now.inventory.containers[id_]
    pod = now.pod_of(container)
    if id_ in now.inventory.leftovers.forgotten:
        return events.ContainerRemoved(pod=pod, container=container)
    return events.ContainerStopped(pod=pod, container=container)
