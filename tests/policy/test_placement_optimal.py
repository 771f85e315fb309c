"""The choice of CPUs equals that of an exhaustive search by the same score, on every small machine."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.policy import placement
from tests.pipeline import samples
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


FAMILY = {
    "one cache": [[[[0, 1], [2, 3], [4, 5], [6, 7]]]],
    "two caches": [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]],
    "two nodes": [[[[0, 1], [2, 3]]], [[[4, 5], [6, 7]]]],
    "as Linux numbers": [[[[0, 4], [1, 5]]], [[[2, 6], [3, 7]]]],
    "four nodes": [[[[0, 1]]], [[[2, 3]]], [[[4, 5]]], [[[6, 7]]]],
    "no threads": [[[[0], [1]], [[2], [3]]], [[[4], [5], [6], [7]]]],
    "four threads": [[[[0, 1, 2, 3]]], [[[4, 5, 6, 7]]]],
    "mixed": [[[[0, 1, 2, 3], [4, 5]], [[6]]], [], [[[7]]]],
    "a large and a small node": [[[[1, 2], [3, 4]], [[5, 6]]], [[[0], [7]]]],
}
DISTANCES = [[10, 12, 21, 30], [12, 10, 30, 21], [21, 30, 10, 11], [30, 21, 12, 10]]


@pytest.mark.parametrize("name", FAMILY)
def test_every_situation_of_a_small_family_gets_the_best_choice(name: str) -> None:
    topology = exhaustive.build(FAMILY[name], DISTANCES)
    for bits in range(1, 1 << 8):
        free = CpuSet.from_bits(bits)
        for count in range(1, len(free) + 1):
            assert placement.choose(topology, free, count) == exhaustive.best(topology, free, count)


@pytest.mark.parametrize("name", ["two caches", "two nodes", "mixed"])
def test_every_claim_on_six_cpus_of_it_grows_and_moves_to_the_best_choice(name: str) -> None:
    topology = exhaustive.build(FAMILY[name], DISTANCES)
    for offered, mask in itertools.product(range(1, 1 << 6), range(1 << 6)):
        free, held = CpuSet.from_bits(offered & ~mask), CpuSet.from_bits(offered & mask)
        if mask & ~offered or not held:
            continue
        for count in range(len(held), len(free) + len(held) + 1):
            grown = exhaustive.best(topology, free, count, held=held, must=held)
            assert placement.grow(topology, held, free, count) == grown
            moved = exhaustive.best(topology, free, count, held=held)
            assert placement.move(topology, held, free, count) == moved


def test_a_score_compares_in_the_order_of_the_preferences() -> None:
    topology = exhaustive.build(FAMILY["two nodes"], DISTANCES)
    split, across = (placement.score(topology, topology.online, samples.cpus(its)) for its in ("2,4", "3,5"))
    assert (split.nodes, split.distance, split.caches, split.split, split.broken) == (2, 24, 2, 2, 2)
    assert split[:-1] == across[:-1]
    assert split < across, "the lowest CPUs"
    kept = placement.score(topology, topology.online, samples.cpus("2-3"), held=samples.cpus("3"))
    assert (kept.new, kept.split, kept.node_room) == (1, 0, 4)
