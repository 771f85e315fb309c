"""Stage 8, below the report: drift of what is no container's cpuset, such as a partition or a slice.

Pure: times are given. Who writes the same thing again and again is repaired at a bounded rate, and told each
time that the number of drifts has doubled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from reconciler import events

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.1, 10.0
"""Pauses before another attempt, and between repairs of what drifts again and again; they double."""
QUIET_SECONDS = 60.0
"""After so long without drift the pauses are forgotten."""

Event = Literal[
    "drift.found",
    "drift.repaired",
    "drift.unrepairable",
    "isolation.failed",
    "isolation.made",
    "isolation.unavailable",
    "placement.failed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One thing to tell of a container, or of what has the place of one. `since` is when it began (monotonic
    seconds), None for just now. A `drift.repaired` that `takes_back` was unrepairable before."""

    event: Event
    container: events.ContainerId
    fields: Mapping[str, object]
    silent: bool = False
    since: float | None = None
    takes_back: bool = False


@dataclass(slots=True, kw_only=True)
class Recurring:
    """What may drift again and again. `since` is when its drift was found, None while there is none;
    `attempts` were made in vain, for the `reason`; `due` is when it may be written again, unless something
    else is wanted by then."""

    since: float | None = None
    drifted_at: float = 0.0
    drifts: int = 0
    attempts: int = 0
    due: float = 0.0
    reason: str = ""

    @property
    def is_silent(self) -> bool:
        """Whether this drift is only counted."""
        return self.drifts & (self.drifts - 1) != 0

    def drifted(self, found_at: float, at: float) -> None:
        """Somebody has changed it."""
        self.drifts = self.drifts + 1 if found_at - self.drifted_at <= QUIET_SECONDS else 1
        self.since = self.drifted_at = found_at
        if self.drifts > 1:
            self.due = at + pause(self.drifts - 1)

    def tried(self, at: float) -> None:
        """One more attempt was in vain."""
        self.attempts += 1
        self.due = at + pause(self.attempts)


def retry_in(known: Iterable[Recurring], at: float) -> float | None:
    """Seconds until one is to be tried again; None where none is."""
    dues = [its.due for its in known if its.attempts or its.since is not None]
    return max(min(dues) - at, 0.0) if dues else None


def pause(times: int) -> float:
    """Seconds to wait after so many attempts in vain, at least 1."""
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(times - 1, 10), LAST_PAUSE_SECONDS)
