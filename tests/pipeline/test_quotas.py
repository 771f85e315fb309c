"""`cpu.max` beside the cpuset: what differs, when it is written, what is told of it."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler import diff, errors, events, observed, plan, report
from reconciler.cpu import bandwidth
from reconciler.cpu.bandwidth import Bandwidth
from reconciler.policy import desired, state
from tests.pipeline.samples import cpus, look, nodes

# covers: PRD-2.13, PRD-4.6, PRD-7.4

ONLINE = cpus("0-7")
DB = events.ContainerId("db")
WEB = events.ContainerId("web")
OWNER = state.ClaimKey(events.PodUid("uid"), "main")
LIMIT = Bandwidth(quota=200_000)
OWN = bandwidth.Wish(file=bandwidth.FILE, limit=LIMIT)
PODS = bandwidth.Wish(file=bandwidth.POD_FILE, limit=LIMIT)
BACK = dataclasses.replace(OWN, lifted=False, once=True)
PLACED = desired.Placement(cpus=cpus("2-3"), owner=OWNER)
WANT = dataclasses.replace(PLACED, quotas=(OWN, PODS))
DENIED = errors.HostFileError("db/cpu.max", "read", 13, "not permitted")

FREE = "max 100000"
LIMITED = "200000 100000"
FOREIGN = "1000 100000"


def seen(
    own: str | errors.HostFileError, pods: str = FREE, cpus_: str = "2-3", effective: str | None = None
) -> observed.Present:
    """A cgroup with its quota and its pod's."""
    quotas = tuple(
        observed.Quota(file=file, says=Bandwidth.parse(its, what=file) if isinstance(its, str) else its)
        for file, its in ((bandwidth.FILE, own), (bandwidth.POD_FILE, pods))
    )
    return dataclasses.replace(look(cpus_, effective=effective), quotas=quotas)


def compare(
    want: desired.Placement, its: observed.Look, confirmed: desired.Placement | None = None
) -> tuple[diff.Difference, ...]:
    return diff.compare({DB: want}, {DB: its}, {} if confirmed is None else {DB: confirmed}, ONLINE)


def test_quotas_that_are_lifted_make_no_difference() -> None:
    assert compare(WANT, seen(FREE)) == ()
    assert compare(WANT, seen("max 50000")) == ()


def test_quotas_that_nobody_wishes_to_change_make_no_difference() -> None:
    assert compare(PLACED, seen(FOREIGN, FOREIGN)) == ()


@pytest.mark.parametrize(
    ("want", "its", "files"),
    [
        pytest.param(WANT, seen(LIMITED), ["cpu.max 200000 100000 -> max 100000"], id="the container's"),
        pytest.param(WANT, seen(FREE, "5000 50000"), ["../cpu.max 5000 50000 -> max 50000"], id="the pod's"),
        pytest.param(
            dataclasses.replace(WANT, mems=nodes("1")),
            seen(LIMITED, cpus_="0-7"),
            [
                "cpuset.mems  -> 1",
                "cpuset.cpus 0-7 -> 2-3",
                "cpu.max 200000 100000 -> max 100000",
            ],
            id="after the cpuset",
        ),
        pytest.param(
            dataclasses.replace(PLACED, quotas=(BACK,)),
            seen(FREE),
            ["cpu.max max 100000 -> 200000 100000"],
            id="given back",
        ),
    ],
)
def test_the_files_to_write(want: desired.Placement, its: observed.Present, files: list[str]) -> None:
    (difference,) = compare(want, its)
    told = sorted(f"{file.file} {file.have} -> {file.want}" for file in difference.files)
    assert told == sorted(files)


@pytest.mark.parametrize(
    ("its", "cause"),
    [
        pytest.param(seen(FOREIGN), diff.Cause.DRIFT, id="somebody's own quota"),
        pytest.param(seen(LIMITED), diff.Cause.PENDING, id="the runtime's record, written back"),
        pytest.param(seen(FREE, FOREIGN), diff.Cause.PENDING, id="kubelet's resize of the pod"),
        pytest.param(seen(LIMITED, cpus_="0-7"), diff.Cause.DRIFT, id="a cpuset that drifted as well"),
    ],
)
def test_what_the_owner_of_a_file_writes_is_no_drift(its: observed.Present, cause: diff.Cause) -> None:
    (difference,) = compare(WANT, its, confirmed=WANT)
    assert difference.cause is cause


def test_a_new_limit_makes_the_change_one_of_ours() -> None:
    resized = dataclasses.replace(WANT, quotas=(dataclasses.replace(OWN, limit=Bandwidth(quota=300_000)),))
    (difference,) = compare(resized, seen(LIMITED), confirmed=WANT)
    assert difference.cause is diff.Cause.PENDING


def test_a_quota_that_cannot_be_read_leaves_nothing_to_write_and_the_cpuset_as_it_is() -> None:
    (difference,) = compare(WANT, seen(DENIED), confirmed=WANT)
    assert (difference.cause, difference.files) == (diff.Cause.PENDING, ())
    (difference,) = compare(WANT, seen(DENIED, cpus_="0-7"), confirmed=WANT)
    assert [file.file for file in difference.files] == ["cpuset.cpus"]


def test_cpus_that_are_not_granted_are_told_though_quotas_are_right() -> None:
    (difference,) = compare(WANT, seen(FREE, effective="2"), confirmed=WANT)
    assert (difference.cause, difference.files) == (diff.Cause.NARROWED, ())


def order(
    wanted: desired.Desired, looks: observed.Observed, claimed: str = "2-3"
) -> list[tuple[str, str, str]]:
    """The plan: container, file and phase."""
    differences = diff.compare(wanted, looks, {}, ONLINE)
    steps = plan.order(differences, wanted, looks, cpus(claimed), ONLINE - cpus(claimed))
    assert all(not step.needs and not step.vacates for step in steps if step.file.endswith(bandwidth.FILE))
    return [(step.container, step.file, step.phase.value) for step in steps]


def test_quotas_are_written_last_and_hold_nobody_up() -> None:
    other = events.ContainerId("other")
    owner = state.ClaimKey(events.PodUid("other"), "main")
    wanted = {
        DB: WANT,
        WEB: desired.Placement(cpus=cpus("0,4-7")),
        other: desired.Placement(cpus=cpus("1"), owner=owner),
    }
    looks = {DB: seen(LIMITED, LIMITED, cpus_="2"), WEB: look("0-7"), other: look("")}
    assert order(wanted, looks, "1-3") == [
        (WEB, "cpuset.cpus", "leave"),
        (DB, "cpuset.cpus", "admit"),
        (other, "cpuset.cpus", "admit"),
        (DB, "cpu.max", "settle"),
        (DB, "../cpu.max", "settle"),
    ]


def test_a_quota_is_written_alone_where_the_cpuset_is_right() -> None:
    assert order({DB: WANT}, {DB: seen(LIMITED)}) == [(DB, "cpu.max", "settle")]


def test_what_is_given_back_comes_after_leaving_the_exclusive_cpus() -> None:
    shared = desired.Placement(cpus=cpus("0-1,4-7"), quotas=(BACK,))
    assert order({DB: shared}, {DB: seen(FREE, cpus_="2-3")}) == [
        (DB, "cpuset.cpus", "leave"),
        (DB, "cpu.max", "settle"),
    ]


class Passes:
    """Passes over one container, and what they told."""

    def __init__(self) -> None:
        self.book = report.Book()
        self.want = WANT

    def make(
        self,
        before: observed.Look,
        after: observed.Look | None = None,
        error: errors.HostFileError | None = None,
    ) -> list[tuple[str, object, object]]:
        """One; `after` None: nothing was written. Event, file and reason of what it told."""
        wanted, looks = {DB: self.want}, {DB: before}
        write = plan.Write(container=DB, file=bandwidth.FILE, text=FREE, phase=plan.Phase.SETTLE)
        outcome = report.Outcome(
            wanted=wanted,
            looks=looks,
            differences=diff.compare(wanted, looks, self.book.confirmed, ONLINE),
            results=() if after is None else (report.Result(write=write, error=error),),
            after={} if after is None else {DB: after},
            online=ONLINE,
            found_by="pass",
        )
        told = self.book.enter(outcome, 1.0)
        return [(its.event, its.fields.get("file"), its.fields.get("reason")) for its in told]


def test_somebody_elses_quota_is_told_and_counted_as_drift() -> None:
    passes = Passes()
    passes.make(seen(FREE))
    assert passes.make(seen(FOREIGN, cpus_="0-7"), seen(FREE)) == [
        ("drift.found", "cpuset.cpus", None),
        ("drift.found", "cpu.max", None),
        ("drift.repaired", None, None),
    ]
    assert passes.book.counters == report.Counters(found=1, repaired=1)


@pytest.mark.parametrize("its", [seen(LIMITED), seen(FREE, FOREIGN)], ids=["the runtime's", "kubelet's"])
def test_what_the_owner_writes_again_and_again_is_lifted_and_never_counted(its: observed.Present) -> None:
    passes = Passes()
    passes.make(seen(FREE))
    for _ in range(5):
        assert passes.make(its, seen(FREE)) == []
    assert passes.book.counters == report.Counters()
    assert passes.book.retry_in() is None


def test_of_a_drift_only_the_files_that_drifted_are_told() -> None:
    passes = Passes()
    passes.make(seen(FREE))
    told = passes.make(seen(LIMITED, cpus_="0-7"), seen(FREE))
    assert [file for _, file, _ in told] == ["cpuset.cpus", None]


@pytest.mark.parametrize(
    ("its", "why"),
    [
        pytest.param(seen(DENIED), str(DENIED), id="cannot be read"),
        pytest.param(
            seen(LIMITED),
            "cpu.max is 200000 100000 again after max 100000 was written: someone else writes it too",
            id="does not stay",
        ),
    ],
)
def test_a_quota_that_cannot_be_lifted_is_told_with_the_reason_and_tried_again(
    its: observed.Present, why: str
) -> None:
    passes = Passes()
    assert passes.make(its, its) == [("placement.failed", None, why)]
    assert passes.book.retry_in() == report.FIRST_RETRY_SECONDS
    assert passes.make(seen(FREE)) == []
    assert passes.book.retry_in() is None


def test_a_lift_is_remembered_until_it_is_undone() -> None:
    passes = Passes()
    passes.make(seen(FREE))
    assert passes.book.lifted == {DB}
    passes.want = dataclasses.replace(PLACED, quotas=(BACK,))
    refused = errors.HostFileError("db/cpu.max", "write", 30, "read-only")
    passes.make(seen(FREE), seen(FREE), refused)
    assert passes.book.lifted == {DB}
    passes.make(seen(FREE), seen(LIMITED))
    assert passes.book.lifted == set()
    assert passes.book.confirmed == {DB: PLACED}


def test_a_lift_that_somebody_has_undone_already_is_over() -> None:
    passes = Passes()
    passes.make(seen(FREE))
    passes.want = dataclasses.replace(PLACED, quotas=(BACK,))
    assert passes.make(seen(FOREIGN)) == []
    assert passes.book.lifted == set()


def test_who_has_ended_is_owed_nothing() -> None:
    passes = Passes()
    passes.make(seen(FREE))
    passes.book.forget(DB)
    assert passes.book.lifted == set()
