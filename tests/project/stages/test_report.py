"""What is told of a drift, how long it lasted, and when a repair is tried again."""

from __future__ import annotations

from reconciler import diff, errors, events, observed, plan, report
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import desired

# covers: PRD-7.2, PRD-7.3, PRD-7.4, PRD-7.5, PRD-7.7, PRD-7.8

ONLINE = CpuSet(range(8))
ID = events.ContainerId("one")
WANT = desired.Placement(cpus=CpuSet((2, 3)))
WRITE = plan.Write(container=ID, file="cpuset.cpus", text="2-3", phase=plan.Phase.SETTLE)
REFUSED = errors.HostFileError("cpuset.cpus", "write", 30, "the cgroup2 mount is read-only here")


def look(cpus: tuple[int, ...], effective: tuple[int, ...] | None = None) -> observed.Present:
    nodes = NodeSet((0,))
    granted = CpuSet(cpus if effective is None else effective)
    return observed.Present(
        outer=observed.Cpuset(cpus=CpuSet(cpus), mems=NodeSet(), effective_cpus=granted, effective_mems=nodes)
    )


GOOD = look((2, 3))
WRONG = look((0, 1, 2, 3))


class Node:
    """Passes over one container, with a clock that is set by hand."""

    def __init__(self) -> None:
        self.book = report.Book()

    def make_pass(
        self,
        at: float,
        before: observed.Look,
        after: observed.Look | None = None,
        *,
        found_by: report.FoundBy = "pass",
        signalled: float | None = None,
        error: errors.HostFileError | None = None,
    ) -> list[tuple[str, dict[str, object]]]:
        """One pass that ends at `at`: what it told. `after` None: nothing was written."""
        looks = {ID: before}
        outcome = report.Outcome(
            wanted={ID: WANT},
            looks=looks,
            differences=diff.compare({ID: WANT}, looks, self.book.confirmed, ONLINE),
            results=() if after is None else (report.Result(write=WRITE, error=error),),
            after={} if after is None else {ID: after},
            online=ONLINE,
            found_by=found_by,
            found_at={} if signalled is None else {ID: signalled},
        )
        return [(entry.event, dict(entry.fields)) for entry in self.book.enter(outcome, at)]


def test_the_first_placement_is_no_drift() -> None:
    node = Node()
    assert node.make_pass(1.0, WRONG, GOOD, found_by="hook") == []
    assert node.book.counters == report.Counters()
    assert node.book.confirmed == {ID: WANT}


def test_a_drift_is_told_once_found_and_once_repaired_with_the_time_from_its_signal() -> None:
    node = Node()
    node.make_pass(1.0, GOOD)
    told = node.make_pass(5.25, WRONG, GOOD, found_by="inotify", signalled=5.0)
    assert told == [
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
    assert node.book.counters == report.Counters(found=1, repaired=1)
    assert node.make_pass(6.0, GOOD) == []


def test_a_drift_that_cannot_be_repaired_is_told_once_and_tried_again_ever_more_rarely() -> None:
    node = Node()
    node.make_pass(1.0, GOOD)
    told = node.make_pass(2.0, WRONG, WRONG, error=REFUSED)
    assert [event for event, _ in told] == ["drift.found", "drift.unrepairable"]
    assert told[1][1] == {"reason": str(REFUSED), "attempt": 1}
    pauses = []
    for at in range(3, 12):
        pauses.append(node.book.retry_in())
        assert node.make_pass(float(at), WRONG, WRONG, error=REFUSED) == []
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert node.book.counters == report.Counters(found=1, unrepaired=1)


def test_a_repair_that_works_in_the_end_says_how_many_attempts_it_took() -> None:
    node = Node()
    node.make_pass(1.0, GOOD)
    node.make_pass(2.0, WRONG, WRONG, error=REFUSED)
    ((event, fields),) = node.make_pass(3.5, WRONG, GOOD)
    assert (event, fields["attempt"], fields["lasted_ms"]) == ("drift.repaired", 2, 1500.0)
    assert node.book.retry_in() is None


def test_a_narrowed_ancestor_is_told_with_the_reason() -> None:
    node = Node()
    node.make_pass(1.0, GOOD)
    told = node.make_pass(2.0, look((2, 3), effective=(2,)))
    assert [(event, fields.get("file")) for event, fields in told] == [
        ("drift.found", "cpuset.cpus.effective"),
        ("drift.unrepairable", None),
    ]
    assert "an ancestor's cpuset is narrower" in str(told[1][1]["reason"])
    trouble = node.book.trouble(ID)
    assert trouble is not None
    assert trouble[0] is diff.Cause.NARROWED


def test_a_cgroup_that_vanished_is_neither_drift_nor_an_error() -> None:
    node = Node()
    node.make_pass(1.0, GOOD)
    assert node.make_pass(2.0, observed.Absent()) == []
    assert node.book.counters == report.Counters()
    assert node.book.retry_in() is None


def test_what_has_ended_is_forgotten_whole() -> None:
    node = Node()
    node.make_pass(1.0, GOOD)
    node.make_pass(2.0, WRONG, WRONG, error=REFUSED)
    node.book.forget(ID)
    assert (node.book.confirmed, node.book.latest, node.book.trouble(ID)) == ({}, {}, None)
    assert node.book.retry_in() is None
