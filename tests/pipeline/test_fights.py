"""When drift becomes a conflict, what is told and written in one, and how it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import diff, errors, events, fights, observed, opponents, plan, report
from reconciler.config import schema
from reconciler.policy import desired
from tests.pipeline.samples import cpus, look

# covers: PRD-7.13, PRD-7.14

ONLINE = cpus("0-7")
ID = events.ContainerId("one")
GOOD, WRONG = look("2-3"), look("0-3")
KUBELET = opponents.Opponent(kind="kubelet", name="kubelet", evidence="it says so")
RULES = schema.Fights()
BUSY = errors.HostFileError("one/cpuset.cpus", "write", 16, "busy")
Told = list[tuple[str, Mapping[str, object]]]


class Ring:
    """A container that is 2-3 by right, and passes over it at times that are set by hand."""

    def __init__(self, rules: schema.Fights = RULES, draw: float = 1.0) -> None:
        self.rules = rules
        self.book = report.Book(fights=fights.Fights(rules=lambda: self.rules, draw=lambda: draw))
        self.want = desired.Placement(cpus=cpus("2-3"))
        self.is_now: observed.Present = GOOD
        self.writes: list[float] = []
        self.look(0.0)

    def look(self, at: float, *, stubborn: observed.Present | None = None, refused: bool = False) -> Told:
        """A pass that ends at `at`; what it told. `stubborn` is what stands there right after a repair, which
        the kernel may have `refused`."""
        wanted, looks = {ID: self.want}, {ID: self.is_now}
        differences = diff.compare(wanted, looks, self.book.confirmed, ONLINE)
        held = frozenset(its.container for its in differences if self.book.fights.holds(ID, self.want, at))
        results: tuple[report.Result, ...] = ()
        after: dict[events.ContainerId, observed.Look] = {}
        if differences and not held and differences[0].files:
            self.writes.append(at)
            if not refused:
                self.is_now = stubborn or look(str(self.want.cpus))
            text, phase = str(self.want.cpus), plan.Phase.SETTLE
            write = plan.Write(container=ID, file=observed.CPUS, text=text, phase=phase)
            results, after = (report.Result(write=write, error=BUSY if refused else None),), {ID: self.is_now}
        outcome = report.Outcome(
            wanted=wanted,
            looks=looks,
            differences=differences,
            results=results,
            after=after,
            online=ONLINE,
            found_by="pass",
            held=held,
            blame=lambda *_: KUBELET,
        )
        entries = self.book.enter(outcome, at)
        return [(entry.event, entry.fields) for entry in entries if not entry.silent]

    def drift(self, at: float, text: str = "0-3") -> Told:
        """Somebody writes, and a pass looks."""
        self.is_now = look(text)
        return self.look(at)

    def conflict(self) -> fights.Conflict | None:
        return self.book.fights.conflict(ID)


def kinds(told: Told) -> list[str]:
    return [event for event, _ in told]


@pytest.fixture
def ring() -> Ring:
    """A container in order."""
    return Ring()


@pytest.fixture
def fought() -> Ring:
    """One in conflict since its drifts at 1.0 and 2.0."""
    made = Ring()
    made.drift(1.0)
    made.drift(2.0)
    return made


def test_one_drift_is_no_conflict(ring: Ring) -> None:
    assert kinds(ring.drift(1.0)) == ["drift.found", "drift.repaired"]
    assert ring.conflict() is None
    assert ring.book.fights.document(ID) is None


def test_the_second_within_a_minute_is_one_and_is_told_with_the_opponent_and_the_values(ring: Ring) -> None:
    ring.drift(1.0)
    told = ring.drift(61.0, "0-7")
    assert kinds(told) == ["drift.found", "conflict.raised", "drift.repaired"]
    assert told[1][1] == {
        "opponent": "kubelet",
        "evidence": "it says so",
        "times": 2,
        "values": ["cpuset.cpus 0-3", "cpuset.cpus 0-7"],
    }


def test_drifts_that_are_further_apart_are_none(ring: Ring) -> None:
    for at in (1.0, 61.5, 122.0, 182.5):
        assert kinds(ring.drift(at)) == ["drift.found", "drift.repaired"]


@pytest.mark.parametrize("drifts", [2, 3, 7])
def test_how_many_it_takes_is_configured(drifts: int) -> None:
    ring = Ring(schema.Fights(drifts=drifts))
    raised = [at for at in range(1, 12) if "conflict.raised" in kinds(ring.drift(float(at)))]
    assert raised == [drifts]


def test_the_status_has_it_as_of_the_last_pass(fought: Ring) -> None:
    fought.look(4.5)
    assert fought.book.fights.document(ID) == {
        "opponent": "kubelet",
        "kind": "kubelet",
        "evidence": "it says so",
        "times": 2,
        "since_seconds": 3.5,
        "values": ["cpuset.cpus 0-3", "cpuset.cpus 0-3"],
    }


def test_in_a_conflict_further_drifts_are_counted_and_told_when_their_number_doubles(fought: Ring) -> None:
    told = [(at, kinds(fought.drift(float(at)))) for at in range(4, 34)]
    assert [(at, what) for at, what in told if what] == [
        (5, ["conflict.goes-on"]),
        (9, ["conflict.goes-on"]),
        (17, ["conflict.goes-on"]),
        (33, ["conflict.goes-on"]),
    ]
    conflict = fought.conflict()
    assert conflict is not None
    assert conflict.times == 32
    assert fought.book.counters == report.Counters(found=32, repaired=32)


def test_repairs_are_made_after_pauses_that_double_to_the_longest(fought: Ring) -> None:
    at = 2.0
    fought.writes.clear()
    while at < 8.0:
        at = round(at + 0.01, 2)
        fought.drift(at)
    gaps = [
        round(later - earlier, 2)
        for earlier, later in zip([2.0, *fought.writes], fought.writes, strict=False)
    ]
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8], abs=0.011)


@pytest.mark.parametrize(("draw", "pause"), [(0.0, 0.05), (0.5, 0.075), (1.0, 0.1)])
def test_chance_draws_each_pause_from_the_upper_half(draw: float, pause: float) -> None:
    ring = Ring(draw=draw)
    ring.drift(1.0)
    ring.drift(2.0)
    ring.drift(2.01)
    assert ring.book.fights.held() == {ID: pytest.approx(pause - 0.01)}


def test_who_waits_is_drifted_and_neither_failed_nor_told(fought: Ring) -> None:
    assert fought.drift(2.05) == []
    cause, reason = fought.book.trouble(ID) or (None, "")
    assert (cause, reason) == (
        diff.Cause.DRIFT,
        "somebody changes it again and again: it is repaired in a moment",
    )
    assert fought.book.retry_in() is None
    assert fought.book.counters == report.Counters(found=3, repaired=2)
    assert fought.look(2.15) == []
    assert fought.book.counters == report.Counters(found=3, repaired=3)


def test_who_becomes_due_while_others_are_looked_at_is_not_forgotten(fought: Ring) -> None:
    fought.drift(2.05)
    list(fought.book.fights.passed(3.0))
    assert fought.book.fights.held() == {ID: 0.1}
    list(fought.book.fights.passed(7.2))
    assert fought.book.fights.held() == {}


def test_a_repair_that_fails_in_a_conflict_is_tried_again_like_any_other(fought: Ring) -> None:
    fought.drift(2.05)
    list(fought.book.fights.passed(3.0))
    fought.is_now = WRONG
    fought.look(3.1, refused=True)
    assert (fought.book.fights.held(), fought.book.retry_in()) == ({}, 0.1)


def test_what_is_wanted_anew_does_not_wait(fought: Ring) -> None:
    fought.drift(2.05)
    fought.want = desired.Placement(cpus=cpus("4-5"))
    fought.writes.clear()
    fought.look(2.06)
    assert (fought.writes, fought.is_now) == ([2.06], look("4-5"))


def test_a_pause_that_passed_in_peace_delays_nothing(fought: Ring) -> None:
    fought.writes.clear()
    fought.drift(30.0)
    assert fought.writes == [30.0]


def test_a_conflict_ends_when_the_container_was_left_alone(fought: Ring) -> None:
    assert fought.look(61.9) == []
    ((event, fields),) = fought.look(62.0)
    assert (event, fields["times"]) == ("conflict.ended", 2)
    assert fought.conflict() is None
    assert kinds(fought.drift(63.0)) == ["drift.found", "drift.repaired"]
    assert (fought.book.fights.raised, fought.book.fights.ended) == (1, 1)


def test_a_drift_that_lasts_ends_no_conflict(fought: Ring) -> None:
    narrowed = look("2-3", effective="2")
    fought.is_now = narrowed
    for at in range(3, 300):
        fought.look(float(at))
    assert fought.conflict() is not None


def test_what_is_wrong_again_right_after_each_repair_is_a_conflict_too(ring: Ring) -> None:
    ring.is_now = WRONG
    told = [kinds(ring.look(at / 100, stubborn=WRONG)) for at in range(1000)]
    assert told[0] == ["drift.found", "drift.unrepairable"]
    assert told[1] == ["conflict.raised"]
    assert len(ring.writes) <= 6 + 10
    assert ring.book.retry_in() is None
    assert 0 < ring.book.fights.held()[ID] <= 1.0


def test_a_first_placement_that_somebody_undoes_at_once_is_a_conflict_too(ring: Ring) -> None:
    ring.want = desired.Placement(cpus=cpus("4-5"))
    for at in range(1, 1000):
        ring.look(at / 100, stubborn=GOOD)
    assert ring.conflict() is not None
    assert len(ring.writes) <= 7 + 10


def test_a_change_of_ours_is_no_blow(ring: Ring) -> None:
    for at in range(1, 20):
        ring.want = desired.Placement(cpus=cpus(str(at % 8)))
        assert ring.look(float(at)) == []
    assert ring.conflict() is None


def test_another_value_while_it_waits_counts_and_the_same_one_does_not(fought: Ring) -> None:
    for at, text in ((2.01, "0-3"), (2.02, "0-3"), (2.03, "0-1"), (2.04, "0-1"), (2.05, "0-3")):
        fought.drift(at, text)
    conflict = fought.conflict()
    assert conflict is not None
    assert conflict.times == 2 + 3


def test_a_container_that_has_ended_fights_no_more(fought: Ring) -> None:
    fought.drift(2.05)
    fought.book.forget(ID)
    assert (fought.conflict(), fought.book.fights.held()) == (None, {})


def test_opponents_are_counted_over_all_containers() -> None:
    its = fights.Fights()
    for begin, name in enumerate("cab"):
        for at in (begin, begin + 1.0):
            its.seen(events.ContainerId(name), f"{at}", KUBELET, at)
    its.seen(events.ContainerId("d"), "0", opponents.nobody(ID, "cpuset.cpus", "0"), 1.0)
    found = fights.by_opponent(its.conflicts())
    assert {kind: [conflict.since for conflict in its] for kind, its in found.items()} == {
        "kubelet": [0.0, 1.0, 2.0]
    }


STEPS = st.lists(
    st.tuples(
        st.floats(min_value=0.0, max_value=100.0) | st.just(0.001),
        st.sampled_from(["", "0-3", "0-7", "1"]),
        st.booleans(),
    ),
    max_size=150,
)


@given(steps=STEPS, draw=st.floats(min_value=0.0, max_value=1.0))
def test_whatever_happens_lines_and_writes_are_bounded_by_the_time_that_it_takes(
    steps: list[tuple[float, str, bool]], draw: float
) -> None:
    ring = Ring(draw=draw)
    now, lines = 0.0, 0
    for seconds, text, stubborn in steps:
        now += seconds
        if text:
            ring.is_now = look(text)
        lines += len(ring.look(now, stubborn=look(text) if text and stubborn else None))
    begun = math.floor(now / RULES.ends_after_seconds) + 1
    # Two drifts begin a conflict; pauses of 0.05 s and more then double until they are half a second or more.
    assert len(ring.writes) <= begun * (2 + 5) + math.floor(now / (RULES.longest_pause_seconds / 2))
    # Each of the two has three lines at most, a conflict its first, its last, and one for each doubling.
    assert lines <= begun * (2 * 3 + 2 + math.log2(len(steps) + 1))
