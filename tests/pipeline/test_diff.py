"""What differs is found in files and in what is effective, and nothing else is to be written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import diff, errors, events, observed
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import desired
from tests.pipeline.samples import cpus, look, nodes

# covers: PRD-4.6, PRD-7.4, PRD-7.5, PRD-7.9

ONLINE = cpus("0-7")
ID = events.ContainerId("one")
WANT = desired.Placement(cpus=cpus("2-3"))
PINNED = desired.Placement(cpus=cpus("2-3"), mems=nodes("1"))
FAILED = errors.HostFileError("one", "read", 5, "input/output error")


def compare(
    want: desired.Placement, seen: observed.Look, confirmed: desired.Placement | None = None
) -> tuple[diff.Difference, ...]:
    return diff.compare({ID: want}, {ID: seen}, {} if confirmed is None else {ID: confirmed}, ONLINE)


@pytest.mark.parametrize(
    ("want", "seen"),
    [
        pytest.param(WANT, look("2-3"), id="as desired"),
        pytest.param(WANT, look("2-3", mems="0"), id="memory that is left alone"),
        pytest.param(PINNED, look("2-3", mems="1"), id="memory as desired"),
        pytest.param(WANT, look("2-3", inner=""), id="an inner group that inherits"),
        pytest.param(WANT, look("2-3", inner="2-3"), id="an inner group with the same set"),
        pytest.param(PINNED, look("2-3", mems="1", inner="2-3", inner_mems="1"), id="inner memory too"),
        pytest.param(
            desired.Placement(cpus=cpus("2,3,8")), look("2-3,8", effective="2-3"), id="a CPU that is offline"
        ),
        pytest.param(WANT, observed.Absent(), id="no cgroup"),
        pytest.param(WANT, observed.Unreadable(error=FAILED), id="a cgroup that cannot be read"),
    ],
)
def test_no_difference(want: desired.Placement, seen: observed.Look) -> None:
    assert compare(want, seen, confirmed=want) == ()


def test_a_container_that_nothing_is_desired_of_does_not_differ() -> None:
    assert diff.compare({}, {ID: look("0-7")}, {}, ONLINE) == ()


@pytest.mark.parametrize(
    ("want", "seen", "files"),
    [
        pytest.param(WANT, look("0-7"), ["cpuset.cpus 0-7 -> 2-3"], id="other CPUs"),
        pytest.param(WANT, look("", effective="0-7"), ["cpuset.cpus  -> 2-3"], id="an empty file"),
        pytest.param(PINNED, look("2-3", mems="0"), ["cpuset.mems 0 -> 1"], id="other memory"),
        pytest.param(PINNED, look("2-3", mems=""), ["cpuset.mems  -> 1"], id="no memory set"),
        pytest.param(
            PINNED,
            look("0-7", mems="0-1"),
            ["cpuset.cpus 0-7 -> 2-3", "cpuset.mems 0-1 -> 1"],
            id="CPUs move before memory is taken away",
        ),
        pytest.param(
            PINNED,
            look("0-1", mems="0"),
            ["cpuset.cpus 0-1 -> 2-3", "cpuset.mems 0 -> 1"],
            id="CPUs move before memory is exchanged",
        ),
        pytest.param(
            desired.Placement(cpus=cpus("2-5"), mems=nodes("0-1")),
            look("2-3", mems="0"),
            ["cpuset.mems 0 -> 0-1", "cpuset.cpus 2-3 -> 2-5"],
            id="memory comes before the CPUs that need it",
        ),
        pytest.param(
            WANT,
            look("2-3", inner="2"),
            ["container/cpuset.cpus 2 -> 2-3"],
            id="an inner group that is narrower",
        ),
        pytest.param(
            PINNED,
            look("0-7", mems="1", inner="0-7", inner_mems="0"),
            ["cpuset.cpus 0-7 -> 2-3", "container/cpuset.cpus 0-7 -> 2-3", "container/cpuset.mems 0 -> 1"],
            id="the inner group follows the outer one",
        ),
        pytest.param(
            WANT,
            look("0-7", inner="", inner_effective="0-7"),
            ["cpuset.cpus 0-7 -> 2-3"],
            id="inner inherits",
        ),
    ],
)
def test_the_files_to_write(want: desired.Placement, seen: observed.Present, files: list[str]) -> None:
    (difference,) = compare(want, seen)
    assert [f"{its.file} {its.have} -> {its.want}" for its in difference.files] == files


@pytest.mark.parametrize(
    ("confirmed", "cause"),
    [
        pytest.param(None, diff.Cause.PENDING, id="never seen in order"),
        pytest.param(desired.Placement(cpus=cpus("0-7")), diff.Cause.PENDING, id="desired has changed"),
        pytest.param(PINNED, diff.Cause.PENDING, id="desired has changed in memory alone"),
        pytest.param(WANT, diff.Cause.DRIFT, id="it was in order"),
    ],
)
def test_only_what_was_in_order_can_drift(confirmed: desired.Placement | None, cause: diff.Cause) -> None:
    assert [its.cause for its in compare(WANT, look("0-7"), confirmed)] == [cause]


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(look("2-3", effective="2"), id="a CPU is missing"),
        pytest.param(look("2-3", effective="0-7"), id="other CPUs are granted"),
        pytest.param(look("2-3", inner="", inner_effective="3"), id="the inner group is narrowed"),
    ],
)
def test_right_files_that_the_kernel_does_not_grant_leave_nothing_to_write(seen: observed.Present) -> None:
    (difference,) = compare(WANT, seen, confirmed=WANT)
    assert (difference.cause, difference.files) == (diff.Cause.NARROWED, ())


@given(st.integers(0, 255), st.integers(1, 255), st.integers(0, 3), st.sampled_from([None, 1, 2, 3]))
@settings(deadline=None, print_blob=True)
def test_writing_the_files_leaves_no_difference(
    have: int, want: int, mems: int, want_mems: int | None
) -> None:
    wanted = desired.Placement(
        cpus=CpuSet.from_bits(want), mems=None if want_mems is None else NodeSet.from_bits(want_mems)
    )
    before = look(
        str(CpuSet.from_bits(have)),
        effective=str(CpuSet.from_bits(have) or ONLINE),
        mems=str(NodeSet.from_bits(mems)),
    )
    texts = {observed.CPUS: str(before.outer.cpus), observed.MEMS: str(before.outer.mems)}
    for difference in compare(wanted, before):
        for its in difference.files:
            assert texts[its.file] == its.have != its.want
            texts[its.file] = its.want
    assert compare(wanted, look(texts[observed.CPUS], mems=texts[observed.MEMS])) == ()
