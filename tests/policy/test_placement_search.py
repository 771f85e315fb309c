"""The search on machines too large to try everything: which caches it takes, and what it costs."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hack.benchmarks import placement as benchmark
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.policy import placement
from reconciler.policy.placement import caches, cores, layout, preferences, search
from reconciler.sim import machine
from tests.pipeline import samples
from tests.policy import exhaustive

Wanted = tuple[list[caches.Cache], int]


@st.composite
def many_caches(draw: st.DrawFn) -> Wanted:
    """Up to ten caches of cores of any size, partly free and partly held, and a number of CPUs."""
    sizes = st.lists(st.sampled_from((1, 2, 2, 2, 4)), min_size=1, max_size=3)
    numbers = itertools.count(draw(st.integers(0, 1)))
    shape = [
        [[*itertools.islice(numbers, size)] for size in cache] for cache in draw(st.lists(sizes, max_size=9))
    ]
    shape.append([[*itertools.islice(numbers, 2)]])
    made = layout.of(exhaustive.build([shape], [[10]]))
    everything = (1 << next(numbers)) - 1
    online = sum(cache.cpus for cache in made.caches)
    free = (draw(st.integers(0, everything)) | draw(st.integers(0, everything))) & online or online
    held = draw(st.integers(0, everything)) & draw(st.integers(0, everything)) & free
    must = held if draw(st.booleans()) else 0
    count = max(must.bit_count(), 1 + draw(st.integers(0, 9999)) % free.bit_count())
    wish = cores.Wish(free=free, held=held, must=must, count=count)
    rooms = [(cache.cpus & free).bit_count() for cache in made.caches]
    ranks = preferences.ranks(rooms)
    offered = [
        caches.Cache(cache, room, rank, wish)
        for cache, room, rank in zip(made.caches, rooms, ranks, strict=True)
        if room
    ]
    return offered, count


@given(many_caches())
@settings(deadline=None, max_examples=1500, print_blob=True)
def test_of_many_caches_the_best_are_taken(wanted: Wanted) -> None:
    offered, count = wanted
    forced = [cache for cache in offered if cache.must]
    others = [cache for cache in offered if not cache.must]
    for extra in range(len(others) + 1):
        fitting = [
            caches._found([*forced, *some], count)
            for some in itertools.combinations(others, extra)
            if sum(cache.room for cache in (*forced, *some)) >= count
        ]
        if fitting:
            assert caches.best(offered, extra, count, (-1, -1))[:3] == min(fitting)[:3]
            return
    raise AssertionError("all caches together have room")


def _most(shape: machine.Shape, use: str, requests: int) -> tuple[int, int]:
    """The most sets of nodes, and the most candidates, that a request of the benchmark takes."""
    topology = samples.topology(shape)
    generator = random.Random(7)  # noqa: S311 - situations, no secrets
    results = []
    for _ in range(requests):
        its = benchmark.situation(topology, use, generator)
        found = search.find(topology, benchmark.CALLS["choose"](its))
        assert found is not None
        results.append(found)
    return max(result.sets for result in results), max(result.weighed for result in results)


LARGE = [shape for shape in benchmark.MACHINES.values() if shape.cpus == 512]


@pytest.mark.parametrize("use", benchmark.USES)
@pytest.mark.parametrize("shape", LARGE, ids=lambda shape: f"{shape.llcs} caches, distance {shape.distance}")
def test_few_candidates_are_weighed_on_a_large_machine(shape: machine.Shape, use: str) -> None:
    sets, weighed = _most(shape, use, 100)
    assert sets <= 16, "of up to 70 sets of nodes"
    assert weighed <= 512, "of all sums of cores: no more than there are CPUs"


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 511, 512])
def test_an_idle_machine_takes_one_look(count: int) -> None:
    topology = samples.topology(machine.Shape(sockets=8, llcs=4, cores=8))
    found = search.find(topology, cores.Wish(free=topology.online.bits, held=0, must=0, count=count))
    assert found is not None
    assert (found.sets <= 3, found.weighed <= 32) == (True, True)


def test_a_machine_of_many_nodes_is_searched_in_part_and_what_is_found_is_right() -> None:
    topology = samples.topology(machine.Shape(sockets=4, nodes=8, cores=2))
    free = CpuSet(cpu for cpu in topology.online if cpu % 3)
    found = search.find(topology, cores.Wish(free=free.bits, held=0, must=0, count=40))
    assert found is not None
    chosen = CpuSet.from_bits(found.cpus)
    assert (len(chosen), chosen <= free) == (40, True)
    assert found.sets <= 33


def test_where_sums_are_too_many_the_fullest_caches_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = [[[4 * at + 2 * core, 4 * at + 2 * core + 1] for core in range(2)] for at in range(4)]
    topology = exhaustive.build([shape], [[10]])
    free = samples.cpus("0-3,4,6,8-10,12-14")
    exact = placement.choose(topology, free, 5)
    monkeypatch.setattr(caches, "MOST_SUMS", 0)
    bounded = placement.choose(topology, free, 5)
    assert exact is not None
    assert bounded is not None
    assert placement.score(topology, free, exact) <= placement.score(topology, free, bounded)
    assert placement.score(topology, free, bounded)[:3] == placement.score(topology, free, exact)[:3]


def test_a_topology_is_laid_out_once() -> None:
    topology = samples.topology(machine.Shape(sockets=1, cores=2))
    assert layout.of(topology) is layout.of(topology)
    assert layout.of(samples.topology(machine.Shape(sockets=1, cores=2))) is not layout.of(topology)


def test_a_core_that_firmware_reports_across_caches_is_two_smaller_ones() -> None:
    topology = topologies.Topology(
        online=CpuSet(range(4)),
        offline=CpuSet(),
        isolated=CpuSet(),
        nodes=(topologies.Node(id=0, cpus=CpuSet(range(4)), has_memory=True, distances={0: 10}),),
        llcs=(samples.cpus("0-1"), samples.cpus("2-3")),
        cores=(samples.cpus("0"), samples.cpus("1-2"), samples.cpus("3")),
        sockets=(CpuSet(range(4)),),
    )
    for count in range(1, 5):
        assert placement.choose(topology, topology.online, count) == exhaustive.best(
            topology, topology.online, count
        )
