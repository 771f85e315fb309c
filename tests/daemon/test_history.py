"""What is remembered of drifts: one row each, one for a whole conflict, no more than there is room for."""

# covers: PRD-7.20

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from reconciler import events, fights, recurring, report
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.daemon import history, walk
from reconciler.policy import lifecycle, state
from reconciler.sim import machine
from tests.daemon import pods

WEB = pods.pod("web")
SHARED = pods.container(WEB)
BOOT = 1_000_000.0
"""Seconds since the epoch at which the clock of passes was at 0."""
OPPONENT = {"opponent": "kubelet", "evidence": "", "times": 2, "values": []}

Event = fights.News | recurring.Event


class Ring:
    """A history, the node that it is of, and its clock."""

    def __init__(self) -> None:
        self.at = 0.0
        terms = state.terms(topologies.parse(machine.vm()), schema.Config())
        creation = events.ContainerCreating(pod=WEB, container=SHARED)
        self.now, _, _ = lifecycle.admit(state.State(terms=terms), creation)
        self.history = history.History(epoch=lambda: BOOT + self.at, monotonic=lambda: self.at)

    def passed(self, at: float, *entries: report.Entry, gone: Iterable[events.ContainerId] = ()) -> None:
        """A pass that ends at `at` has these to tell."""
        self.at = at
        request = walk.Request(scope=None, gone=tuple((id_, None) for id_ in gone))
        done = walk.Done(pass_id=1, request=request, looked_at=1, verdicts={}, entries=entries)
        self.history.passed(self.now, done)

    def rows(self) -> list[dict[str, Any]]:
        """What has changed since this was asked before."""
        return [row.document() for row in self.history.take()]


@pytest.fixture
def ring() -> Ring:
    """One that nothing has happened in."""
    return Ring()


def found(
    since: float,
    observed: str = "0-7",
    *,
    silent: bool = False,
    file: str = "cpuset.cpus",
    writer: Mapping[str, object] | None = None,
) -> report.Entry:
    fields = {"file": file, "desired": "2-3", "observed": observed, "effective": observed}
    named = {} if writer is None else {"writer": writer}
    return entry("drift.found", {**fields, "found_by": "inotify", **named}, silent=silent, since=since)


def repaired(lasted_ms: float, attempt: int = 1, *, silent: bool = False) -> report.Entry:
    return entry("drift.repaired", {"attempt": attempt, "lasted_ms": lasted_ms}, silent=silent)


def unrepairable(reason: str) -> report.Entry:
    return entry("drift.unrepairable", {"reason": reason, "attempt": 1})


def entry(
    event: Event,
    fields: Mapping[str, object],
    *,
    silent: bool = False,
    since: float | None = None,
    kind: report.Kind = "cpuset",
) -> report.Entry:
    return report.Entry(
        event=event, container=SHARED.id, fields=fields, silent=silent, since=since, kind=kind
    )


def test_a_drift_is_a_row_from_its_signal_to_its_repair(ring: Ring) -> None:
    ring.passed(5.25, found(5.0, writer={"pid": 12, "command": "runc"}), repaired(250.0))
    assert ring.rows() == [
        {
            "found": BOOT + 5.0,
            "ended": BOOT + 5.25,
            "id": SHARED.id,
            "namespace": "default",
            "pod": "web",
            "container": "main",
            "files": [{"file": "cpuset.cpus", "desired": "2-3", "observed": "0-7"}],
            "effective": "0-7",
            "found_by": "inotify",
            "writer": {"pid": 12, "command": "runc"},
            "opponent": None,
            "drifts": 1,
            "attempts": 1,
            "lasted_ms": 250.0,
            "result": "repaired",
            "reason": "",
        }
    ]
    assert ring.rows() == []


def test_one_that_changed_two_files_is_one_row(ring: Ring) -> None:
    ring.passed(1.0, found(1.0), found(1.0, "0-1", file="cpuset.mems"), repaired(0.0))
    [row] = ring.rows()
    assert (row["drifts"], [its["file"] for its in row["files"]]) == (1, ["cpuset.cpus", "cpuset.mems"])


def test_what_cannot_be_repaired_is_a_row_that_changes_when_it_was(ring: Ring) -> None:
    ring.passed(1.0, found(1.0), unrepairable("read-only"))
    [row] = ring.rows()
    assert (row["result"], row["reason"], row["ended"], row["attempts"]) == (
        "unrepaired",
        "read-only",
        None,
        1,
    )
    ring.passed(4.0, repaired(3000.0, attempt=6))
    [row] = ring.rows()
    assert (row["found"], row["ended"], row["result"]) == (BOOT + 1.0, BOOT + 4.0, "repaired")
    assert (row["attempts"], row["drifts"]) == (6, 1)


def test_a_container_that_ends_ends_its_drift(ring: Ring) -> None:
    ring.passed(1.0, found(1.0), unrepairable("busy"))
    ring.passed(9.0, gone=[SHARED.id])
    [row] = ring.rows()
    assert (row["result"], row["ended"], row["reason"]) == ("gone", BOOT + 9.0, "busy")
    ring.passed(10.0, repaired(9000.0), gone=[SHARED.id])
    assert ring.rows() == []


def fight(ring: Ring, count: int) -> None:
    """Drifts at 1, 2, ... of which each takes 100 ms; the second begins the conflict."""
    ring.passed(1.1, found(1.0), repaired(100.0))
    raised = entry("conflict.raised", OPPONENT)
    ring.passed(2.1, found(2.0, "0-6"), raised, repaired(100.0))
    for number in range(3, count + 1):
        silent = (found(number, f"0-{number % 6}", silent=True), repaired(100.0, attempt=2, silent=True))
        ring.passed(number + 0.1, *silent)


def test_the_drifts_of_a_conflict_are_one_row_which_counts_them(ring: Ring) -> None:
    fight(ring, 40)
    first, all_others = ring.rows()
    assert (first["drifts"], first["result"]) == (1, "repaired")
    assert (all_others["drifts"], all_others["result"], all_others["ended"]) == (39, "conflict", None)
    assert (all_others["attempts"], all_others["lasted_ms"]) == (1 + 2 * 38, 3900.0)
    assert (all_others["opponent"], all_others["files"][0]["observed"]) == ("kubelet", "0-4")


def test_a_conflict_ended_with_the_last_that_was_heard_of_it(ring: Ring) -> None:
    fight(ring, 5)
    ring.rows()
    ring.passed(65.1, entry("conflict.ended", OPPONENT))
    [row] = ring.rows()
    assert (row["found"], row["ended"], row["result"]) == (BOOT + 2.0, BOOT + 5.1, "repaired")
    ring.passed(70.0, found(70.0), repaired(0.0))
    [row] = ring.rows()
    assert (row["drifts"], row["opponent"]) == (1, None)


def test_failures_before_a_conflict_are_counted_once(ring: Ring) -> None:
    ring.passed(1.0, found(1.0), unrepairable("busy"))
    ring.passed(2.0, entry("conflict.raised", OPPONENT))
    ring.passed(3.0, repaired(2000.0, attempt=3))
    [row] = ring.rows()
    assert (row["drifts"], row["attempts"], row["lasted_ms"]) == (1, 3, 2000.0)


def test_a_partition_and_a_cpuset_of_one_container_drift_apart_from_each_other(ring: Ring) -> None:
    fields = {"file": "cpuset.cpus.partition", "desired": "root", "observed": "member", "found_by": "pass"}
    ring.passed(1.0, found(1.0), entry("drift.found", fields, kind="partition"))
    ring.passed(2.0, entry("drift.repaired", {"attempt": 1, "lasted_ms": 1000.0}, kind="partition"))
    cpuset, partition = ring.rows()
    assert (cpuset["result"], partition["result"]) == ("found", "repaired")


def test_silent_drifts_without_a_conflict_are_counted_until_one_is_told_again(ring: Ring) -> None:
    fields = {"file": "cpuset.cpus.partition", "desired": "root", "observed": "member", "found_by": "pass"}
    for number in range(1, 9):
        silent = number & (number - 1) != 0
        ring.passed(
            number,
            entry("drift.found", fields, kind="partition", silent=silent),
            entry("drift.repaired", {"attempt": 1, "lasted_ms": 1.0}, kind="partition", silent=silent),
        )
    assert [(row["drifts"], row["result"]) for row in ring.rows()] == [
        (1, "repaired"),
        (1, "repaired"),
        (1, "repaired"),
        (1, "repaired"),
        (3, "repaired"),
        (1, "repaired"),
    ]


def test_other_news_is_no_drift(ring: Ring) -> None:
    ring.passed(1.0, report.Entry(event="placement.failed", container=SHARED.id, fields={"reason": ""}))
    assert ring.rows() == []


def test_rows_that_could_not_be_written_wait_as_they_are_now(ring: Ring) -> None:
    ring.passed(1.0, found(1.0))
    old = ring.history.take()
    ring.passed(2.0, repaired(1000.0))
    ring.history.give_back(old)
    assert [row["result"] for row in ring.rows()] == ["repaired"]


def test_the_oldest_rows_go_where_nobody_takes_them(ring: Ring) -> None:
    for number in range(history.MOST_WAITING + 3):
        ring.passed(number, found(number), repaired(0.0))
    rows = ring.history.take()
    assert (len(rows), rows[0].number, ring.history.lost) == (history.MOST_WAITING, 4, 3)
    ring.passed(0.0, found(0.0))
    ring.history.give_back(rows)
    assert (len(ring.rows()), ring.history.lost) == (history.MOST_WAITING, 4)


def test_whoever_takes_rows_is_told_that_there_are_some(ring: Ring) -> None:
    told: list[int] = []
    ring.history.on_change = lambda: told.append(1)
    ring.passed(1.0)
    assert told == []
    ring.passed(2.0, found(2.0))
    assert told == [1]


def test_a_text_has_a_bounded_length(ring: Ring) -> None:
    ring.passed(1.0, found(1.0, "0" * 99_999, writer={"pid": 1, "cmdline": "x" * 99_999}))
    [row] = ring.rows()
    assert len(row["files"][0]["observed"]) == len(row["writer"]["cmdline"]) == history.LONGEST + 1
