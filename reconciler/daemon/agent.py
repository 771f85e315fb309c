"""The agent's decisions: what each hook of the runtime is answered, and which passes follow. On asyncio.

`create` decides and is answered at once; the pool shrinks meanwhile. `start` is the gate: it is answered when
the kernel says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable

from reconciler import errors, events, intent, inventory
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.daemon import (
    adoption,
    answers,
    current,
    endings,
    guard,
    passes,
    telling,
    transaction,
    watching,
)
from reconciler.host import survivors
from reconciler.policy import checkpoint, desired, lifecycle, moving, resizing
from reconciler.policy import state as states
from reconciler.runtime.nri import handler

_UNADJUSTED = handler.Adjustment()
_ANNOTATED = (intent.Kind.ANNOTATED_EXCLUSIVE, intent.Kind.ANNOTATED_SHARED)


class Agent:
    """Implements `runtime.nri.handler.Handler`."""

    def __init__(
        self,
        terms: states.Terms,
        config: schema.Config,
        watching_: watching.Watching,
        tell: telling.Teller,
        *,
        dry: bool = False,
    ) -> None:
        """With `dry`, every container is let through as it is."""
        self.current = current.Current(states.State(terms=terms), tell, self._exclusive_changed)
        self.mode = "none"
        self.reason = "no runtime has connected yet"
        self._config = config
        self._passes: passes.Passes
        self._adoption: adoption.Adoption
        self._endings: endings.Endings
        self._transactions: transaction.Transactions
        self._watching = watching_
        self._tell = tell
        self._dry = dry
        self._awaits_list = False
        self._guard = guard.Guard(tell.counters)

    def attach(
        self,
        its_passes: passes.Passes,
        host: survivors.Survivors,
        saved: checkpoint.Saved | None = None,
    ) -> None:
        """Make passes with these, and go on with what was saved; once, before the first event."""
        self._passes = its_passes
        self._adoption = adoption.Adoption(its_passes, self._guard, self.current, self._tell)
        self._endings = endings.Endings(
            endings.Means(
                host=host,
                passes=its_passes,
                watching=self._watching,
                tell=self._tell,
                current=self.current,
                period=lambda: self._config.pass_interval_seconds,
            )
        )
        if saved is not None:
            self._adoption.remember(saved)
        self._transactions = transaction.Transactions(its_passes, self._guard, self.current, self._tell)

    @property
    def state(self) -> states.State:
        """What everything that is decided is decided by."""
        return self.current.now

    @property
    def settled(self) -> states.State | None:
        """The state; None while it is not whole, or may be taken back."""
        return None if self._adoption.unfinished or self._guard.busy else self.state

    @property
    def known(self) -> inventory.Inventory:
        """Who is on the node, by name; before the first list, who was when that was saved."""
        return self._adoption.known

    @property
    def busy(self) -> bool:
        """Whether something is still on its way: the first list, its adoption, or a pass."""
        waits = self._adoption.unfinished or self._awaits_list
        return waits or self._guard.busy or self._passes.busy

    def renew(self, topology: topologies.Topology, config: schema.Config) -> None:
        """Go on under another topology or configuration; what runs is never refused, only followed up."""
        self._config = config
        terms = states.terms(topology, config)
        if terms != self.state.terms:
            self.current.become(lifecycle.retry(dataclasses.replace(self.state, terms=terms)))
            self._passes.everything()

    def connected(self, peer: handler.Peer) -> None:
        """As `Handler.connected`: what is known may be out of date until the list comes."""
        self._awaits_list = True
        self.set_mode("nri", f"{peer.runtime} {peer.version}, NRI {peer.level}")

    def disconnected(self, reason: str) -> None:
        """As `Handler.disconnected`: claims and passes go on with what is known."""
        self._awaits_list = False
        self.set_mode("none", reason)

    def synchronized(self, event: events.Synchronized, peer: handler.Peer | None = None) -> None:  # noqa: ARG002
        """As `Handler.synchronized`: takes the runtime's list, then adopts what is new in it."""
        self._awaits_list = False
        self._endings.synchronized(event, self._adoption)
        self._adoption.begin()

    def create(self, event: events.ContainerCreating) -> answers.Answer:
        """As `Handler.create`: decides on the spot, or right after an adoption that is under way."""
        return self._create(event) if self._dry else self._adoption.then(self._create, event)

    def _create(self, event: events.ContainerCreating) -> answers.Answer:
        loop = asyncio.get_running_loop()
        before = self.state
        try:
            after, placement, what = lifecycle.admit(before, event)
            if what.kind in intent.CLAIMING:
                self._transactions.refuse_beside_another(event.pod.uid)
        except errors.Refused as refused:
            loop.call_soon(self._tell.refused, event, refused)
            if self._dry:
                self.current.put(lifecycle.absorb(before, event))
                return _UNADJUSTED
            raise
        self.current.put(after)
        if what.kind in _ANNOTATED and not self._dry:
            step = transaction.Transaction(before=before, after=after, id_=event.container.id)
            if step.moves:
                self._transactions.begin(step)
                return asyncio.ensure_future(self._create_with_moves(step, event, placement, what))
        loop.call_soon(self._admitted, before, after, event, placement, what)
        return _UNADJUSTED if self._dry else answers.adjustment(placement)

    async def _create_with_moves(
        self,
        step: transaction.Transaction,
        event: events.ContainerCreating,
        placement: desired.Placement,
        what: intent.Intent,
    ) -> handler.Adjustment:
        """The answer once everyone who has to move has moved; a refusal once everyone is back."""
        try:
            await self._transactions.carry_out(step, f"CPUs {placement.cpus} could not be freed")
        except errors.Refused as refused:
            self._tell.refused(event, refused)
            raise
        self._admitted(step.before, step.after, event, placement, what)
        return answers.adjustment(placement)

    def _admitted(
        self,
        before: states.State,
        after: states.State,
        event: events.ContainerCreating,
        placement: desired.Placement,
        what: intent.Intent,
    ) -> None:
        """What follows a creation, after it was answered."""
        self._tell.admitted(after, event, placement, what)
        if self._dry:
            self._tell.moved(moving.moves(before.ledger, after.ledger), after.ledger)
        if before.ledger.exclusive != after.ledger.exclusive:
            self._passes.everything(hook=True)
        self.current.become(lifecycle.retry(self.state))

    def start(self, event: events.ContainerStarting) -> asyncio.Future[None]:
        """As `Handler.start`: the gate between a container's birth and its first instruction."""
        return asyncio.ensure_future(self._start(event))

    async def _start(self, event: events.ContainerStarting) -> None:
        await self._adoption.wait()
        id_ = event.container.id
        if self._guard.has_given_up(id_):
            return
        self._endings.absorb(event)
        self._watching.follow(self.state.inventory.containers[id_])
        verdict = await self._passes.gate(id_)
        if verdict and not self._dry:
            self._tell.held_up(self.state, id_, verdict)
            raise errors.Refused(verdict, "writes")

    def update(self, event: events.ContainerUpdating) -> answers.Answer:
        """As `Handler.update`: the container's own cpuset, lest the runtime write a stale one."""
        return self._update(event) if self._dry else self._adoption.then(self._update, event)

    def _update(self, event: events.ContainerUpdating) -> answers.Answer:
        id_ = event.container.id
        if self._dry or id_ not in self.state.ledger.intents or not resizing.is_resize(event):
            self._endings.absorb(event)
            return self._present(id_)
        before = self.state
        try:
            self._transactions.refuse_beside_another(event.pod.uid)
            after = resizing.resize(before, event)
        except errors.Refused as refused:
            self._tell.resize_refused(before, id_, refused)
            raise
        if after.ledger.claims is before.ledger.claims:
            self.current.become(after)
            return self._present(id_)
        self.current.put(after)
        step = transaction.Transaction(before=before, after=after, id_=id_)
        self._transactions.begin(step)
        return asyncio.ensure_future(self._resize(step))

    async def _resize(self, step: transaction.Transaction) -> handler.Adjustment:
        """The answer once the container has its new CPUs, and nobody else has them."""
        try:
            await self._transactions.carry_out(step, "the resize could not be carried out")
        except errors.Refused as refused:
            self._tell.resize_refused(step.before, step.id_, refused)
            raise
        self._tell.resized(step.before, step.after, step.id_)
        self.current.become(lifecycle.retry(self.state))
        return self._present(step.id_)

    def _present(self, id_: events.ContainerId) -> handler.Adjustment:
        placement = None if self._dry else desired.desired(self.state, (id_,)).get(id_)
        return _UNADJUSTED if placement is None else answers.adjustment(placement)

    async def appeared(self, event: events.ContainerCreating | events.ContainerStarting) -> None:
        """A container is there, and nobody asked: it gets what can be had, and is never refused."""
        await self._adoption.wait()
        is_new = event.container.id not in self.state.ledger.intents
        self._found(event, event.container.id)
        if is_new:
            self._tell.appeared(self.state, event.container.id)

    def stopped(self, event: events.ContainerStopped | events.ContainerRemoved) -> None:
        """As `Handler.stopped` and `removed`: the claim stays until the record or the pod is gone."""
        self._endings.stopped(event)

    removed = stopped

    def pod_started(self, event: events.PodStarted) -> None:
        """As `Handler.pod_started`: its pause container is confined like any shared one."""
        self._found(event, events.ContainerId(event.pod.sandbox))

    def pod_stopped(self, event: events.PodStopped | events.PodRemoved) -> None:
        """As `Handler.pod_stopped` and `pod_removed`: the pod's claims end."""
        self._endings.pod_stopped(event)

    pod_removed = pod_stopped

    def _found(self, event: events.Event, id_: events.ContainerId) -> None:
        self._endings.absorb(event)
        if (container := self.state.inventory.containers.get(id_)) is not None:
            self._watching.follow(container)
            self._passes.some((id_,), hook=True)

    def guard(self, event: events.Event) -> handler.Adjustment | None:
        """As `Handler.guard`."""
        if self._dry:
            return None
        return self._guard.answer(event, self.state, self._config, adopting=self._adoption.under_way)

    def _exclusive_changed(self) -> None:
        if self._adoption.done:
            self._passes.everything(hook=True)

    def set_mode(self, mode: str, reason: str) -> None:
        """The door to the runtime is `nri`, `cri` or `none` now, for this reason."""
        if (mode, reason) != (self.mode, self.reason):
            self.mode, self.reason = mode, reason
            self._tell.mode(mode, reason)

    def signalled(self, ids: Iterable[events.ContainerId], at: float) -> None:
        """Someone, maybe we, wrote to the cpusets of these containers, or they are gone."""
        ids = frozenset(ids)
        self._passes.signalled(ids, at)
        self._endings.signalled(ids)

    def overflowed(self) -> None:
        """Events were lost: look at everything."""
        self._passes.everything()
