"""The choice of CPUs equals that of an exhaustive search by the same score, on every small machine."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.policy import placement
from tests.policy import exhaustive

# covers: PRD-2.10

Situation = tuple[topologies.Topology, CpuSet, CpuSet, int]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """A machine, CPUs that are held, CPUs that are free, and how many are wanted of both."""
    topology = draw(exhaustive.machines())
    everything = st.just((1 << exhaustive.MOST) - 1)
    some = st.integers(0, (1 << exhaustive.MOST) - 1)
    free = CpuSet.from_bits(draw(st.one_of(some, everything))) & topology.online or topology.online
    held = CpuSet.from_bits(draw(some) & draw(some)) & free
    return topology, held, free - held, draw(st.integers(1, len(free)))


def thorough(examples: int) -> settings:
    return settings(deadline=None, max_examples=examples, print_blob=True)


@given(situations())
@thorough(20_000)
def test_the_choice_is_the_best_of_all(situation: Situation) -> None:
    topology, held, free, count = situation
    offered = free | held
    assert placement.choose(topology, offered, count) == exhaustive.best(topology, offered, count)


@given(situations())
@thorough(3_000)
def test_a_claim_grows_to_the_best_superset(situation: Situation) -> None:
    topology, held, free, count = situation
    count = max(count, len(held))
    best = exhaustive.best(topology, free, count, held=held, must=held)
    assert placement.grow(topology, held, free, count) == best


@given(situations())
@thorough(3_000)
def test_a_move_is_as_good_as_a_fresh_choice_and_keeps_most(situation: Situation) -> None:
    topology, held, free, count = situation
    best = exhaustive.best(topology, free, count, held=held)
    assert placement.move(topology, held, free, count) == best
