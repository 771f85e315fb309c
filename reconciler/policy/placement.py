"""Which free CPUs an integer container gets. Pure and deterministic.

Preferences, most important first (PRD 2): fewest NUMA nodes, fewest last-level caches, whole cores before
split ones, an odd CPU on a core that is half used already, CPU 0 last, large free blocks kept whole.
Candidates are the free CPUs of each cache and node that fits; the scored best of them is taken. The
preferences are exact within one candidate; the search over combinations of nodes is greedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet

_Score = tuple[int, int, int, bool, int, int]


def choose(topology: topologies.Topology, free: CpuSet, count: int) -> CpuSet | None:
    """`count` (>= 1) CPUs of `free`, or None where there are not that many. Linear in the CPUs."""
    if len(free) < count:
        return None
    candidates = (_take(topology, room, free, count) for room in _rooms(topology, free, count))
    return min(candidates, key=lambda chosen: _score(topology, free, chosen))


def _rooms(topology: topologies.Topology, free: CpuSet, count: int) -> Iterator[CpuSet]:
    """Sets of free CPUs, each large enough, on as few caches and nodes as can be had."""
    for blocks in (topology.llcs, tuple(node.cpus for node in topology.nodes)):
        fitting = [block & free for block in blocks if len(block & free) >= count]
        if fitting:
            yield from fitting
            return
    yield _widest(free, count, (node.cpus for node in topology.nodes))


def _widest(free: CpuSet, count: int, blocks: Iterable[CpuSet]) -> CpuSet:
    """The fullest blocks together, until `count` CPUs fit: the fewest blocks that do."""
    room = CpuSet()
    for block in sorted((block & free for block in blocks), key=lambda b: (-len(b), b.bits)):
        if len(room) >= count:
            return room
        room |= block
    return room if len(room) >= count else free


def _take(topology: topologies.Topology, room: CpuSet, free: CpuSet, count: int) -> CpuSet:
    """`count` CPUs of `room`: within the fewest caches, whole cores first."""
    caches = sorted((llc & room for llc in topology.llcs), key=lambda b: (-len(b), 0 in b, b.bits))
    taken = CpuSet()
    for index, cache in enumerate(caches):
        missing = count - len(taken)
        if missing == 0:
            break
        if len(cache) > missing:
            # The last cache needed: the smallest that still holds the rest keeps the others whole.
            last = min(
                (c for c in caches[index:] if len(c) >= missing), key=lambda c: (0 in c, len(c), c.bits)
            )
            return taken | _cores(topology, last, free, missing)
        taken |= cache
    # CPUs that no cache lists (a machine without cache information) come last.
    return taken | CpuSet(sorted(room - taken, key=lambda c: (c == 0, c))[: count - len(taken)])


def _cores(topology: topologies.Topology, room: CpuSet, free: CpuSet, count: int) -> CpuSet:
    """`count` CPUs of `room`, which lie in one cache: whole cores, then the odd ones."""
    whole, split = _sorted_cores(topology, room, free)
    taken = CpuSet()
    for core in whole:
        if len(core) <= count - len(taken):
            taken |= core
    # The odd CPUs: half-used cores before breaking a free one, CPU 0 last.
    rest = [*split, *(core for core in whole if core.isdisjoint(taken))]
    for core in sorted(rest, key=lambda core: (0 in core, core not in split)):
        missing = count - len(taken)
        if missing == 0:
            break
        taken |= CpuSet(sorted(core, key=lambda cpu: (cpu == 0, cpu))[:missing])
    return taken


def _sorted_cores(
    topology: topologies.Topology, room: CpuSet, free: CpuSet
) -> tuple[list[CpuSet], list[CpuSet]]:
    """The cores in `room`: wholly free ones and partly used ones, each with the core of CPU 0 last."""
    whole: list[CpuSet] = []
    split: list[CpuSet] = []
    rest = room
    while rest:
        siblings = topology.siblings(rest.first())
        (whole if siblings <= free else split).append(siblings & room)
        rest -= siblings
    return sorted(whole, key=lambda core: 0 in core), sorted(split, key=lambda core: 0 in core)


def _score(topology: topologies.Topology, free: CpuSet, chosen: CpuSet) -> _Score:
    """Smaller is better, in the order of the preferences; the CPUs themselves break a tie."""
    nodes = sum(not node.cpus.isdisjoint(chosen) for node in topology.nodes)
    touched = [llc for llc in topology.llcs if not llc.isdisjoint(chosen)]
    broken = 0
    rest = chosen
    while rest:
        core = topology.siblings(rest.first())
        broken += core <= free and not core <= chosen
        rest -= core
    left = sum(len(llc & free) for llc in touched)
    return nodes, len(touched), broken, 0 in chosen, left, chosen.bits
