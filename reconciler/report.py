"""Stage 8: what a pass came to: drift found and repaired, what failed, when to try again. No I/O.

`Book` remembers between passes what each container was last seen as; it is the one stage with a memory,
because how long a drift lasted, and whether a difference is drift at all, are questions about time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reconciler import (
    errors,
    events,
    fights,
    isolations,
    narrowing,
    observed,
    opponents,
    plan,
    reasons,
    recurring,
    slices,
)
from reconciler.cpu.idset import CpuSet
from reconciler.diff import Cause, Difference, granted, in_order, settled
from reconciler.policy import desired

FoundBy = Literal["inotify", "pass", "hook"]
Kind = Literal["cpuset", "partition"]
"""What of a container an entry is about: one may have drifted in both."""

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = recurring.FIRST_PAUSE_SECONDS, recurring.LAST_PAUSE_SECONDS
"""Pauses before a failed write is tried again double from the first to the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one write: done, the container gone (normal), not made (`blocked`), or an error."""

    write: plan.Write
    error: errors.HostFileError | None = None
    gone: bool = False
    blocked: bool = False

    @property
    def failed(self) -> bool:
        """Whether the write should have been made and was not."""
        return self.error is not None or self.blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One pass: what was seen, what differed, what was written, and what is seen now.

    `after` holds a second look at every container that was written to. `found_at` is the monotonic
    time in seconds at which inotify told of a container; the others were found by `found_by`. `held` are
    those whose repair waits, `blame` says whom a file's text points to, `above` what is above a container.
    """

    wanted: desired.Desired
    looks: observed.Observed
    differences: tuple[Difference, ...]
    results: tuple[Result, ...]
    after: observed.Observed
    online: CpuSet
    found_by: FoundBy
    found_at: Mapping[events.ContainerId, float] = field(default_factory=dict)
    held: frozenset[events.ContainerId] = frozenset()
    blame: Callable[[events.ContainerId, str, str], opponents.Opponent] = opponents.nobody
    above: Callable[[events.ContainerId], Sequence[narrowing.Ancestor]] = lambda _: ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing to tell: `event` is the log's event name, `fields` its values. What is `silent` is counted
    and remembered, and not logged. `since` is when it began (monotonic seconds), None for just now."""

    event: fights.News | recurring.Event
    container: events.ContainerId
    fields: Mapping[str, object]
    silent: bool = False
    since: float | None = None
    kind: Kind = "cpuset"


@dataclass(slots=True)
class _Trouble:
    """A container that is not as it should be, since `since` (monotonic seconds); `silent` in a conflict."""

    cause: Cause
    since: float
    silent: bool = False
    attempts: int = 0
    told: bool = False
    why: reasons.Why = field(default=reasons.Why(text=""))
    writer: opponents.Writer | None = None


@dataclass(slots=True)
class Counters:
    """Since the start of the daemon: drifts found, drifts repaired, drifts given up for now.

    One that is given up is tried again; when that succeeds it counts as repaired and no more as given up.
    """

    found: int = 0
    repaired: int = 0
    unrepaired: int = 0


@dataclass(slots=True)
class Book:
    """What is known of each container from the passes so far. Bounded by the containers that exist."""

    confirmed: dict[events.ContainerId, desired.Placement] = field(default_factory=dict)
    latest: dict[events.ContainerId, observed.Look] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    lifted: set[events.ContainerId] = field(default_factory=set)
    """Whose CFS quota has been lifted and not yet given back."""
    fights: fights.Fights = field(default_factory=fights.Fights)
    isolations: isolations.Isolations = field(default_factory=isolations.Isolations)
    slices: slices.Slices = field(default_factory=slices.Slices)
    _reach: dict[events.ContainerId, CpuSet] = field(default_factory=dict)
    _troubles: dict[events.ContainerId, _Trouble] = field(default_factory=dict)

    def enter(self, outcome: Outcome, at: float) -> tuple[Entry, ...]:
        """Takes one pass, ended at `at` (monotonic seconds), into the book; what there is to tell of it."""
        told: list[Entry] = []
        for difference in outcome.differences:
            told += self._found(difference, outcome, at)
            told += self._fought(difference, outcome, at)
        for id_ in {result.write.container for result in outcome.results if not result.failed}:
            self.fights.wrote(id_, outcome.wanted[id_], at)
        failed = _first_errors(outcome)
        for id_, look in {**outcome.looks, **outcome.after}.items():
            self.latest[id_] = look
            self._reach[id_] = _reach(look, self._reach.get(id_, outcome.online))
            want = outcome.wanted.get(id_)
            if want is None:
                continue
            if want.quotas:
                self._note_lift(id_, want, look)
            if isinstance(look, observed.Present) and in_order(want, look, outcome.online):
                self.confirmed[id_] = desired.lasting(want) if want.quotas else want
                self.fights.right(id_)
                told += self._repaired(id_, look, at)
            elif isinstance(look, observed.Absent):
                self.fights.right(id_)
                self._troubles.pop(id_, None)
            elif id_ in outcome.held:
                self.fights.hold(id_)
                self._troubles[id_].why = reasons.HELD
            else:
                why = failed.get(id_) or reasons.why(id_, want, look, outcome.online, outcome.above)
                told += self._failed(id_, why, at)
        for id_, its in self.fights.passed(at):
            told.append(Entry(event="conflict.ended", container=id_, fields=its.fields()))
        return tuple(told)

    def trust(self, placements: desired.Desired) -> None:
        """Takes these as what was in order before the daemon's start, where nothing is known yet."""
        for id_, want in placements.items():
            self.confirmed.setdefault(id_, desired.lasting(want))

    def forget(self, id_: events.ContainerId) -> None:
        """Drops all that is known of a container that has ended."""
        self.confirmed.pop(id_, None)
        self.latest.pop(id_, None)
        self._reach.pop(id_, None)
        self.lifted.discard(id_)
        self.fights.forget(id_)
        self._troubles.pop(id_, None)

    def trouble(self, id_: events.ContainerId) -> tuple[Cause, str] | None:
        """The cause and the reason why a container is not as it should be, or None."""
        trouble = self._troubles.get(id_)
        return None if trouble is None else (trouble.cause, trouble.why.text)

    def unenforceable(self, id_: events.ContainerId) -> narrowing.Unenforceable | None:
        """What the kernel does not grant to a container whose files are right."""
        trouble = self._troubles.get(id_)
        return None if trouble is None else trouble.why.unenforceable

    def written(self) -> dict[events.ContainerId, CpuSet]:
        """The set that each container's tasks may use, as of the last look at it that saw it; all CPUs where
        none has. Linear."""
        return {id_: cpus for id_, cpus in self._reach.items() if cpus}

    def retry_in(self) -> float | None:
        """Seconds until a failed repair should be tried again; None where there is none."""
        held = self.fights.held()
        pauses = [
            recurring.pause(trouble.attempts)
            for id_, trouble in self._troubles.items()
            if trouble.attempts and id_ not in held
        ]
        return min(pauses, default=None)

    def _note_lift(self, id_: events.ContainerId, want: desired.Placement, look: observed.Look) -> None:
        if any(wish.lifted for wish in want.quotas):
            self.lifted.add(id_)
        elif isinstance(look, observed.Present) and settled(want, look):
            self.lifted.discard(id_)

    def _found(self, difference: Difference, outcome: Outcome, at: float) -> Iterator[Entry]:
        id_ = difference.container
        if id_ in self._troubles:
            return
        since = outcome.found_at.get(id_, at)
        silent = self.fights.conflict(id_) is not None and difference.cause is not Cause.PENDING
        self._troubles[id_] = _Trouble(cause=difference.cause, since=since, silent=silent)
        if difference.cause is Cause.PENDING:
            return
        self.counters.found += 1
        for file in reasons.drifted(difference, outcome.online):
            writer = self._troubles[id_].writer = outcome.blame(id_, file.file, file.have).writer
            yield Entry(
                event="drift.found",
                container=id_,
                silent=silent,
                since=since,
                fields={
                    "file": file.file,
                    "desired": file.want,
                    "observed": file.have,
                    "effective": str(granted(difference.look)),
                    "found_by": "inotify" if id_ in outcome.found_at else outcome.found_by,
                    **opponents.named(writer),
                },
            )

    def _fought(self, difference: Difference, outcome: Outcome, at: float) -> Iterator[Entry]:
        """A difference that is not ours is one more blow of somebody's, maybe of a fight."""
        id_ = difference.container
        is_ours = difference.cause is Cause.PENDING and not self._troubles[id_].attempts
        files = reasons.drifted(difference, outcome.online)
        if is_ours or (difference.files and all(file.expected for file in difference.files)):
            return
        value = ", ".join(f"{file.file} {file.have or 'empty'}" for file in files)
        opponent = outcome.blame(id_, files[0].file, files[0].have)
        if (news := self.fights.seen(id_, value, opponent, at)) is not None:
            yield Entry(event=news[0], container=id_, fields=news[1].fields())

    def _repaired(self, id_: events.ContainerId, look: observed.Present, at: float) -> Iterator[Entry]:
        trouble = self._troubles.pop(id_, None)
        if trouble is None or trouble.cause is Cause.PENDING:
            return
        self.counters.repaired += 1
        self.counters.unrepaired -= trouble.told
        yield Entry(
            event="drift.repaired",
            container=id_,
            silent=trouble.silent,
            fields={
                "observed": str(look.outer.cpus),
                "effective": str(granted(look)),
                "attempt": trouble.attempts + 1,
                "lasted_ms": round((at - trouble.since) * 1000, 3),
                "result": "in-sync",
                **opponents.named(trouble.writer),
            },
        )

    def _failed(self, id_: events.ContainerId, why: reasons.Why, at: float) -> Iterator[Entry]:
        trouble = self._troubles.setdefault(id_, _Trouble(cause=Cause.PENDING, since=at))
        trouble.attempts += 1
        trouble.why = why
        if trouble.told:
            return
        trouble.told = True
        if trouble.cause is not Cause.PENDING:
            self.counters.unrepaired += 1
        yield Entry(
            event="placement.failed" if trouble.cause is Cause.PENDING else "drift.unrepairable",
            container=id_,
            silent=trouble.silent,
            fields={**why.fields(), "attempt": trouble.attempts},
        )


def _reach(look: observed.Look, before: CpuSet) -> CpuSet:
    if isinstance(look, observed.Present):
        return look.outer.reach
    return before if isinstance(look, observed.Unreadable) else CpuSet()


def _first_errors(outcome: Outcome) -> dict[events.ContainerId, reasons.Why]:
    """Why a container's writes failed, the first reason of each."""
    found: dict[events.ContainerId, reasons.Why] = {}
    for result in outcome.results:
        write = result.write
        if result.blocked:
            text = f"{write.file} waits: someone else could not be moved off CPU {write.needs}"
            found.setdefault(write.container, reasons.Why(text=text))
        elif result.error is not None:
            found.setdefault(write.container, reasons.Why(text=str(result.error)))
    return found
