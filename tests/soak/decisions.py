"""The agent's decisions and passes, one after the other: as `daemon.agent` makes them, without asyncio.

Policy, walker, book and gate are the real ones. What is judged here: each state and each step to the next,
each write, each pass without failures, and what refusing and taking back leave behind.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

from reconciler import diff, errors, events, inventory, observed, plan, report
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.daemon import transaction, walk
from reconciler.host import cgroupfs
from reconciler.policy import checkpoint, desired, lifecycle, resizing, restoring, reverting, state
from tests.soak import invariants, kernel, tally, witness


class Silence:
    """A `walk.Tell` that writes no log."""

    def passed(self, now: state.State, done: walk.Done) -> None:
        """As `walk.Tell.passed`."""

    def planned(self, now: state.State, pass_id: int, steps: plan.Plan) -> None:
        """As `walk.Tell.planned`."""


def nothing() -> None:
    """What happens meanwhile in a calm moment."""


@dataclass(slots=True)
class Agent:
    """Lives until it is restarted; `mask` chooses containers, whose part is compared with the whole."""

    now: state.State
    ground: kernel.Kernel
    reached: Counter[str]
    mask: int = 0
    book: report.Book = field(default_factory=report.Book, init=False)
    walker: walk.Walker = field(init=False)
    gone: list[walk.Gone] = field(default_factory=list, init=False)
    time: float = field(default=0.0, init=False)
    """Seconds. So many go by from pass to pass that no two drifts make a conflict, in which repairs wait."""
    steps: int = field(default=0, init=False)
    """Counts what has changed the state: whether anything came in between."""

    def __post_init__(self) -> None:
        tree = cast("cgroupfs.Cgroupfs", self.ground)
        self.walker = walk.Walker(tree, self.book, Silence(), clock=lambda: self.time)

    def create(
        self, event: events.ContainerCreating, meanwhile: Callable[[], None] = nothing
    ) -> desired.Placement | None:
        """Where the container is to be born, or None where it is refused."""
        before, files = self.now, dict(self.ground.cpus)
        try:
            after, placement, what = lifecycle.admit(before, event)
        except errors.Refused as refused:
            self.reached["refused"] += 1
            self.reached["refused for a ceiling"] += "maxExclusiveCpus" in str(refused)
            assert (self.now, self.ground.cpus) == (before, files)
            return None
        step = transaction.Transaction(before=before, after=after, id_=event.container.id)
        if step.moves:
            tally.moves(self.reached, step)
            self._become(after, follow=False)
            if not self._carried_out(step, meanwhile):
                self.reached["creation taken back"] += 1
                return None
        else:
            self._become(after)
        self._retry()
        self.reached[f"granted {what.kind.value}"] += 1
        tally.granted(self.reached, before, after, event, what)
        return placement

    def start(self, event: events.ContainerStarting) -> str:
        """Why the container must not start, or ""."""
        self.absorb(event)
        return self.everything_or(frozenset(), gates=(event.container.id,)).verdicts[event.container.id]

    def resize(self, event: events.ContainerUpdating, meanwhile: Callable[[], None] = nothing) -> bool:
        """Whether the container has its new size."""
        before, files = self.now, dict(self.ground.cpus)
        try:
            after = resizing.resize(before, event)
        except errors.Refused:
            self.reached["resize refused"] += 1
            assert (self.now, self.ground.cpus) == (before, files)
            return False
        if after.ledger.claims is before.ledger.claims:
            self._become(after)
            return True
        self._become(after, follow=False)
        step = transaction.Transaction(before=before, after=after, id_=event.container.id)
        if not self._carried_out(step, meanwhile):
            self.reached["resize taken back"] += 1
            return False
        tally.resized(self.reached, before, after, event)
        self._retry()
        return True

    def absorb(self, event: events.Event) -> None:
        """What has happened is so; second chances follow where claims have changed."""
        before = self.now
        after = lifecycle.absorb(before, event, self._alive(before, event))
        stopped = isinstance(event, events.ContainerStopped)
        if after.ledger.unsatisfied and (stopped or after.ledger.claims is not before.ledger.claims):
            after = lifecycle.retry(after)
        self._become(after)

    def _alive(self, known: state.State, event: events.Event) -> frozenset[events.ContainerId]:
        """Of those that the event ends, whoever has a process: whose group is there."""
        ending = inventory.ended_by(known.inventory, event)
        alive = frozenset(its.id for its in ending if its.id in self.ground.cpus)
        self.reached["ends that are not over"] += len(alive)
        return alive

    def look_at_leftovers(self) -> None:
        """What lingers and has no process any more has ended, as the runtime had told."""
        left = self.now.inventory.leftovers
        for id_ in sorted(left.lingering - self.ground.cpus.keys()):
            its = self.now.inventory.containers[id_]
            ending = events.ContainerRemoved if id_ in left.forgotten else events.ContainerStopped
            self.absorb(ending(pod=self.now.pod_of(its), container=its))
            self.forget(its)
            self.reached["leftovers that are over"] += 1

    def end_pod(self, event: events.PodStopped | events.PodRemoved) -> None:
        """A pod has ended, and all its containers with it."""
        known = self.now.inventory
        members = [known.containers[id_] for id_ in known.members.get(event.sandbox, ())]
        self.absorb(event)
        for container in members:
            self.forget(container)

    def synchronized(self, event: events.Synchronized, saved: checkpoint.Saved | None = None) -> None:
        """Takes the runtime's list, which confirms what was saved, then adopts what is new in it."""
        before = self.now
        known = before if saved is None else dataclasses.replace(before, inventory=saved.inventory)
        after = lifecycle.absorb(known, event, self._alive(known, event))
        if saved is not None:
            after = restoring.confirm(after, saved.shares)
        self._become(after, follow=False, whole=False, since=before)
        for id_, container in before.inventory.containers.items():
            if id_ not in self.now.inventory.containers:
                self.forget(container)
        new = [id_ for id_ in self.now.inventory.containers if id_ not in self.now.ledger.intents]
        looks = self.walker.look(self.now, new)
        self._become(lifecycle.retry(lifecycle.adopt(self.now, observed.asked_for(looks))), follow=False)
        self.everything()

    def renew(self, topology: topologies.Topology, config: schema.Config) -> None:
        """Goes on under another topology or configuration."""
        terms = state.terms(topology, config)
        if terms != self.now.terms:
            self._become(lifecycle.retry(dataclasses.replace(self.now, terms=terms)), follow=False)
            self.everything()

    def forget(self, container: events.Container) -> None:
        """Lets the next pass forget a container that has ended, unless it lingers."""
        if container.id not in self.now.inventory.leftovers.lingering:
            self.gone.append((container.id, container.cgroup))

    def everything(self, gates: Iterable[events.ContainerId] = ()) -> walk.Done:
        """A pass over all containers."""
        return self.everything_or(None, gates)

    def everything_or(
        self, scope: frozenset[events.ContainerId] | None, gates: Iterable[events.ContainerId] = ()
    ) -> walk.Done:
        """A pass over all containers, or those of `scope` and `gates`; judged write by write."""
        wanted = desired.desired(self.now)
        if scope is None:
            self._compare_a_part_with_the_whole()
        looked_at = None if scope is None else {*scope, *gates}
        kin = witness.kin(self.now, wanted)
        self.ground.watch = witness.Witness(self.ground, wanted, kin, looked_at).wrote
        self.time += 1000.0
        done = self.walker.run(
            self.now, walk.Request(scope=scope, gates=frozenset(gates), gone=tuple(self.gone))
        )
        self.gone.clear()
        tally.passed(self.reached, done)
        if scope is None and self.now.pool and not any(its.failed or its.gone for its in done.results):
            assert witness.misplaced(self.ground, wanted) == {}
            assert list(witness.trespasses(self.ground, wanted, kin)) == []
        for id_, verdict in done.verdicts.items():
            if not verdict:
                self._check_gate(id_, wanted)
        return done

    def _check_gate(self, id_: events.ContainerId, wanted: desired.Desired) -> None:
        """Whoever passes the gate has its own CPUs, and is on nobody else's."""
        want = wanted.get(id_)
        if want is None or id_ not in self.ground.cpus:
            return
        if want.owner is not None:
            assert self.ground.cpus[id_] == want.cpus
        else:
            assert (self.ground.reach(id_) & self.now.ledger.exclusive) <= want.cpus

    def _carried_out(self, step: transaction.Transaction, meanwhile: Callable[[], None]) -> bool:
        """Whether the step, which is in force already, could be made; if not it is taken back."""
        verdicts = self.everything(step.concerned()).verdicts
        count = self.steps
        meanwhile()
        if not any(verdicts.values()):
            return True
        back = reverting.revert(self.now, step.before, step.after, step.id_)
        if self.steps == count:
            assert back == step.before, "a step that was taken back left something behind"
        else:
            self.reached["taken back after something else"] += 1
        self._become(back, follow=False, chosen=False, since=step.before)
        self._retry()
        self.everything(step.concerned())
        return False

    def _retry(self) -> None:
        """Second chances, where somebody may have left CPUs to others."""
        if self.now.ledger.unsatisfied:
            self._become(lifecycle.retry(self.now))

    def _become(
        self,
        after: state.State,
        *,
        follow: bool = True,
        whole: bool = True,
        chosen: bool = True,
        since: state.State | None = None,
    ) -> None:
        """Goes on from `after`; with `follow` a pass is made where exclusive CPUs have changed.

        `whole` says whether the state is one that passes may see, `chosen` whether claims have only CPUs that
        were chosen now, or had before, `since` what the pool is compared with.
        """
        before, self.now = self.now, after
        self.steps += 1
        invariants.check_leftovers(before, after)
        invariants.check_floor(since or before, after)
        for namespace in {pod.namespace for pod in after.inventory.pods.values()}:
            invariants.check_ceiling(since or before, after, namespace)
        if chosen:
            invariants.check_choices(before, after)
        if whole:
            invariants.check(after, self.mask)
        if follow and before.ledger.exclusive != after.ledger.exclusive:
            self.everything()

    def _compare_a_part_with_the_whole(self) -> None:
        """A pass over some containers writes last to their files what a pass over all writes last to them.

        Without a pool every pass is over all.
        """
        if not self.now.pool:
            return
        ids = sorted(self.now.inventory.containers)
        scope = [id_ for at, id_ in enumerate(ids) if self.mask >> at & 1]
        part, whole = self._writes(scope), self._writes(None)
        chosen = set(scope)
        assert part == {at: text for at, text in whole.items() if at[0] in chosen}
        self.reached["part of a pass"] += bool(part)

    def _writes(
        self, scope: Iterable[events.ContainerId] | None
    ) -> dict[tuple[events.ContainerId, str], str]:
        now = self.now
        wanted = desired.desired(now, scope)
        looks = self.walker.look(now, wanted)
        differences = diff.compare(wanted, looks, self.book.confirmed, now.terms.topology.online)
        steps = plan.order(differences, wanted, looks, now.ledger.exclusive, now.pool)
        return {(step.container, step.file): step.text for step in steps}
