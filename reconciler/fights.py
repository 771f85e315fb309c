"""Stage 8, below the report: who changes the same container again and again, and when it is repaired then.

Pure: times are given, and so is chance. A container that drifts as often as `fights.drifts` says within
`fights.withinSeconds` is in conflict. Its repairs are paced from then on, what happens is counted instead of
told, and the conflict ends when the container has been left alone for `fights.endsAfterSeconds`.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler import events, opponents
from reconciler.config import schema
from reconciler.policy import desired

FIRST_PAUSE_SECONDS = 0.1
"""After a repair in a conflict; the pauses double up to `fights.longestPauseSeconds`."""
_OVERDUE_SECONDS = 5.0
"""So long after a repair was due nobody is asked to look once more."""
_VALUES = 8
"""So many of the values that were found are kept: the newest."""
_MOST_DRIFTS = 100

News = Literal["conflict.raised", "conflict.goes-on", "conflict.ended"]
"""What there is to tell of a conflict, as the log calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A fight: against whom, how many drifts it has had, since when (monotonic seconds), and what was found,
    oldest first."""

    opponent: opponents.Opponent
    times: int
    since: float
    values: tuple[str, ...]

    def fields(self) -> dict[str, object]:
        """What there is to tell of it."""
        return {
            "opponent": self.opponent.name,
            "evidence": self.opponent.evidence,
            "times": self.times,
            "values": list(self.values),
            **opponents.named(self.opponent.writer),
        }


@dataclass(slots=True)
class _Fight:
    """What is known of a container that has drifted of late.

    `wrong` is what the last look found, "" where it was in order; `written` whether it was repaired since,
    `held` whether that was put off. `want` is what it was repaired to, `due` when it may be again.
    """

    seen_at: float
    opponent: opponents.Opponent
    drifts: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_DRIFTS))
    values: deque[str] = field(default_factory=lambda: deque(maxlen=_VALUES))
    wrong: str = ""
    written: bool = False
    held: bool = False
    want: desired.Placement | None = None
    conflict: Conflict | None = None
    told: int = 0
    pause: float = FIRST_PAUSE_SECONDS
    due: float = 0.0


@dataclass(slots=True)
class Fights:
    """Remembers who has drifted of late: bounded by the containers that drift. `raised` and `ended` count
    conflicts since the start."""

    rules: Callable[[], schema.Fights] = field(default=schema.Fights, compare=False)
    draw: Callable[[], float] = field(default=lambda: 1.0, compare=False)
    """Gives a number from 0 to 1: where in the upper half of its range a pause is."""
    raised: int = 0
    ended: int = 0
    _known: dict[events.ContainerId, _Fight] = field(default_factory=dict)
    _at: float = 0.0

    def conflict(self, id_: events.ContainerId) -> Conflict | None:
        """The conflict that a container is in."""
        its = self._known.get(id_)
        return None if its is None else its.conflict

    def conflicts(self) -> dict[events.ContainerId, Conflict]:
        """All conflicts."""
        known = tuple(self._known.items())
        return {id_: its.conflict for id_, its in known if its.conflict is not None}

    def holds(self, id_: events.ContainerId, want: desired.Placement, at: float) -> bool:
        """Whether a repair has to wait. What is wanted anew never waits."""
        its = self._known.get(id_)
        return its is not None and its.conflict is not None and at < its.due and its.want == want

    def held(self) -> dict[events.ContainerId, float]:
        """Who is wrong and waits for a repair, and for how many seconds as of the last pass.

        One that has become due while others were looked at waits a little longer. One that cannot be looked
        at, or that nothing is wanted of any more, is left to full passes after some tries.
        """
        return {
            id_: its.due - self._at if its.due > self._at else FIRST_PAUSE_SECONDS
            for id_, its in self._known.items()
            if its.conflict is not None
            and (its.held or (its.wrong and its.written))
            and self._at - its.due < _OVERDUE_SECONDS
        }

    def document(self, id_: events.ContainerId) -> dict[str, object] | None:
        """What the status says of a container's conflict; `since_seconds` is as of the last pass."""
        if (conflict := self.conflict(id_)) is None:
            return None
        return {
            "opponent": conflict.opponent.name,
            "kind": conflict.opponent.kind,
            "evidence": conflict.opponent.evidence,
            "times": conflict.times,
            "since_seconds": round(max(self._at - conflict.since, 0.0), 3),
            "values": list(conflict.values),
        }

    def seen(
        self, id_: events.ContainerId, value: str, opponent: opponents.Opponent, at: float
    ) -> tuple[News, Conflict] | None:
        """A look found `value` instead of what was written; gives what there is to tell of it.

        It is another drift if the container was in order before, was repaired since, or says something else.
        """
        its = self._known.setdefault(id_, _Fight(seen_at=at, opponent=opponent))
        again = its.written or its.wrong != value
        its.wrong, its.written, its.held, its.seen_at = value, False, False, at
        if not again:
            return None
        its.drifts.append(at)
        its.values.append(value)
        its.opponent = opponent
        return self._raise(its, at) if its.conflict is None else _count(its, its.conflict)

    def hold(self, id_: events.ContainerId) -> None:
        """What the last look found wrong was not repaired, because it has to wait."""
        self._known[id_].held = True

    def wrote(self, id_: events.ContainerId, want: desired.Placement, at: float) -> None:
        """A container was written to: the next repair may have to wait."""
        if (its := self._known.get(id_)) is None:
            return
        its.written, its.held, its.want = True, False, want
        if its.conflict is not None:
            its.due = at + its.pause / 2 * (1 + self.draw())
            its.pause = min(its.pause * 2, self.rules().longest_pause_seconds)

    def right(self, id_: events.ContainerId) -> None:
        """A look found a container in order, or gone."""
        if (its := self._known.get(id_)) is not None:
            its.wrong, its.held = "", False

    def forget(self, id_: events.ContainerId) -> None:
        """Drop what is known of a container that has ended."""
        self._known.pop(id_, None)

    def passed(self, at: float) -> Iterator[tuple[events.ContainerId, Conflict]]:
        """A pass has ended. Drops who has been left alone for long enough, and gives their conflicts."""
        self._at = at
        rules = self.rules()
        for id_, its in list(self._known.items()):
            alone = 0.0 if its.wrong else at - its.seen_at
            if its.conflict is not None:
                if alone >= rules.ends_after_seconds:
                    self.ended += 1
                    del self._known[id_]
                    yield id_, its.conflict
            elif alone > rules.within_seconds:
                del self._known[id_]

    def _raise(self, its: _Fight, at: float) -> tuple[News, Conflict] | None:
        rules = self.rules()
        recent = [when for when in its.drifts if at - when <= rules.within_seconds]
        if len(recent) < rules.drifts:
            return None
        self.raised += 1
        its.told = len(recent)
        its.pause = min(FIRST_PAUSE_SECONDS, rules.longest_pause_seconds)
        its.conflict = Conflict(
            opponent=its.opponent, times=len(recent), since=recent[0], values=tuple(its.values)
        )
        return "conflict.raised", its.conflict


def _count(its: _Fight, conflict: Conflict) -> tuple[News, Conflict] | None:
    """One more drift in a conflict, which is told each time that their number has doubled."""
    its.conflict = dataclasses.replace(
        conflict, opponent=its.opponent, times=conflict.times + 1, values=tuple(its.values)
    )
    if its.conflict.times < 2 * its.told:
        return None
    its.told = its.conflict.times
    return "conflict.goes-on", its.conflict


def by_opponent(conflicts: Mapping[events.ContainerId, Conflict]) -> dict[opponents.Kind, list[Conflict]]:
    """The conflicts with each kind of opponent, the oldest first."""
    found: dict[opponents.Kind, list[Conflict]] = {}
    for conflict in sorted(conflicts.values(), key=lambda its: its.since):
        found.setdefault(conflict.opponent.kind, []).append(conflict)
    return found
