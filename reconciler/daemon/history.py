"""What there is to remember of drifts: passes are folded into rows, one a drift. Pure but for the clocks.

A row is a value that is replaced while what it tells of goes on. The drifts of a container in conflict share
one row, which counts them: all rows together have as many drifts as were found. Rows are taken from here by
`archiving`, in another thread than the one that makes passes, and wait in memory until then.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from reconciler import events, report
from reconciler.daemon import status, walk
from reconciler.policy import state

MOST_WAITING = 4096
"""Rows that wait at most; the oldest are dropped, and counted."""
LONGEST = 32 << 10
"""Characters of one text in a row. The longest kernel list of 8192 CPUs has 20 KiB."""

Result = Literal["found", "unrepaired", "conflict", "repaired", "gone"]
"""What has become of a drift: it is being repaired; that failed and is tried again; it is one of a conflict
that goes on; it was repaired; its container has ended."""
_Key = tuple[events.ContainerId, report.Kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file that said `observed` and should have said `desired`."""

    file: str
    desired: str
    observed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One drift of a container, or `drifts` of them in one conflict, of which `files` and `writer` are the
    last one's.

    `number` ascends since the agent's start. `found`, `ended` (None: not yet) and `latest`, when something
    was last heard of it, are seconds since the epoch. `lasted_ms` is how long the container was not in order,
    in all; `attempts` how often a repair was tried. `opponent` is whom the values in a conflict point to.
    """

    number: int
    found: float
    latest: float
    owner: Mapping[str, str]
    files: tuple[File, ...]
    effective: str
    found_by: str
    result: Result
    writer: Mapping[str, object] | None = None
    opponent: str = ""
    ended: float | None = None
    lasted_ms: float = 0.0
    attempts: int = 0
    drifts: int = 1
    reason: str = ""

    def document(self) -> dict[str, object]:
        """The row as JSON has it."""
        return {
            "found": round(self.found, 3),
            "ended": None if self.ended is None else round(self.ended, 3),
            **self.owner,
            "files": [dataclasses.asdict(its) for its in self.files],
            "effective": self.effective,
            "found_by": self.found_by,
            "writer": None if self.writer is None else dict(self.writer),
            "opponent": self.opponent or None,
            "drifts": self.drifts,
            "attempts": self.attempts,
            "lasted_ms": round(self.lasted_ms, 3),
            "result": self.result,
            "reason": self.reason,
        }


class History:
    """Takes passes in the worker's thread, and gives rows in any. Bounded."""

    def __init__(
        self, *, epoch: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`epoch` gives seconds since the epoch, `monotonic` those that passes are timed by."""
        self._epoch = epoch
        self._monotonic = monotonic
        self._open: dict[_Key, Row] = {}
        self._opponents: dict[events.ContainerId, str] = {}
        """Who is in conflict, and with whom."""
        self._waiting: dict[int, Row] = {}
        self._fresh: set[_Key] = set()
        """Of which drift the pass that is being taken has told already."""
        self._number = 0
        self._lock = threading.Lock()
        self.lost = 0
        """Rows that were dropped, or that went without their last change, for there was no room."""
        self.on_change: Callable[[], object] = lambda: None
        """Is called when rows wait, in the worker's thread."""

    def passed(self, now: state.State, done: walk.Done) -> None:
        """Takes a pass that has just ended."""
        if not done.entries and not done.request.gone:
            return
        at = self._epoch()
        ago = at - self._monotonic()
        with self._lock:
            self._fresh.clear()
            for entry in done.entries:
                self._take(now, entry, ago if entry.since is None else entry.since + ago, at)
            for id_, _ in done.request.gone:
                self._forget(id_, at)
            self._drop()
            waits = bool(self._waiting)
        if waits:
            self.on_change()

    def take(self) -> tuple[Row, ...]:
        """The rows that wait; they wait no more."""
        with self._lock:
            rows, self._waiting = tuple(self._waiting.values()), {}
        return rows

    def give_back(self, rows: Iterable[Row]) -> None:
        """Let rows that were taken wait again, but for those that have changed meanwhile."""
        with self._lock:
            self._waiting = {row.number: row for row in rows} | self._waiting
            self._drop()

    def _drop(self) -> None:
        excess = len(self._waiting) - MOST_WAITING
        for number in list(self._waiting)[: max(excess, 0)]:
            del self._waiting[number]
            self.lost += 1

    def _take(self, now: state.State, entry: report.Entry, since: float, at: float) -> None:
        key = (entry.container, entry.kind)
        match entry.event:
            case "drift.found":
                self._found(now, key, entry, since, at)
            case "drift.repaired":
                self._repaired(key, entry, at)
            case "drift.unrepairable":
                self._unrepaired(key, entry, at)
            case "conflict.raised" | "conflict.goes-on":
                self._in_conflict(key, str(entry.fields["opponent"]), at)
            case "conflict.ended":
                self._opponents.pop(entry.container, None)
                self._end(key, "repaired")
            case _:
                pass

    def _found(self, now: state.State, key: _Key, entry: report.Entry, found: float, at: float) -> None:
        its = self._open.get(key)
        file = File(**{name: _text(entry.fields[name]) for name in ("file", "desired", "observed")})
        if its is not None and key in self._fresh:
            self._put(key, dataclasses.replace(its, files=(*its.files, file)))
            return
        self._fresh.add(key)
        goes_on = its is not None and its.result == "conflict"
        if its is not None and goes_on and (entry.silent or key[0] in self._opponents):
            its = dataclasses.replace(its, drifts=its.drifts + 1)
        else:
            self._end(key, "repaired")
            its = self._new(now, key[0], entry, found)
        its = dataclasses.replace(its, files=(file,), writer=_writer(entry.fields), latest=at)
        self._put(key, its)

    def _new(self, now: state.State, id_: events.ContainerId, entry: report.Entry, found: float) -> Row:
        self._number += 1
        return Row(
            number=self._number,
            found=found,
            latest=found,
            owner={name: _text(text) for name, text in status.owner(now, id_).items()},
            files=(),
            effective=_text(entry.fields.get("effective", "")),
            found_by=_text(entry.fields["found_by"]),
            opponent=_text(self._opponents.get(id_, "")),
            result="conflict" if entry.silent else "found",
        )

    def _repaired(self, key: _Key, entry: report.Entry, at: float) -> None:
        if (its := self._open.get(key)) is None:
            return
        lasted, attempts = _number(entry.fields["lasted_ms"]), int(_number(entry.fields["attempt"]))
        if its.result == "conflict":
            lasted, attempts = its.lasted_ms + lasted, its.attempts + attempts
            self._put(key, dataclasses.replace(its, latest=at, lasted_ms=lasted, attempts=attempts))
            return
        its = dataclasses.replace(its, latest=its.found + lasted / 1000, lasted_ms=lasted, attempts=attempts)
        self._put(key, its)
        self._end(key, "repaired")

    def _unrepaired(self, key: _Key, entry: report.Entry, at: float) -> None:
        if (its := self._open.get(key)) is None:
            return
        its = dataclasses.replace(its, latest=at, reason=_text(entry.fields["reason"]))
        if its.result != "conflict":
            its = dataclasses.replace(
                its, result="unrepaired", attempts=int(_number(entry.fields["attempt"]))
            )
        self._put(key, its)

    def _in_conflict(self, key: _Key, opponent: str, at: float) -> None:
        self._opponents[key[0]] = opponent
        if (its := self._open.get(key)) is None:
            return
        # What failed so far is counted when the repair succeeds.
        attempts = its.attempts if its.result == "conflict" else 0
        its = dataclasses.replace(its, latest=at, result="conflict", attempts=attempts)
        self._put(key, dataclasses.replace(its, opponent=_text(opponent)))

    def _forget(self, id_: events.ContainerId, at: float) -> None:
        self._opponents.pop(id_, None)
        for key in [key for key in self._open if key[0] == id_]:
            self._put(key, dataclasses.replace(self._open[key], latest=at))
            self._end(key, "gone")

    def _put(self, key: _Key, row: Row) -> None:
        self._open[key] = self._waiting[row.number] = row

    def _end(self, key: _Key, result: Result) -> None:
        """What was last heard of it was its end."""
        if (its := self._open.pop(key, None)) is not None:
            self._waiting[its.number] = dataclasses.replace(its, result=result, ended=its.latest)


def _writer(fields: Mapping[str, object]) -> Mapping[str, object] | None:
    """Who wrote, where that is known: numbers and texts by name."""
    writer = fields.get("writer")
    if not isinstance(writer, Mapping):
        return None
    return {_text(name): its if isinstance(its, int) else _text(its) for name, its in writer.items()}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
