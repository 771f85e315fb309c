"""What differs is found in the files and in what is effective, and nothing else is written."""

from __future__ import annotations

import pytest

from reconciler import diff, events, observed
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import desired

# covers: PRD-4.6, PRD-7.4, PRD-7.5, PRD-7.9

ONLINE = CpuSet(range(8))
ID = events.ContainerId("one")


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text, what="test")


def cpuset(cpus_: str, effective: str | None = None, mems: str = "", nodes: str = "0-1") -> observed.Cpuset:
    return observed.Cpuset(
        cpus=cpus(cpus_),
        mems=NodeSet.parse(mems, what="test"),
        effective_cpus=cpus(cpus_ if effective is None else effective),
        effective_mems=NodeSet.parse(mems or nodes, what="test"),
    )


def compare(
    want: desired.Placement, look: observed.Look, confirmed: desired.Placement | None = None
) -> tuple[diff.Difference, ...]:
    return diff.compare({ID: want}, {ID: look}, {} if confirmed is None else {ID: confirmed}, ONLINE)


WANT = desired.Placement(cpus=cpus("2-3"))
PINNED = desired.Placement(cpus=cpus("2-3"), mems=NodeSet((1,)))


@pytest.mark.parametrize(
    ("want", "look"),
    [
        pytest.param(WANT, observed.Present(outer=cpuset("2-3")), id="as desired"),
        pytest.param(WANT, observed.Present(outer=cpuset("2-3", mems="0")), id="memory is left alone"),
        pytest.param(PINNED, observed.Present(outer=cpuset("2-3", mems="1")), id="with memory"),
        pytest.param(
            WANT,
            observed.Present(outer=cpuset("2-3"), inner=cpuset("", effective="2-3")),
            id="the inner group inherits",
        ),
        pytest.param(WANT, observed.Absent(), id="no cgroup"),
        pytest.param(
            desired.Placement(cpus=cpus("3,8")),
            observed.Present(outer=cpuset("3,8", effective="3")),
            id="a CPU of the claim is offline",
        ),
    ],
)
def test_nothing_differs(want: desired.Placement, look: observed.Look) -> None:
    assert compare(want, look) == ()


@pytest.mark.parametrize(
    ("want", "look", "files"),
    [
        pytest.param(
            WANT, observed.Present(outer=cpuset("0-7")), [("cpuset.cpus", "2-3", "0-7")], id="other CPUs"
        ),
        pytest.param(
            WANT,
            observed.Present(outer=cpuset("", effective="0-7")),
            [("cpuset.cpus", "2-3", "")],
            id="an empty file",
        ),
        pytest.param(
            PINNED,
            observed.Present(outer=cpuset("2-3", mems="0")),
            [("cpuset.mems", "1", "0")],
            id="other memory",
        ),
        pytest.param(
            PINNED,
            observed.Present(outer=cpuset("0-7", mems="0-1")),
            [("cpuset.cpus", "2-3", "0-7"), ("cpuset.mems", "1", "0-1")],
            id="CPUs leave before memory is taken away",
        ),
        pytest.param(
            desired.Placement(cpus=cpus("2-5"), mems=NodeSet((0, 1))),
            observed.Present(outer=cpuset("2-3", mems="0")),
            [("cpuset.mems", "0-1", "0"), ("cpuset.cpus", "2-5", "2-3")],
            id="memory comes before CPUs that need it",
        ),
        pytest.param(
            WANT,
            observed.Present(outer=cpuset("2-3"), inner=cpuset("0-1", effective="0-1")),
            [("container/cpuset.cpus", "2-3", "0-1")],
            id="an inner group with a set of its own follows",
        ),
    ],
)
def test_only_the_files_that_differ_are_to_be_written(
    want: desired.Placement, look: observed.Present, files: list[tuple[str, str, str]]
) -> None:
    (found,) = compare(want, look)
    assert [(file.file, file.want, file.have) for file in found.files] == files


def test_what_was_never_in_order_is_a_change_of_ours_and_no_drift() -> None:
    look = observed.Present(outer=cpuset("0-7"))
    before = desired.Placement(cpus=cpus("0-7"))
    assert compare(WANT, look)[0].cause is diff.Cause.PENDING
    assert compare(WANT, look, confirmed=before)[0].cause is diff.Cause.PENDING
    assert compare(WANT, look, confirmed=WANT)[0].cause is diff.Cause.DRIFT


def test_right_files_under_a_narrowed_ancestor_are_a_difference_with_nothing_to_write() -> None:
    (found,) = compare(WANT, observed.Present(outer=cpuset("2-3", effective="2")), confirmed=WANT)
    assert (found.cause, found.files) == (diff.Cause.NARROWED, ())
