"""What is told of a drift, how long it lasted, and when a repair is tried again."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler import diff, errors, events, narrowing, observed, plan, report
from reconciler.policy import desired
from tests.pipeline.samples import cpus, look, nodes

# covers: PRD-7.2, PRD-7.3, PRD-7.4, PRD-7.5, PRD-7.7, PRD-7.8

ONLINE = cpus("0-7")
ID = events.ContainerId("one")
WANT = desired.Placement(cpus=cpus("2-3"))
WRITE = plan.Write(container=ID, file=observed.CPUS, text="2-3", phase=plan.Phase.SETTLE, needs=cpus("3"))
BUSY = errors.HostFileError("one/cpuset.cpus", "write", 16, "busy")
GOOD = look("2-3")
WRONG = look("0-3")
NARROWED = look("2-3", effective="2")
ABOVE = (narrowing.Ancestor(path="kubepods", cpuset=look("0-2").outer),)
UNREADABLE = observed.Unreadable(error=errors.HostFileError("one/cpuset.cpus", "read", 5, "broken"))

Told = list[tuple[str, dict[str, object]]]


class Passes:
    """Passes over one container under a clock that is set by hand, and what they told."""

    def __init__(self) -> None:
        self.book = report.Book()
        self.want = WANT

    def make(
        self,
        at: float,
        before: observed.Look,
        after: observed.Look | None = None,
        *,
        found_by: report.FoundBy = "pass",
        signalled: float | None = None,
        result: report.Result | None = None,
    ) -> Told:
        """One that ends at `at`. `after` None: nothing was written."""
        wanted, looks = {ID: self.want}, {ID: before}
        outcome = report.Outcome(
            wanted=wanted,
            looks=looks,
            differences=diff.compare(wanted, looks, self.book.confirmed, ONLINE),
            results=() if after is None else (result or report.Result(write=WRITE),),
            after={} if after is None else {ID: after},
            online=ONLINE,
            found_by=found_by,
            found_at={} if signalled is None else {ID: signalled},
            above=lambda _: ABOVE,
        )
        return [(entry.event, dict(entry.fields)) for entry in self.book.enter(outcome, at)]

    def fail(self, at: float) -> Told:
        """A pass that finds it wrong and cannot write."""
        return self.make(at, WRONG, WRONG, result=report.Result(write=WRITE, error=BUSY))


@pytest.fixture
def passes() -> Passes:
    """A container that was seen in order at 1.0."""
    made = Passes()
    made.make(1.0, GOOD)
    return made


def kinds(told: Told) -> list[str]:
    return [event for event, _ in told]


def test_the_first_placement_is_told_as_no_drift() -> None:
    passes = Passes()
    assert passes.make(1.0, WRONG, GOOD, found_by="hook") == []
    assert passes.book.counters == report.Counters()
    assert passes.book.confirmed == {ID: WANT}


def test_a_changed_wish_is_told_as_no_drift(passes: Passes) -> None:
    passes.want = desired.Placement(cpus=cpus("4-5"))
    assert passes.make(2.0, GOOD, look("4-5")) == []
    assert passes.book.counters == report.Counters()


def test_a_drift_is_told_once_found_and_once_repaired(passes: Passes) -> None:
    assert passes.make(5.25, WRONG, GOOD, signalled=5.0) == [
        (
            "drift.found",
            {
                "file": "cpuset.cpus",
                "desired": "2-3",
                "observed": "0-3",
                "effective": "0-3",
                "found_by": "inotify",
            },
        ),
        (
            "drift.repaired",
            {"observed": "2-3", "effective": "2-3", "attempt": 1, "lasted_ms": 250.0, "result": "in-sync"},
        ),
    ]
    assert passes.book.counters == report.Counters(found=1, repaired=1)
    assert passes.make(6.0, GOOD) == []


def test_every_file_that_drifted_is_told_and_they_count_as_one(passes: Passes) -> None:
    passes.want = desired.Placement(cpus=cpus("2-3"), mems=nodes("1"))
    passes.make(2.0, look("2-3", mems="1"))
    told = passes.make(3.0, look("0-7", mems="0"), look("2-3", mems="1"))
    assert [fields.get("file") for _, fields in told] == ["cpuset.cpus", "cpuset.mems", None]
    assert passes.book.counters == report.Counters(found=1, repaired=1)


@pytest.mark.parametrize("found_by", ["pass", "hook"])
def test_a_drift_that_nobody_signalled_lasts_from_the_pass_that_found_it(
    passes: Passes, found_by: report.FoundBy
) -> None:
    ((_, found), _) = passes.make(
        2.0, WRONG, WRONG, found_by=found_by, result=report.Result(write=WRITE, error=BUSY)
    )
    ((_, repaired),) = passes.make(3.5, WRONG, GOOD)
    assert (found["found_by"], repaired["lasted_ms"]) == (found_by, 1500.0)


def test_a_drift_lasts_from_its_first_signal(passes: Passes) -> None:
    passes.make(2.0, WRONG, WRONG, signalled=1.5, result=report.Result(write=WRITE, error=BUSY))
    ((_, repaired),) = passes.make(3.0, WRONG, GOOD, signalled=2.9)
    assert repaired["lasted_ms"] == 1500.0


def test_a_drift_that_someone_else_undid_counts_as_repaired(passes: Passes) -> None:
    passes.fail(2.0)
    assert kinds(passes.make(3.0, GOOD)) == ["drift.repaired"]


def test_a_drift_that_cannot_be_repaired_is_told_once(passes: Passes) -> None:
    told = passes.fail(2.0)
    assert kinds(told) == ["drift.found", "drift.unrepairable"]
    assert told[1][1] == {"reason": str(BUSY), "attempt": 1}
    assert passes.fail(3.0) == []
    assert passes.book.counters == report.Counters(found=1, unrepaired=1)


def test_a_repair_that_works_in_the_end_says_how_many_attempts_it_took(passes: Passes) -> None:
    passes.fail(2.0)
    passes.fail(3.0)
    ((event, fields),) = passes.make(4.0, WRONG, GOOD)
    assert (event, fields["attempt"], fields["lasted_ms"]) == ("drift.repaired", 3, 2000.0)
    assert passes.book.retry_in() is None
    assert passes.book.trouble(ID) is None


def test_each_drift_is_in_the_end_counted_as_repaired_or_unrepaired_and_not_as_both(passes: Passes) -> None:
    passes.fail(2.0)
    passes.make(3.0, WRONG, GOOD)
    assert passes.book.counters == report.Counters(found=1, repaired=1, unrepaired=0)


def test_the_pauses_before_another_attempt_double_from_a_tenth_of_a_second_to_ten(passes: Passes) -> None:
    pauses = []
    for at in range(2, 12):
        passes.fail(float(at))
        pauses.append(passes.book.retry_in())
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]


def test_the_pause_is_bounded_however_often_it_failed(passes: Passes) -> None:
    for at in range(2, 2000):
        passes.fail(float(at))
    assert passes.book.retry_in() == 10.0


def test_a_first_placement_that_fails_is_told_once_and_tried_again() -> None:
    passes = Passes()
    assert passes.fail(1.0) == [("placement.failed", {"reason": str(BUSY), "attempt": 1})]
    assert passes.fail(2.0) == []
    assert passes.book.counters == report.Counters()
    assert passes.book.retry_in() == 0.2
    assert passes.make(3.0, WRONG, GOOD) == []
    assert passes.book.retry_in() is None


def test_a_write_that_waits_for_someone_else_says_for_which_cpus() -> None:
    passes = Passes()
    ((event, fields),) = passes.make(1.0, WRONG, WRONG, result=report.Result(write=WRITE, blocked=True))
    assert event == "placement.failed"
    assert fields["reason"] == "cpuset.cpus waits: someone else could not be moved off CPU 3"


def test_what_an_ancestor_narrows_is_told_with_what_is_granted(passes: Passes) -> None:
    (found, unrepairable) = passes.make(2.0, NARROWED)
    assert found == (
        "drift.found",
        {
            "file": "cpuset.cpus.effective",
            "desired": "2-3",
            "observed": "2",
            "effective": "2",
            "found_by": "pass",
        },
    )
    assert unrepairable[0] == "drift.unrepairable"
    because = "cpuset.cpus of its ancestor kubepods is 0-2"
    assert unrepairable[1] == {
        "reason": f"cpuset.cpus is 2-3 and the kernel grants 2: {because}",
        "unenforceable": {
            "file": "cpuset.cpus.effective",
            "lacks": "3",
            "ancestor": "kubepods",
            "because": because,
        },
        "attempt": 1,
    }
    what = passes.book.unenforceable(ID)
    assert what is not None
    assert what.document() == unrepairable[1]["unenforceable"]
    assert passes.make(3.0, NARROWED) == []
    assert kinds(passes.make(4.0, GOOD)) == ["drift.repaired"]
    assert passes.book.unenforceable(ID) is None


def test_memory_that_the_kernel_does_not_grant_is_told_like_cpus() -> None:
    passes = Passes()
    passes.want = desired.Placement(cpus=cpus("2-3"), mems=nodes("1"))
    passes.make(1.0, look("2-3", mems="1"))
    outer = dataclasses.replace(look("2-3", mems="1").outer, effective_mems=nodes("0"))
    (_, found), (event, failed) = passes.make(2.0, observed.Present(outer=outer))
    assert (found["file"], found["desired"], found["observed"]) == ("cpuset.mems.effective", "1", "0")
    assert event == "drift.unrepairable"
    assert failed["reason"] == (
        "cpuset.mems is 1 and the kernel grants 0: node 1 has no memory that is online"
    )


def test_what_an_inner_group_is_granted_is_told(passes: Passes) -> None:
    (_, found), (_, failed) = passes.make(2.0, look("2-3", inner="", inner_effective="3"))
    assert (found["observed"], found["effective"]) == ("3", "3")
    assert "the kernel grants 3" in str(failed["reason"])


def test_what_was_written_and_is_wrong_again_is_not_blamed_on_an_ancestor(passes: Passes) -> None:
    (_, (_, failed)) = passes.make(2.0, WRONG, look("0-1"))
    assert failed["reason"] == "cpuset.cpus is 0-1 again after 2-3 was written: someone else writes it too"


@pytest.mark.parametrize("known", [pytest.param(True, id="in order before"), pytest.param(False, id="new")])
def test_a_cgroup_that_is_not_there_is_neither_drift_nor_an_error(known: bool) -> None:
    passes = Passes()
    if known:
        passes.make(1.0, GOOD)
    assert passes.make(2.0, observed.Absent()) == []
    assert passes.book.counters == report.Counters()
    assert (passes.book.retry_in(), passes.book.trouble(ID)) == (None, None)


def test_a_cgroup_that_vanished_while_it_was_repaired_is_no_trouble_any_more(passes: Passes) -> None:
    passes.fail(2.0)
    assert passes.make(3.0, WRONG, observed.Absent(), result=report.Result(write=WRITE, gone=True)) == []
    assert (passes.book.retry_in(), passes.book.trouble(ID)) == (None, None)
    assert passes.book.counters == report.Counters(found=1, unrepaired=1)


def test_a_cgroup_that_cannot_be_read_is_told_once_with_its_file_and_tried_again(passes: Passes) -> None:
    assert passes.make(2.0, UNREADABLE) == [
        ("placement.failed", {"reason": str(UNREADABLE.error), "attempt": 1})
    ]
    assert passes.make(3.0, UNREADABLE) == []
    assert passes.book.retry_in() == 0.2
    assert passes.make(4.0, GOOD) == []
    assert passes.book.retry_in() is None


def test_a_container_that_nothing_is_desired_of_is_looked_at_and_not_judged() -> None:
    book = report.Book()
    outcome = report.Outcome(
        wanted={}, looks={ID: WRONG}, differences=(), results=(), after={}, online=ONLINE, found_by="pass"
    )
    assert book.enter(outcome, 1.0) == ()
    assert (book.latest, book.confirmed) == ({ID: WRONG}, {})


def test_what_has_ended_is_forgotten_whole(passes: Passes) -> None:
    passes.fail(2.0)
    passes.book.forget(ID)
    passes.book.forget(ID)
    assert (passes.book.confirmed, passes.book.latest, passes.book.written()) == ({}, {}, {})
    assert (passes.book.trouble(ID), passes.book.retry_in()) == (None, None)


@pytest.mark.parametrize(
    ("seen", "reach"),
    [
        pytest.param(GOOD, {ID: cpus("2-3")}, id="its set"),
        pytest.param(look("", effective="0-7"), {ID: cpus("0-7")}, id="all that it inherits"),
        pytest.param(observed.Absent(), {}, id="not there"),
        pytest.param(UNREADABLE, {ID: ONLINE}, id="never to be read, so that it may be anywhere"),
    ],
)
def test_the_written_sets_are_those_that_tasks_may_use(seen: observed.Look, reach: dict[str, object]) -> None:
    passes = Passes()
    passes.make(1.0, seen)
    assert passes.book.written() == reach


def test_who_cannot_be_read_is_where_it_was_last_seen(passes: Passes) -> None:
    passes.make(2.0, UNREADABLE)
    assert passes.book.written() == {ID: cpus("2-3")}
    passes.make(3.0, observed.Absent())
    assert passes.book.written() == {}
