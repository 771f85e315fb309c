"""Partitions are given back before cpusets move and made after that, through every group above."""

# covers: PRD-4.10, PRD-4.11

from __future__ import annotations

import pytest

from reconciler import events, observed, partitions, plan
from tests.pipeline import samples

A, B = "pods/a/one", "pods/b/two"
CPUS = samples.cpus


def want(name: str, cpus: str, kind: str = "isolated") -> partitions.Want:
    """What a container is to be."""
    return partitions.Want(container=events.ContainerId(name), kind=kind, cpus=CPUS(cpus))


def says(exclusive: str = "", state: str = observed.MEMBER) -> observed.Partition:
    """What a group's files say."""
    return observed.Partition(exclusive=CPUS(exclusive), state=state)


def order(
    wants: dict[str, partitions.Want],
    looks: dict[str, observed.Partition],
    own: dict[str, str] | None = None,
    waiting: frozenset[str] = frozenset(),
) -> tuple[list[str], list[str]]:
    """The writes before those of the cpusets and after them, as `group file text`."""
    ours = {path: CPUS(text) for path, text in (own or {}).items()}
    steps = partitions.order(partitions.Situation(wants=wants, looks=looks, own=ours, waiting=waiting))
    return told(steps.first), told(steps.last)


def told(steps: plan.Plan) -> list[str]:
    """The writes in short: `!` is for exclusive CPUs."""
    names = {observed.EXCLUSIVE: "!", observed.PARTITION: "is"}
    return [f"{step.group} {names[step.file]} {step.text}".rstrip() for step in steps]


PLAIN = {"pods": says(), "pods/a": says(), "pods/b": says(), A: says(), B: says()}


def test_the_groups_above_take_the_cpus_first_from_the_top() -> None:
    assert order({A: want("one", "2-3")}, PLAIN) == (
        [],
        ["pods ! 2-3", "pods/a ! 2-3", f"{A} ! 2-3", f"{A} is isolated"],
    )


def test_groups_above_have_the_cpus_of_all_below_them() -> None:
    wants = {A: want("one", "2-3"), B: want("two", "5", "root")}
    assert order(wants, PLAIN)[1] == [
        "pods ! 2-3,5",
        "pods/a ! 2-3",
        "pods/b ! 5",
        f"{A} ! 2-3",
        f"{A} is isolated",
        f"{B} ! 5",
        f"{B} is root",
    ]


MADE = {"pods": says("2-3"), "pods/a": says("2-3"), A: says("2-3", "isolated")}
OWN = {"pods": "2-3", "pods/a": "2-3"}


def test_what_is_as_wanted_is_not_written() -> None:
    assert order({A: want("one", "2-3")}, MADE, OWN) == ([], [])


def test_an_end_is_member_first_and_gives_back_from_the_bottom() -> None:
    assert order({}, MADE, OWN) == ([f"{A} is member", f"{A} !", "pods/a !", "pods !"], [])


def test_a_move_ends_before_the_cpusets_and_is_made_anew_after_them() -> None:
    assert order({A: want("one", "4-5")}, MADE, OWN) == (
        [f"{A} is member", f"{A} !", "pods/a !", "pods !"],
        ["pods ! 4-5", "pods/a ! 4-5", f"{A} ! 4-5", f"{A} is isolated"],
    )


def test_cpus_that_pass_from_one_pod_to_another_leave_the_one_before_the_other_has_them() -> None:
    wants = {A: want("one", "4-5"), B: want("two", "2-3")}
    first, last = order(wants, {**PLAIN, **MADE}, OWN)
    assert first == [f"{A} is member", f"{A} !", "pods/a !"]
    assert last[:3] == ["pods ! 2-5", "pods/a ! 4-5", "pods/b ! 2-3"]


def test_another_kind_is_one_write() -> None:
    assert order({A: want("one", "2-3", "root")}, MADE, OWN) == ([], [f"{A} is root"])


@pytest.mark.parametrize("state", ["isolated invalid (whatever)", "root invalid (x)", "member"])
def test_one_that_is_not_in_force_is_written_again(state: str) -> None:
    looks = {**MADE, A: says("2-3", state)}
    assert order({A: want("one", "2-3")}, looks, OWN) == ([], [f"{A} is isolated"])


def test_a_group_above_that_somebody_has_narrowed_is_mended_first() -> None:
    looks = {**MADE, "pods": says("2"), A: says("2-3", "isolated invalid (x)")}
    assert order({A: want("one", "2-3")}, looks, OWN) == ([], ["pods ! 2-3", f"{A} is isolated"])


def test_exclusive_cpus_of_others_in_groups_above_stay() -> None:
    looks = {**MADE, "pods": says("2-3,7")}
    assert order({}, looks, OWN)[0][-1] == "pods ! 7"
    assert order({A: want("one", "2-4")}, looks, OWN)[1][0] == "pods ! 2-4,7"


def test_one_that_waits_is_not_written_and_gives_nothing_back() -> None:
    looks = {**MADE, A: says("2-3", "isolated invalid (x)")}
    assert order({A: want("one", "2-3")}, looks, OWN, waiting=frozenset({A})) == ([], [])


def test_one_without_a_cgroup_yet_takes_nothing() -> None:
    assert order({A: want("one", "2-3")}, {"pods": says()}) == ([], [])


def test_each_write_waits_for_those_that_it_stands_on() -> None:
    wants = {A: want("one", "4-5")}
    steps = partitions.order(
        partitions.Situation(wants=wants, looks=MADE, own={path: CPUS("2-3") for path in OWN})
    )
    member, cleared = steps.first[:2]
    assert member.vacates == cleared.needs == CPUS("2-3")
    *before, promoted = steps.last
    assert promoted.needs == CPUS("4-5")
    assert all(step.vacates == CPUS("4-5") for step in before)
    assert {step.container for step in steps.last} == {"one"}


def test_the_groups_above_are_those_of_the_path() -> None:
    assert list(partitions.above("a/b/c")) == ["a/b", "a"]
    assert partitions.wanted_below({A: want("one", "2"), B: want("two", "3")}) == {
        "pods": CPUS("2-3"),
        "pods/a": CPUS("2"),
        "pods/b": CPUS("3"),
    }
    assert partitions.wanted_below({}) == {}
