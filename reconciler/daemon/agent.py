"""The agent's decisions: what each hook of the runtime is answered, and which passes follow. On asyncio.

The state is a value that is replaced here and nowhere else, in the event loop's thread. `create` decides and
is answered at once; the pool shrinks meanwhile. `start` is the gate: it is answered when the kernel says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable

from reconciler import errors, events, intent, observed, report
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.daemon import answers, passes, telling, watching
from reconciler.policy import desired, lifecycle, state
from reconciler.runtime.nri import handler

_UNADJUSTED = handler.Adjustment()


class Agent:
    """Implements `runtime.nri.handler.Handler`."""

    def __init__(
        self,
        terms: state.Terms,
        config: schema.Config,
        watching_: watching.Watching,
        tell: telling.Teller,
        *,
        dry: bool = False,
    ) -> None:
        """With `dry`, every container is let through as it is."""
        self.state = state.State(terms=terms)
        self.mode = "none"
        self.reason = "no runtime has connected yet"
        self._config = config
        self._passes: passes.Passes
        self._watching = watching_
        self._tell = tell
        self._dry = dry
        self._adopting: asyncio.Task[None] | None = None
        self._adopted = False
        self._awaits_list = False
        self._given_up: set[events.ContainerId] = set()

    def attach(self, its_passes: passes.Passes) -> None:
        """Make passes with these; once, before the first event."""
        self._passes = its_passes

    @property
    def busy(self) -> bool:
        """Whether something is still on its way: the first list, its adoption, or a pass."""
        return not self._adopted or self._awaits_list or self._adopting is not None or self._passes.busy

    def renew(self, topology: topologies.Topology, config: schema.Config) -> None:
        """Go on under another topology or configuration; what runs is never refused, only followed up."""
        self._config = config
        terms = state.terms(topology, config)
        if terms != self.state.terms:
            self._become(lifecycle.retry(dataclasses.replace(self.state, terms=terms)))
            self._passes.everything()

    def connected(self, peer: handler.Peer) -> None:
        """As `Handler.connected`: what is known may be out of date until the list comes."""
        self._awaits_list = True
        self._set_mode("nri", f"{peer.runtime} {peer.version}, NRI {peer.level}")

    def disconnected(self, reason: str) -> None:
        """As `Handler.disconnected`: claims and passes go on with what is known."""
        self._awaits_list = False
        self._set_mode("none", reason)

    def synchronized(self, event: events.Synchronized, peer: handler.Peer) -> None:  # noqa: ARG002
        """As `Handler.synchronized`: takes the runtime's list, then adopts what is new in it."""
        self._awaits_list = False
        before = self.state
        self._become(lifecycle.absorb(before, event))
        for id_, container in before.inventory.containers.items():
            if id_ not in self.state.inventory.containers:
                self._forget(id_, container.cgroup)
        for container in self.state.inventory.containers.values():
            self._watch(container)
        if self._adopting is not None:
            self._adopting.cancel()
        self._adopting = asyncio.get_running_loop().create_task(self._adopt(), name="adoption")

    async def _adopt(self) -> None:
        """Give every container that is new an intent, and a claim if it can have one."""
        me = asyncio.current_task()
        pause = report.FIRST_RETRY_SECONDS
        try:
            while not await self._has_adopted():
                await asyncio.sleep(pause)
                pause = min(pause * 2, report.LAST_RETRY_SECONDS)
        finally:
            if self._adopting is me:
                self._adopting = None

    async def _has_adopted(self) -> bool:
        """One attempt. Until one succeeds nobody is placed: what runs may hold any CPU."""
        now = self.state
        new = [id_ for id_ in now.inventory.containers if id_ not in now.ledger.intents]
        try:
            looks = await self._passes.looks(now, new)
            self._become(lifecycle.retry(lifecycle.adopt(self.state, observed.asked_for(looks))))
        except Exception as error:  # noqa: BLE001  it must be tried again, whatever broke it off
            self._tell.failed("adoption", error)
            return False
        self._adopted = True
        self._tell.adopted(self.state, new)
        self._passes.everything()
        return True

    async def _adoption(self) -> None:
        """Return when no adoption is under way."""
        while self._adopting is not None:
            await asyncio.wait([self._adopting])

    def create(
        self, event: events.ContainerCreating
    ) -> handler.Adjustment | asyncio.Future[handler.Adjustment]:
        """As `Handler.create`: decides on the spot, or right after an adoption that is under way."""
        if self._adopting is not None and not self._dry:
            return asyncio.ensure_future(self._create_later(event))
        return self._create(event)

    async def _create_later(self, event: events.ContainerCreating) -> handler.Adjustment:
        await self._adoption()
        if self._has_given_up(event.container.id):
            return _UNADJUSTED
        return self._create(event)

    def _create(self, event: events.ContainerCreating) -> handler.Adjustment:
        loop = asyncio.get_running_loop()
        before = self.state
        try:
            self.state, placement, what = lifecycle.admit(before, event)
        except errors.Refused as refused:
            loop.call_soon(self._tell.refused, event, str(refused))
            if self._dry:
                self.state = lifecycle.absorb(before, event)
                return _UNADJUSTED
            raise
        loop.call_soon(self._admitted, before, self.state, event, placement, what)
        return _UNADJUSTED if self._dry else answers.adjustment(placement)

    def _admitted(
        self,
        before: state.State,
        after: state.State,
        event: events.ContainerCreating,
        placement: desired.Placement,
        what: intent.Intent,
    ) -> None:
        """What follows a creation, after it was answered."""
        self._tell.admitted(after, event, placement, what)
        if before.ledger.exclusive != after.ledger.exclusive:
            self._passes.everything(hook=True)

    def start(self, event: events.ContainerStarting) -> asyncio.Future[None]:
        """As `Handler.start`: the gate between a container's birth and its first instruction."""
        return asyncio.ensure_future(self._start(event))

    async def _start(self, event: events.ContainerStarting) -> None:
        await self._adoption()
        id_ = event.container.id
        if self._has_given_up(id_):
            return
        self._absorb(event)
        self._watch(self.state.inventory.containers[id_])
        verdict = await self._passes.gate(id_)
        if verdict and not self._dry:
            self._tell.held_up(self.state, id_, verdict)
            raise errors.Refused(verdict)

    def update(
        self, event: events.ContainerUpdating
    ) -> handler.Adjustment | asyncio.Future[handler.Adjustment]:
        """As `Handler.update`: always the container's own cpuset, or the runtime would write a stale one.

        Which one that is shows only when what runs was looked at, so it waits for an adoption."""
        if self._adopting is not None and not self._dry:
            return asyncio.ensure_future(self._update_later(event))
        return self._update(event)

    async def _update_later(self, event: events.ContainerUpdating) -> handler.Adjustment:
        await self._adoption()
        return self._update(event)

    def _update(self, event: events.ContainerUpdating) -> handler.Adjustment:
        self._absorb(event)
        placement = self._placement(event.container.id)
        if placement is None or self._dry:
            return _UNADJUSTED
        return answers.adjustment(placement)

    def stopped(self, event: events.ContainerStopped) -> None:
        """As `Handler.stopped`: the claim stays until the record or the pod is gone."""
        self._absorb(event)
        self._forget(event.container.id, event.container.cgroup)

    def removed(self, event: events.ContainerRemoved) -> None:
        """As `Handler.removed`."""
        self._absorb(event)
        self._forget(event.container.id, event.container.cgroup)

    def pod_started(self, event: events.PodStarted) -> None:
        """As `Handler.pod_started`: its pause container is confined like any shared one."""
        self._absorb(event)
        pause = self.state.inventory.containers.get(events.ContainerId(event.pod.sandbox))
        if pause is not None:
            self._watch(pause)
            self._passes.some((pause.id,), hook=True)

    def pod_stopped(self, event: events.PodStopped) -> None:
        """As `Handler.pod_stopped`: the pod's claims end."""
        self._end_pod(event)

    def pod_removed(self, event: events.PodRemoved) -> None:
        """As `Handler.pod_removed`."""
        self._end_pod(event)

    def guard(self, event: events.Event) -> handler.Adjustment | None:
        """As `Handler.guard`: an exclusive container is refused, unless `onGuard` is `admit`; a shared one
        gets the last known pool."""
        if self._dry:
            return None
        match event:
            case events.ContainerUpdating(container=container):
                placement = self._placement(container.id)
                return None if placement is None else answers.adjustment(placement)
            case events.ContainerCreating(pod=pod, container=container):
                pool = handler.Adjustment(cpus=str(self.state.pool))
            case events.ContainerStarting(pod=pod, container=container):
                pool = _UNADJUSTED
            case _:
                return None
        if intent.decide(pod, container, self._config).kind is intent.Kind.SHARED or self._config.on_guard == "admit":
            return pool
        if self._adopting is not None:
            # Its hook still waits for the adoption, and must not place what the runtime has given up by then.
            self._given_up.add(container.id)
        raise errors.Refused("the node's CPUs could not be made ready in time; it will be tried again")

    def _has_given_up(self, id_: events.ContainerId) -> bool:
        given_up = id_ in self._given_up
        self._given_up.discard(id_)
        return given_up

    def _absorb(self, event: events.Event) -> None:
        before = self.state
        after = lifecycle.absorb(before, event)
        if after.ledger.unsatisfied and after.ledger.claims is not before.ledger.claims:
            after = lifecycle.retry(after)
        self._become(after)

    def _become(self, after: state.State) -> None:
        before, self.state = self.state, after
        if before.ledger.exclusive != after.ledger.exclusive and self._adopted:
            self._passes.everything(hook=True)

    def _end_pod(self, event: events.PodStopped | events.PodRemoved) -> None:
        inventory = self.state.inventory
        members = [inventory.containers[id_] for id_ in inventory.members.get(event.sandbox, ())]
        self._absorb(event)
        for container in members:
            self._forget(container.id, container.cgroup)

    def _placement(self, id_: events.ContainerId) -> desired.Placement | None:
        return desired.desired(self.state, (id_,)).get(id_)

    def _watch(self, container: events.Container) -> None:
        if container.cgroup is not None and container.phase is not events.Phase.STOPPED:
            self._watching.watch(container.id, container.cgroup)

    def _forget(self, id_: events.ContainerId, cgroup: str | None) -> None:
        if cgroup is not None:
            self._watching.unwatch(id_, cgroup)
        self._passes.forget(id_, cgroup)

    def _set_mode(self, mode: str, reason: str) -> None:
        if (mode, reason) != (self.mode, self.reason):
            self.mode, self.reason = mode, reason
            self._tell.mode(mode, reason)

    def signalled(self, ids: Iterable[events.ContainerId], at: float) -> None:
        """Someone, maybe we, wrote to the cpusets of these containers."""
        self._passes.signalled(ids, at)

    def overflowed(self) -> None:
        """Events were lost: look at everything."""
        self._passes.everything()
