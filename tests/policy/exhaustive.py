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


_NEAR = (11, 12, 12, 20, 21)
_BITS = st.integers(0, (1 << MOST) - 1)
_THINNED = st.sampled_from((0xFFFF, 0xFFFF, 0x5A5A, 0x1248, 0))


@st.composite
def machines(draw: st.DrawFn) -> topologies.Topology:
    """Any machine: nodes of any size or with memory alone, any caches in them, cores of 1, 2 and 4 threads in
    one cache, CPUs numbered in many ways, any distances, not the same both ways too.

    What each of many places is comes from the digits of one number: drawing them one by one takes longer than
    to try all choices.
    """
    sizes = draw(st.lists(st.sampled_from((1, 2, 2, 4)), min_size=2, max_size=12))
    new_cache, new_node = draw(_BITS), draw(_BITS) & draw(_THINNED)
    stride, first = draw(st.sampled_from((1, 1, 3, 5, 7, 11))), draw(st.sampled_from((0, 0, 1, 8)))
    numbers = iter([(first + stride * place) % MOST for place in range(MOST)])
    shape: list[list[list[list[int]]]] = [[[]]]
    for place, size in enumerate(sizes):
        if new_node >> place & 1:
            shape.append([[]])
        elif new_cache >> place & 1:
            shape[-1].append([])
        shape[-1][-1].append([*itertools.islice(numbers, size)])
    count = len(shape)
    digits = draw(st.integers(0, len(_NEAR) ** (count * count)))
    rows = []
    for _ in range(count):
        row = []
        for _ in range(count):
            digits, digit = divmod(digits, len(_NEAR))
            row.append(_NEAR[digit])
        rows.append(row)
    if draw(st.booleans()):
        rows = [[rows[max(a, b)][min(a, b)] for b in range(count)] for a in range(count)]
    return build(shape, rows)


@st.composite
def subsets_of(draw: st.DrawFn, cpus: CpuSet) -> CpuSet:
    """All of these CPUs, most of them, or any; never none."""
    taken = draw(_BITS) & draw(_THINNED)
    return CpuSet.from_bits(cpus.bits & ~taken) or cpus


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
        row = {other: 10 if other == place else distances[place][other] for other in range(len(shape))}
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
