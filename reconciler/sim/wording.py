"""What the demo says: its steps, the agent's log records and the summary, as lines of styled text. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.sim import screen

Record = Mapping[str, object]
"""One line of the agent's log."""

_INDENT = "    "


def step(number: int, title: str, text: str, width: int) -> Iterator[screen.Line]:
    """The head of a step of the script, and what it is about."""
    yield ()
    yield screen.Span(f"{number:>2}  ", "dim"), screen.Span(title, "strong")
    yield from paragraph(text, width, "dim")


def paragraph(text: str, width: int, style: str = "text") -> Iterator[screen.Line]:
    """Text, wrapped to so many columns and indented."""
    for part in textwrap.wrap(text, width - len(_INDENT)):
        yield screen.Span(_INDENT), screen.Span(part, style)


def labelled(label: str, text: str, width: int, style: str) -> Iterator[screen.Line]:
    """A word in a column of its own, and what belongs to it beside it."""
    head = f"{_INDENT}{label:<9} "
    for part in textwrap.wrap(text, width - len(head)):
        yield screen.Span(head, style), screen.Span(part)
        head = " " * len(head)


@dataclass(slots=True)
class Teller:
    """Puts log records into words. A drift is told together with its repair, in one line for each file;
    `open` holds those that are not repaired yet, by container id."""

    width: int
    open: dict[str, list[Record]] = field(default_factory=dict)

    def tell(self, record: Record) -> Iterator[screen.Line]:
        """The lines that a record is worth, often none."""
        match record.get("event"):
            case "drift.found":
                self.open.setdefault(_text(record, "id"), []).append(record)
            case "drift.repaired":
                for found in self.open.pop(_text(record, "id"), []):
                    yield from _repaired(found, record, self.width)
            case "drift.unrepairable" | "placement.failed" | "placement.held-up":
                yield from labelled("stuck", f"{_who(record)}: {_text(record, 'reason')}", self.width, "bad")
            case "placement.refused":
                yield from labelled(
                    "refused", f"{_who(record)}: {_text(record, 'reason')}", self.width, "bad"
                )
            case "placement.moved":
                yield from labelled("moved", f"{_who(record)}: {_text(record, 'reason')}", self.width, "good")
            case "placement.admitted":
                yield from labelled(
                    "admitted", f"{_who(record)}: {_text(record, 'reason')}", self.width, "good"
                )
            case "mode.changed":
                yield from labelled(
                    "mode", f"{_text(record, 'mode')}: {_text(record, 'reason')}", self.width, "dim"
                )


def milliseconds(repaired: Record) -> float:
    """How long a drift lasted; 0 where its record does not say."""
    lasted = repaired.get("lasted_ms")
    return float(lasted) if isinstance(lasted, int | float) else 0.0


def _repaired(found: Record, repaired: Record, width: int) -> Iterator[screen.Line]:
    """One drift: what the file said, what it says again, and how long it said it."""
    change = f"{found.get('observed') or '(empty)'} -> {found.get('desired')}"
    how = f"in {milliseconds(repaired):.1f} ms ({_text(found, 'found_by')})"
    yield from labelled("repaired", f"{_who(found)} {_text(found, 'file')}: {change} {how}", width, "good")


def _who(record: Record) -> str:
    pod = _text(record, "pod")
    name = _text(record, "container")
    return f"{pod}/{name}" if name else pod


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that the demo made sure of. `seen` is what it saw, `ok` whether that is right."""

    what: str
    seen: str
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A container at the end: what it should have by the script, and what its files say."""

    name: str
    expected: str
    found: str

    @property
    def ok(self) -> bool:
        """Whether both are the same."""
        return self.expected == self.found


def summary(rows: Sequence[Row], checks: Iterable[Check]) -> Iterator[screen.Line]:
    """The table at the end."""
    yield ()
    yield (screen.Span(f"{_INDENT}{'container':<20} {'expected':<22} cpuset.cpus, cpuset.mems", "strong"),)
    for row in rows:
        yield (
            screen.Span(f"{_INDENT}{row.name:<20.20} {row.expected:<22} {row.found:<24} "),
            _verdict(row.ok),
        )
    yield ()
    for check in checks:
        yield screen.Span(f"{_INDENT}{check.what:<43} {check.seen:<24} "), _verdict(check.ok)


def _verdict(ok: bool) -> screen.Span:
    return screen.Span("ok", "good") if ok else screen.Span("WRONG", "bad")
