"""The best choice of CPUs by trying them all, and machines of any make to try it on. Up to 16 CPUs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

from hypothesis import strategies as st

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.policy.placement import preferences

MOST = 16


def best(
    topology: topologies.Topology,
    free: CpuSet,
    count: int,
    *,
    held: CpuSet = CpuSet(),
    must: CpuSet = CpuSet(),
) -> CpuSet | None:
    """The choice with the best score of all `count` CPUs of `free | held` that have all of `must`."""
    offered = free | held
    scale = preferences.Scale(topology, offered.bits, held.bits)
    left: Sequence[int] = [must.bits | rest for rest in subsets((offered - must).bits, count - len(must))]
    # The fields one after the other, each for those only that are still the best: as comparing whole scores.
    for name in preferences.Score._fields:
        if len(left) < 2:
            break
        values = [*map(getattr(scale, name), left)]
        least = min(values)
        left = [choice for choice, value in zip(left, values, strict=True) if value == least]
    return CpuSet.from_bits(left[0]) if left else None


@functools.lru_cache(maxsize=256)
def subsets(cpus: int, count: int) -> list[int]:
    """All sets of `count` of these CPUs."""
    return [*map(sum, itertools.combinations([1 << cpu for cpu in CpuSet.from_bits(cpus)], count))]


@st.composite
def machines(draw: st.DrawFn) -> topologies.Topology:
    """Any machine: nodes of any size or with memory alone, any caches in them, cores of 1, 2 and 4 threads in
    one cache, any numbering, any distances."""
    sizes = st.lists(st.sampled_from((1, 2, 2, 4)), min_size=1, max_size=4)
    caches = st.lists(sizes, min_size=0, max_size=3)
    wanted = draw(st.lists(caches, min_size=1, max_size=5))
    total = sum(size for node in wanted for cache in node for size in cache)
    ids = draw(st.one_of(st.just(range(MOST)), st.permutations(range(MOST))))
    numbers = iter(ids if total else [*ids][:1])
    shape = [[[[*itertools.islice(numbers, size)] for size in cache] for cache in node] for node in wanted]
    if not total:
        shape[0] = [[[*numbers]]]
    near = st.sampled_from((11, 12, 12, 20, 21))
    asymmetric = draw(st.booleans())
    distances = [
        [draw(near) if a > b or asymmetric else 0 for b in range(len(shape))] for a in range(len(shape))
    ]
    return build(shape, distances)


def build(
    shape: Sequence[Sequence[Sequence[Sequence[int]]]], distances: Sequence[Sequence[int]]
) -> topologies.Topology:
    """The machine with these CPUs, as nodes of caches of cores; empty ones are left out, but for nodes."""
    nodes = []
    caches, cores = [], []
    for place, node in enumerate(shape):
        inside = [[CpuSet(core) for core in cache if core] for cache in node]
        cores += [core for cache in inside for core in cache]
        caches += [_union(cache) for cache in inside if cache]
        row = {
            other: 10 if other == place else distances[place][other] or distances[other][place]
            for other in range(len(shape))
        }
        cpus = _union([_union(cache) for cache in inside])
        nodes.append(topologies.Node(id=place, cpus=cpus, has_memory=True, distances=row))
    online = _union(cores)
    return topologies.Topology(
        online=online,
        offline=CpuSet(),
        isolated=CpuSet(),
        nodes=tuple(nodes),
        llcs=tuple(sorted(caches, key=CpuSet.first)),
        cores=tuple(sorted(cores, key=CpuSet.first)),
        sockets=(online,),
    )


def _union(sets: Sequence[CpuSet]) -> CpuSet:
    return functools.reduce(CpuSet.__or__, sets, CpuSet())
