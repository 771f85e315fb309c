"""The order of writes: every prefix of a plan is safe, and a whole plan comes to what is desired."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import diff, events, observed, plan
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import desired, state

# covers: PRD-4.2, PRD-4.6

ONLINE = CpuSet(range(8))
NODES = NodeSet((0,))
Written = dict[events.ContainerId, CpuSet]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is desired of each container, and what stands in its file."""

    wanted: dict[events.ContainerId, desired.Placement]
    written: Written

    @property
    def claimed(self) -> CpuSet:
        claimed = CpuSet()
        for placement in self.wanted.values():
            if placement.owner is not None:
                claimed |= placement.cpus
        return claimed


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Up to three disjoint exclusive claims, up to three others on the rest, and any texts in the files."""
    holder_of = draw(st.lists(st.integers(0, 3), min_size=7, max_size=7))
    wanted: dict[events.ContainerId, desired.Placement] = {}
    pool = ONLINE
    for holder in (1, 2, 3):
        cpus = CpuSet(cpu + 1 for cpu, by in enumerate(holder_of) if by == holder)
        if cpus:
            owner = state.ClaimKey(events.PodUid(f"pod-{holder}"), "main")
            wanted[events.ContainerId(f"exclusive-{holder}")] = desired.Placement(cpus=cpus, owner=owner)
            pool -= cpus
    for number in range(draw(st.integers(0, 3))):
        cpus = CpuSet(draw(st.sets(st.sampled_from(sorted(pool)), min_size=1)))
        wanted[events.ContainerId(f"shared-{number}")] = desired.Placement(cpus=cpus)
    written = {id_: CpuSet(draw(st.sets(st.sampled_from(sorted(ONLINE))))) for id_ in wanted}
    return Situation(wanted=wanted, written=written)


def _looks(written: Written) -> dict[events.ContainerId, observed.Look]:
    """The cgroups that have these texts, under an ancestor that narrows nothing."""
    return {
        id_: observed.Present(
            outer=observed.Cpuset(
                cpus=cpus, mems=NodeSet(), effective_cpus=cpus or ONLINE, effective_mems=NODES
            )
        )
        for id_, cpus in written.items()
    }


def _steps(situation: Situation) -> plan.Plan:
    looks = _looks(situation.written)
    differences = diff.compare(situation.wanted, looks, {}, ONLINE)
    pool = ONLINE - situation.claimed
    return plan.order(differences, situation.wanted, looks, situation.claimed, pool)


def _violations(situation: Situation, written: Written) -> set[tuple[str, str, int]]:
    """Who may run beside whom on an exclusive CPU: the holder is on it, and so is the other."""
    return {
        (holder, other, cpu)
        for holder, placement in situation.wanted.items()
        if placement.owner is not None
        for other, cpus in written.items()
        if other != holder
        for cpu in (cpus or ONLINE) & (written[holder] or ONLINE) & placement.cpus
    }


@given(situations())
@settings(deadline=None, max_examples=400)
def test_no_prefix_of_a_plan_puts_anyone_on_an_exclusive_cpu_in_force(situation: Situation) -> None:
    written = dict(situation.written)
    before = _violations(situation, written)
    for step in _steps(situation):
        written[step.container] = CpuSet.parse(step.text, what="step")
        after = _violations(situation, written)
        assert after <= before, step
        before = after


@given(situations())
@settings(deadline=None, max_examples=100)
def test_a_whole_plan_comes_to_what_is_desired_and_a_second_one_is_empty(situation: Situation) -> None:
    written = dict(situation.written)
    for _ in range(2):
        steps = _steps(Situation(wanted=situation.wanted, written=written))
        for step in steps:
            written[step.container] = CpuSet.parse(step.text, what="step")
    assert written == {id_: placement.cpus for id_, placement in situation.wanted.items()}
    assert _steps(Situation(wanted=situation.wanted, written=written)) == ()


@given(situations())
@settings(deadline=None, max_examples=100)
def test_who_is_as_desired_is_not_written_to(situation: Situation) -> None:
    in_order = {id_ for id_, its in situation.wanted.items() if situation.written[id_] == its.cpus}
    assert in_order.isdisjoint({step.container for step in _steps(situation)})


def test_whoever_must_leave_comes_first_and_whoever_grows_comes_last() -> None:
    key = state.ClaimKey(events.PodUid("db"), "main")
    wanted = {
        events.ContainerId("grows"): desired.Placement(cpus=CpuSet((0, 1, 4, 5, 6, 7))),
        events.ContainerId("db"): desired.Placement(cpus=CpuSet((2, 3)), owner=key),
        events.ContainerId("leaves"): desired.Placement(cpus=CpuSet((0, 1, 4, 5, 6, 7))),
    }
    written = {
        events.ContainerId("grows"): CpuSet((0,)),
        events.ContainerId("db"): CpuSet(),
        events.ContainerId("leaves"): ONLINE,
    }
    steps = _steps(Situation(wanted=wanted, written=written))
    assert [(step.phase.value, step.container) for step in steps if step.container != "db"] == [
        ("leave", "leaves"),
        ("settle", "grows"),
    ]
    assert [step.text for step in steps if step.phase is plan.Phase.ADMIT] == ["2-3"]


def test_trespassers_are_all_others_on_the_cpus_and_nobody_of_the_same_claim() -> None:
    key = state.ClaimKey(events.PodUid("db"), "")
    holder = desired.Placement(cpus=CpuSet((2, 3)), owner=key)
    names = {name: events.ContainerId(name) for name in ("same", "shared", "away", "unknown")}
    wanted = {
        names["same"]: holder,
        names["shared"]: desired.Placement(cpus=CpuSet((0, 1))),
        names["away"]: desired.Placement(cpus=CpuSet((0, 1))),
    }
    written = {
        names["same"]: CpuSet((2, 3)),
        names["shared"]: CpuSet((1, 2)),
        names["away"]: CpuSet((0, 1)),
        names["unknown"]: CpuSet((3,)),
    }
    assert plan.trespassers(holder, written, wanted) == ("shared", "unknown")
