"""What the kernel does not grant is told with who is to blame."""

from __future__ import annotations

import pytest

from reconciler import narrowing, observed
from reconciler.policy import desired
from tests.pipeline.samples import cpus, look, nodes

# covers: PRD-7.17

ONLINE = cpus("0-7")
WANT = desired.Placement(cpus=cpus("2-3"), mems=nodes("1"))
POD, QOS, TOP = "kubepods/besteffort/pod1", "kubepods/besteffort", "kubepods"


def above(*texts: tuple[str, str]) -> tuple[narrowing.Ancestor, ...]:
    """The ancestors from the nearest on, by what each asks for and is granted."""
    paths = (POD, QOS, TOP)
    looks = [look(asks, effective=granted).outer for asks, granted in texts]
    return tuple(narrowing.Ancestor(path=path, cpuset=its) for path, its in zip(paths, looks, strict=True))


def of_mems(*texts: tuple[str, str]) -> tuple[narrowing.Ancestor, ...]:
    """The same of memory nodes."""
    return tuple(
        narrowing.Ancestor(path=path, cpuset=_cpuset(asks, granted))
        for path, (asks, granted) in zip((POD, QOS, TOP), texts, strict=True)
    )


def _cpuset(mems: str, effective: str) -> observed.Cpuset:
    return observed.Cpuset(
        cpus=cpus(""), mems=nodes(mems), effective_cpus=ONLINE, effective_mems=nodes(effective)
    )


FREE = above(("", "0-7"), ("", "0-7"), ("0-7", "0-7"))


@pytest.mark.parametrize(
    ("ancestors", "ancestor", "because"),
    [
        pytest.param(
            above(("0-2", "0-2"), ("", "0-7"), ("", "0-7")),
            POD,
            f"cpuset.cpus of its ancestor {POD} is 0-2",
            id="the nearest",
        ),
        pytest.param(
            above(("", "0-2"), ("", "0-2"), ("0-2", "0-2")),
            TOP,
            f"cpuset.cpus of its ancestor {TOP} is 0-2",
            id="the topmost, which those below inherit",
        ),
        pytest.param(
            above(("0-2", "0-2"), ("0-2", "0-2"), ("0-7", "0-7")),
            QOS,
            f"cpuset.cpus of its ancestor {QOS} is 0-2",
            id="the upper one of two",
        ),
        pytest.param(
            FREE,
            "",
            "CPU 3 is in the partition of another cgroup, or offline by now",
            id="none, and the group itself is not granted it",
        ),
        pytest.param(
            above(("", "0-2,4-7"), ("", "0-2,4-7"), ("0-7", "0-2,4-7")),
            "",
            "CPU 3 is in the partition of another cgroup, or offline by now",
            id="all, though none asks for less",
        ),
        pytest.param(
            (), "", "CPU 3 is in the partition of another cgroup, or offline by now", id="no ancestor"
        ),
    ],
)
def test_the_ancestor_to_blame_is_the_topmost_that_keeps_cpus_away(
    ancestors: tuple[narrowing.Ancestor, ...], ancestor: str, because: str
) -> None:
    assert narrowing.judge(WANT, look("2-3", effective="2", mems="1"), ancestors, ONLINE) == (
        narrowing.Unenforceable(file="cpuset.cpus.effective", lacks="3", ancestor=ancestor, because=because)
    )


def test_what_is_offline_is_told_apart_from_what_an_ancestor_keeps() -> None:
    ancestors = above(("", "4-6"), ("", "4-6"), ("4-7", "4-6"))
    what = narrowing.judge(WANT, look("2-3", effective="4-6", mems="1"), ancestors, cpus("0-2,4-6"))
    assert what is not None
    assert (what.lacks, what.ancestor, what.because) == (
        "2-3",
        TOP,
        f"cpuset.cpus of its ancestor {TOP} is 4-7, and CPU 3 is offline",
    )


def test_what_is_only_offline_blames_nobody() -> None:
    what = narrowing.offline(WANT, cpus("0-2"))
    assert what is not None
    assert (what.file, what.lacks, what.ancestor) == ("cpuset.cpus.effective", "3", "")
    assert what.because == "CPU 3 is offline"
    assert narrowing.offline(WANT, ONLINE) is None


@pytest.mark.parametrize(
    ("ancestors", "ancestor", "because"),
    [
        pytest.param(
            of_mems(("", "0"), ("0", "0"), ("", "0-1")),
            QOS,
            f"cpuset.mems of its ancestor {QOS} is 0",
            id="an ancestor",
        ),
        pytest.param(
            of_mems(("", "0"), ("", "0"), ("0-1", "0")),
            "",
            "node 1 has no memory that is online",
            id="nobody",
        ),
    ],
)
def test_memory_nodes_are_told_like_cpus(
    ancestors: tuple[narrowing.Ancestor, ...], ancestor: str, because: str
) -> None:
    has = observed.Present(
        outer=observed.Cpuset(
            cpus=cpus("2-3"), mems=nodes("1"), effective_cpus=cpus("2-3"), effective_mems=nodes("0")
        )
    )
    assert narrowing.judge(WANT, has, ancestors, ONLINE) == narrowing.Unenforceable(
        file="cpuset.mems.effective", lacks="1", ancestor=ancestor, because=because
    )


def test_who_has_all_lacks_nothing() -> None:
    assert narrowing.judge(WANT, look("2-3", mems="1"), FREE, ONLINE) is None


def test_of_an_inner_group_it_counts_what_that_is_granted() -> None:
    inside = look("2-3", mems="1", inner="", inner_effective="2", inner_mems="1")
    what = narrowing.judge(WANT, inside, FREE, ONLINE)
    assert what is not None
    assert what.lacks == "3"
