"""One pass: look, compare, plan, write, look again, enter into the book. I/O; runs in the worker's thread.

The walker is the only one who writes to cgroups and the only one who changes the book; others may read it.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reconciler import diff, events, observed, opponents, plan, report
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import executor, gate, isolating, lifting, lineage, slicing, watching
from reconciler.host import cgroupfs
from reconciler.policy import desired, quotas, state

_NOTHING: desired.Desired = {}

Gone = tuple[events.ContainerId, str | None]
"""A container that has ended, and its cgroup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a pass shall look at: `scope`, or every container where that is None.

    `gates` are containers whose start waits for the pass; they and whoever is on their CPUs are looked at
    in any case. `gone` are containers to forget. `restored` are those that were placed before the agent's
    start: what differs there has drifted. See `report.Outcome` for `found_by` and `found_at`.
    """

    scope: frozenset[events.ContainerId] | None
    found_by: report.FoundBy = "pass"
    found_at: Mapping[events.ContainerId, float] = field(default_factory=dict)
    gates: frozenset[events.ContainerId] = frozenset()
    gone: tuple[Gone, ...] = ()
    restored: frozenset[events.ContainerId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a pass. `verdicts` says of each gate why the container must not start, or "".

    `differences` are those that are no blows in a conflict, which are only counted. `drifted` are containers
    that somebody else has changed. `seconds` is how long it took, `retry_in` when to try again what failed
    (None: nothing did), `held` who has to wait for a repair, for so many seconds.
    """

    pass_id: int
    request: Request
    looked_at: int
    verdicts: Mapping[events.ContainerId, str]
    differences: int = 0
    results: tuple[report.Result, ...] = ()
    entries: tuple[report.Entry, ...] = ()
    seconds: float = 0.0
    retry_in: float | None = None
    drifted: frozenset[events.ContainerId] = frozenset()
    held: Mapping[events.ContainerId, float] = field(default_factory=dict)


class Tell(Protocol):
    """Is told of each pass, in the worker's thread."""

    def passed(self, now: state.State, done: Done) -> None:
        """A pass has been made."""

    def planned(self, now: state.State, pass_id: int, steps: plan.Plan) -> None:
        """A dry pass has come to these writes and has not made them."""


class Walker:
    """Makes passes, one at a time."""

    def __init__(  # noqa: PLR0913  what a pass works on, and how
        self,
        tree: cgroupfs.Cgroupfs,
        book: report.Book,
        tell: Tell,
        *,
        dry: bool = False,
        follow: Callable[[CpuSet], None] = lambda _: None,
        lifted: Callable[[watching.Quotas], object] = lambda _: None,
        suspects: Callable[[], opponents.Suspects] = opponents.Suspects,
        told: Callable[[], Mapping[events.ContainerId, CpuSet]] = dict,
        isolated: Callable[[frozenset[str]], object] = lambda _: None,
        sliced: slicing.Slicing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With `dry`, nothing is ever written. `follow` is told of each shared pool that a pass has put in
        force, `lifted` of the cgroups whose quota is lifted when they are others. `suspects` says what others
        may write, `told` what the runtime writes for us; `isolated` is told which cgroups are to be
        partitions when they are others, `sliced` keeps slices of the host on the pool, and `clock` gives
        monotonic seconds."""
        self._tree = tree
        self._book = book
        self._tell = tell
        self._dry = dry
        self._follow = follow
        self._followed = CpuSet()
        self._lifted = lifted
        self._told_lifted: watching.Quotas = {}
        self._suspects = suspects
        self._told = told
        self._isolating = isolating.Isolating(tree, book, isolated, lambda *its: suspects().writer(*its))
        self._slicing = sliced or slicing.Slicing(tree, book)
        self._clock = clock
        self._passes = 0
        self._planned: plan.Plan = ()
        self.has_writes = False
        """Whether the pass that is under way, or else the last one, has come to writes. For any thread."""

    def run(self, now: state.State, request: Request) -> Done:
        """Make one pass over `now`."""
        begin = self._clock()
        self._passes += 1
        for id_, path in request.gone:
            self._book.forget(id_)
            if path is not None:
                self._tree.forget(path)
        scope = None if request.scope is None else request.scope | request.gates
        walls = self._isolating.steps(now, scope, request.found_by, request.found_at, begin)
        aside, back = self._slicing.steps(now, scope, request.found_by, request.found_at, begin)
        self.has_writes = bool(aside or walls.first)
        # Who is no partition any more has its CPUs by its cpuset again, and is looked at after that.
        away = () if self._dry else executor.execute(aside, now, self._tree)
        first = () if self._dry else executor.execute(walls.first, now, self._tree, away)
        wanted, looks = self._look(now, request)
        self._book.trust({id_: wanted[id_] for id_ in request.restored & wanted.keys()})
        differences = self._compare(now, wanted, looks)
        held = self._held(differences, request, begin)
        steps = _order(now, [its for its in differences if its.container not in held], wanted, looks)
        if self._dry:
            every_step = (*aside, *walls.first, *steps, *walls.last, *back)
            return self._stop_dry(now, request, looks, every_step)
        self.has_writes |= bool(steps or walls.last or back)
        silent = sum(self._book.fights.conflict(its.container) is not None for its in differences)
        results = executor.execute(steps, now, self._tree, (*away, *first))
        last = executor.execute(walls.last, now, self._tree, (*away, *first, *results))
        sliced = (*away, *executor.execute(back, now, self._tree, (*away, *first, *results, *last)))
        every = (*sliced, *first, *results, *last)
        outcome = report.Outcome(
            wanted=wanted,
            looks=looks,
            differences=differences,
            results=results,
            after=self.look(now, {result.write.container for result in every}, wanted),
            online=now.terms.topology.online,
            found_by=request.found_by,
            found_at=request.found_at,
            held=held,
            blame=self._blame(now),
            above=lambda id_: tuple(lineage.ancestors(self._tree, executor.cgroup_of(now, id_) or "")),
        )
        entries = self._book.enter(outcome, self._clock())
        entries += self._isolating.enter((*first, *last), self._clock())
        entries += self._slicing.enter(sliced, self._clock())
        done = Done(
            pass_id=self._passes,
            request=request,
            looked_at=len(looks),
            differences=len(differences) - silent,
            results=every,
            verdicts={id_: gate.verdict(now, self._book, id_) for id_ in request.gates},
            entries=entries,
            seconds=self._clock() - begin,
            retry_in=self._retry_in(),
            drifted=frozenset(its.container for its in differences if its.cause is diff.Cause.DRIFT),
            held=self._book.fights.held(),
        )
        self._tell.passed(now, done)
        self._tell_followers(now)
        return done

    def _retry_in(self) -> float | None:
        at, book = self._clock(), self._book
        return _sooner(book.retry_in(), book.isolations.retry_in(at), book.slices.retry_in(at))

    def _tell_followers(self, now: state.State) -> None:
        if now.pool != self._followed:
            self._followed = now.pool
            self._follow(now.pool)
        if self._book.lifted or self._told_lifted:
            groups = lifting.groups(now, self._book.lifted)
            if groups != self._told_lifted:
                self._told_lifted = groups
                self._lifted(groups)

    def look(
        self, now: state.State, ids: Iterable[events.ContainerId], wanted: desired.Desired = _NOTHING
    ) -> dict[events.ContainerId, observed.Look]:
        """The cgroups of these containers as they are, with the quotas that are wished for; those without a
        cgroup are passed over."""
        looks = {}
        for id_ in ids:
            path = executor.cgroup_of(now, id_)
            if path is not None:
                want = wanted.get(id_)
                if want is None or not want.quotas:
                    looks[id_] = self._tree.look(path)
                else:
                    looks[id_] = self._tree.look(path, [wish.file for wish in want.quotas])
        return looks

    def preview(self, now: state.State) -> tuple[observed.Observed, plan.Plan]:
        """What is there now, and what a pass over everything would write."""
        wanted, looks = self._look(now, Request(scope=None))
        walls = self._isolating.preview(now)
        steps = _order(now, self._compare(now, wanted, looks), wanted, looks)
        return looks, (*walls.first, *steps, *walls.last)

    def _look(
        self, now: state.State, request: Request
    ) -> tuple[desired.Desired, dict[events.ContainerId, observed.Look]]:
        scope: set[events.ContainerId] | None = None
        # Without a pool nobody can step aside, and who is in whose way takes a look at all.
        if request.scope is not None and now.pool:
            scope = set(request.scope) | request.gates
            for id_ in request.gates:
                scope.update(gate.trespassers(now, self._book, id_))
            # Whoever comes or goes changes whether the quota of its pod is lifted.
            scope |= {id_ for id_ in self._book.lifted if lifting.is_in_pod_of(now, id_, scope)}
        wanted = desired.desired(now, scope)
        for id_ in self._book.lifted & wanted.keys():
            if not wanted[id_].quotas:
                due = quotas.returns(now, now.inventory.containers[id_], self._book.lifted)
                wanted[id_] = dataclasses.replace(wanted[id_], quotas=due)
        return wanted, self.look(now, wanted, wanted)

    def _compare(
        self, now: state.State, wanted: desired.Desired, looks: observed.Observed
    ) -> tuple[diff.Difference, ...]:
        differences = diff.compare(wanted, looks, self._book.confirmed, now.terms.topology.online)
        told = self._told()
        return tuple(_ours(its, told) for its in differences) if told else differences

    def _held(
        self, differences: Iterable[diff.Difference], request: Request, at: float
    ) -> frozenset[events.ContainerId]:
        """Whose repair has to wait because of a fight. Where a start waits for the pass, nobody's."""
        if request.gates:
            return frozenset()
        holds = self._book.fights.holds
        return frozenset(its.container for its in differences if holds(its.container, its.want, at))

    def _blame(self, now: state.State) -> Callable[[events.ContainerId, str, str], opponents.Opponent]:
        @functools.cache
        def suspects() -> opponents.Suspects:
            return self._suspects()

        def blame(id_: events.ContainerId, file: str, value: str) -> opponents.Opponent:
            container = now.inventory.containers[id_]
            return opponents.blame(suspects(), now.pod_of(container), container, file, value)

        return blame

    def _stop_dry(
        self, now: state.State, request: Request, looks: observed.Observed, steps: plan.Plan
    ) -> Done:
        """Keep what was seen, tell a plan that is new, and hold nobody up."""
        self._book.latest.update(looks)
        if steps != self._planned:
            self._planned = steps
            self._tell.planned(now, self._passes, steps)
        return Done(
            pass_id=self._passes,
            request=request,
            looked_at=len(looks),
            verdicts=dict.fromkeys(request.gates, ""),
        )


def _order(
    now: state.State,
    differences: Iterable[diff.Difference],
    wanted: desired.Desired,
    looks: observed.Observed,
) -> plan.Plan:
    return plan.order(tuple(differences), wanted, looks, now.ledger.exclusive, now.pool)


def _sooner(*seconds: float | None) -> float | None:
    return min((its for its in seconds if its is not None), default=None)


def _ours(difference: diff.Difference, told: Mapping[events.ContainerId, CpuSet]) -> diff.Difference:
    """The difference; a change of ours where the runtime has just written what it was told to."""
    if told.get(difference.container) != difference.look.outer.cpus:
        return difference
    return dataclasses.replace(difference, cause=diff.Cause.PENDING)
