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
def situations(draw: st.DrawFn, *, holder: bool) -> Situation:
    """A machine, CPUs that are held where there is a holder, free ones, and how many are wanted of both."""
    topology = draw(exhaustive.machines())
    offered = draw(exhaustive.subsets_of(topology.online))
    held = CpuSet.from_bits(draw(st.integers(0, offered.bits)) & offered.bits) if holder else CpuSet()
    count = 1 + draw(st.integers(0, 719)) % len(offered)
    return topology, held, offered - held, count


def thorough(examples: int) -> settings:
    """So many examples, however long one takes."""
    return settings(deadline=None, max_examples=examples, print_blob=True)


@given(situations(holder=False))
@thorough(20_000)
def test_the_choice_is_the_best_of_all(situation: Situation) -> None:
    topology, _, free, count = situation
    assert placement.choose(topology, free, count) == exhaustive.best(topology, free, count)


@given(situations(holder=True))
@thorough(3_000)
def test_a_claim_grows_to_the_best_superset(situation: Situation) -> None:
    topology, held, free, count = situation
    count = max(count, len(held))
    best = exhaustive.best(topology, free, count, held=held, must=held)
    assert placement.grow(topology, held, free, count) == best


@given(situations(holder=True))
@thorough(3_000)
def test_a_move_is_as_good_as_a_fresh_choice_and_keeps_most(situation: Situation) -> None:
    topology, held, free, count = situation
    best = exhaustive.best(topology, free, count, held=held)
    assert placement.move(topology, held, free, count) == best


@given(situations(holder=True))
@thorough(1_000)
def test_a_claim_shrinks_to_the_best_part_of_it(situation: Situation) -> None:
    topology, held, free, count = situation
    held, count = held or free, min(count, len(held or free))
    assert placement.shrink(topology, held, count) == exhaustive.best(topology, held, count)
