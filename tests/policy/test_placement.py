"""Which free CPUs are chosen: examples to read, and what holds on every small machine."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.policy import placement
from reconciler.sim import machine
from tests.pipeline import samples
from tests.pipeline.samples import cpus

# covers: PRD-2.6, PRD-2.7

EIGHT = machine.Shape(sockets=1, cores=4, adjacent=True)
"""One node, cores 0-1, 2-3, 4-5, 6-7."""
TWO_NODES = machine.Shape(sockets=2, cores=4, adjacent=True)
"""Nodes 0-7 and 8-15, one cache each, cores of two neighbours."""
FOUR_CACHES = machine.Shape(sockets=2, llcs=2, cores=2, adjacent=True)
"""Nodes 0-7 and 8-15, caches 0-3, 4-7, 8-11, 12-15."""
LINUX = machine.Shape(sockets=2, cores=4)
"""As Linux numbers x86 servers: nodes 0-3,8-11 and 4-7,12-15, cores 0,8 and 1,9 and so on."""
NO_THREADS = machine.Shape(sockets=1, cores=8, threads=1)


@pytest.mark.parametrize(
    ("shape", "free", "count", "chosen"),
    [
        pytest.param(EIGHT, "0-7", 2, "2-3", id="a whole core, not that of CPU 0"),
        pytest.param(EIGHT, "0-7", 1, "2", id="one CPU"),
        pytest.param(EIGHT, "0-7", 3, "2-4", id="a whole core and half of the next"),
        pytest.param(EIGHT, "0-1,3-7", 1, "3", id="an odd CPU completes a core that is half used"),
        pytest.param(EIGHT, "0-1,3-7", 3, "3-5", id="a whole core and a half-used one"),
        pytest.param(EIGHT, "0-7", 7, "1-7", id="all but CPU 0"),
        pytest.param(EIGHT, "0-7", 8, "0-7", id="CPU 0 where all are needed"),
        pytest.param(EIGHT, "0-1", 1, "1", id="the sibling of CPU 0 before CPU 0"),
        pytest.param(EIGHT, "0,3,5", 2, "3,5", id="split cores before CPU 0"),
        pytest.param(TWO_NODES, "0-15", 4, "2-5", id="of equal nodes the one with the lowest CPUs"),
        pytest.param(TWO_NODES, "0-15", 8, "8-15", id="a whole node"),
        pytest.param(TWO_NODES, "0-9", 2, "8-9", id="the smallest free block that holds it"),
        pytest.param(TWO_NODES, "0-9", 3, "2-4", id="one node where it fits, though another has a core free"),
        pytest.param(TWO_NODES, "0-3,8-11", 6, "2-3,8-11", id="two nodes where one does not do"),
        pytest.param(FOUR_CACHES, "0-15", 4, "4-7", id="one cache"),
        pytest.param(FOUR_CACHES, "2-3,6-15", 4, "8-11", id="a whole cache before halves of two"),
        pytest.param(FOUR_CACHES, "2-15", 6, "2-7", id="two caches of one node"),
        pytest.param(LINUX, "0-15", 2, "1,9", id="two threads of one core"),
        pytest.param(LINUX, "0-15", 4, "1-2,9-10", id="two whole cores"),
        pytest.param(NO_THREADS, "0-7", 3, "1-3", id="cores without threads"),
    ],
)
def test_examples(shape: machine.Shape, free: str, count: int, chosen: str) -> None:
    assert placement.choose(samples.topology(shape), cpus(free), count) == cpus(chosen)


@pytest.mark.parametrize(("free", "count"), [("", 1), ("3", 2), ("0-6", 8)])
def test_too_few_free_cpus_give_nothing(free: str, count: int) -> None:
    assert placement.choose(samples.topology(EIGHT), cpus(free), count) is None


_SHAPES = [
    machine.Shape(sockets=sockets, nodes=nodes, llcs=llcs, cores=cores, threads=threads, adjacent=adjacent)
    for sockets in (1, 2)
    for nodes in (1, 2)
    for llcs in (1, 2)
    for cores in (1, 2, 3)
    for threads in (1, 2)
    for adjacent in (True, False)
]
_TOPOLOGIES = [samples.topology(shape) for shape in _SHAPES if shape.cpus <= 16]

Choice = tuple[topologies.Topology, CpuSet, int, CpuSet]


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    """A machine, its free CPUs, how many are wanted, and those that were chosen."""
    topology = draw(st.sampled_from(_TOPOLOGIES))
    bits = draw(st.one_of(st.integers(0, 0xFFFF), st.just(0xFFFF)))
    free = CpuSet.from_bits(bits) & topology.online or topology.online
    count = draw(st.integers(1, len(free)))
    chosen = placement.choose(topology, free, count)
    assert chosen is not None
    return topology, free, count, chosen


THOROUGH = settings(deadline=None, max_examples=300, print_blob=True)


@given(choices())
@THOROUGH
def test_as_many_as_wanted_are_chosen_of_the_free_ones(choice: Choice) -> None:
    _, free, count, chosen = choice
    assert len(chosen) == count
    assert chosen <= free


@given(choices())
@THOROUGH
def test_the_same_situation_gives_the_same_choice(choice: Choice) -> None:
    topology, free, count, chosen = choice
    assert placement.choose(topology, free, count) == chosen


@given(choices())
@THOROUGH
def test_no_more_nodes_are_used_than_are_needed(choice: Choice) -> None:
    topology, free, count, chosen = choice
    assert _touched([node.cpus for node in topology.nodes], chosen) == _fewest(
        [node.cpus for node in topology.nodes], free, count
    )


@given(choices())
@THOROUGH
def test_one_cache_is_used_where_one_holds_it(choice: Choice) -> None:
    topology, free, count, chosen = choice
    if _fewest(topology.llcs, free, count) == 1:
        assert _touched(topology.llcs, chosen) == 1


@given(choices())
@THOROUGH
def test_cpu_0_is_used_only_where_the_caches_that_were_chosen_have_no_other(choice: Choice) -> None:
    topology, free, _, chosen = choice
    if 0 in chosen:
        beside = [llc & free for llc in topology.llcs if not llc.isdisjoint(chosen)]
        whole = all(len(core & chosen) != 1 or len(core & free) == 1 for core in topology.cores)
        assert all(cpus_ <= chosen for cpus_ in beside) or whole


@given(choices())
@THOROUGH
def test_at_most_one_whole_core_is_split_in_one_cache(choice: Choice) -> None:
    topology, free, _, chosen = choice
    split = [core for core in topology.cores if core <= free and len(core & chosen) not in (0, len(core))]
    assert len(split) <= 1
    if split and _touched(topology.llcs, chosen) == 1:
        halves = _halves(topology, free - chosen, chosen)
        assert not halves or 0 in halves, "a half-used core of the same cache was left"


def _halves(topology: topologies.Topology, left: CpuSet, chosen: CpuSet) -> CpuSet:
    """Free CPUs of half-used cores in the caches that were chosen from."""
    found = CpuSet()
    for llc in topology.llcs:
        if not llc.isdisjoint(chosen):
            for core in topology.cores:
                if core <= llc and not core <= left | chosen:
                    found |= core & left
    return found


def _touched(groups: tuple[CpuSet, ...] | list[CpuSet], chosen: CpuSet) -> int:
    return sum(not group.isdisjoint(chosen) for group in groups)


def _fewest(groups: tuple[CpuSet, ...] | list[CpuSet], free: CpuSet, count: int) -> int:
    """How many groups hold `count` free CPUs at least."""
    room = 0
    for used, size in enumerate(sorted((len(group & free) for group in groups), reverse=True), 1):
        room += size
        if room >= count:
            return used
    raise AssertionError("there are not that many")
