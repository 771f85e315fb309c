"""Which free CPUs an integer container gets. Pure and deterministic.

Preferences, most important first (PRD 2): fewest NUMA nodes, fewest last-level caches, whole cores before
split ones, an odd CPU on a core that is half used already, CPU 0 last, large free blocks kept whole. One
candidate is made for every cache that fits, else for every node that fits, else across the fullest nodes;
the candidate with the best score is taken. A candidate follows the preferences by itself; combinations of
candidates are not searched.

Sets are plain ints here, bit i for CPU i: a creation waits for the answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet

_Score = tuple[int, int, int, int, int, int]


def choose(topology: topologies.Topology, free: CpuSet, count: int) -> CpuSet | None:
    """`count` (>= 1) CPUs of `free`, or None where there are not that many. Linear in the CPUs."""
    if len(free) < count:
        return None
    machine = _Machine(topology, free.bits)
    best = min(machine.candidates(count), key=machine.score)
    return CpuSet.from_bits(best)


class _Machine:
    """A topology and which of its CPUs are free, as ints. Lives for one choice."""

    def __init__(self, topology: topologies.Topology, free: int) -> None:
        self._free = free
        self._nodes = [node.cpus.bits for node in topology.nodes]
        self._llcs = [llc.bits for llc in topology.llcs]
        self._cores = topology.llc_cores
        self._core_of = topology.siblings

    def candidates(self, count: int) -> Iterator[int]:
        """Choices of `count` free CPUs on as few caches and nodes as can be had. At least one."""
        fitting = [index for index, llc in enumerate(self._llcs) if (llc & self._free).bit_count() >= count]
        if fitting:
            for index in fitting:
                yield self._within(index, count)
            return
        nodes = [node for node in self._nodes if (node & self._free).bit_count() >= count]
        for room in nodes or [self._fullest_nodes(count)]:
            yield self._without_cpu_0(self._across(room, count))

    def score(self, chosen: int) -> _Score:
        """Smaller is better, in the order of the preferences; the CPUs themselves break a tie."""
        touched = [index for index, llc in enumerate(self._llcs) if llc & chosen]
        return (
            sum(1 for node in self._nodes if node & chosen),
            len(touched),
            self._broken(chosen),
            chosen & 1,
            sum((self._llcs[index] & self._free).bit_count() for index in touched),
            chosen,
        )

    def _broken(self, chosen: int) -> int:
        """How many wholly free cores are used in part."""
        broken = 0
        rest = chosen
        while rest:
            core = self._core_of((rest & -rest).bit_length() - 1).bits
            broken += core & ~chosen != 0 and core & self._free == core
            rest &= ~core
        return broken

    def _fullest_nodes(self, count: int) -> int:
        """The nodes with most free CPUs, together: the fewest that hold `count`."""
        room = 0
        for node in sorted(self._nodes, key=lambda node: (-(node & self._free).bit_count(), node)):
            room |= node
            if (room & self._free).bit_count() >= count:
                break
        return room

    def _across(self, room: int, count: int) -> int:
        """`count` free CPUs of `room` on the fewest caches: the fullest ones whole, and a part of the
        smallest one that holds the rest, which keeps the others whole."""
        caches = [index for index, llc in enumerate(self._llcs) if llc & room & self._free]
        caches.sort(key=self._by_fullness)
        taken = 0
        for position, index in enumerate(caches):
            missing = count - taken.bit_count()
            if missing == 0:
                break
            if self._has(index) > missing:
                enough = [other for other in caches[position:] if self._has(other) >= missing]
                last = min(enough, key=lambda other: (self._llcs[other] & 1, self._has(other), other))
                return taken | self._within(last, missing)
            taken |= self._llcs[index] & self._free
        return taken

    def _without_cpu_0(self, chosen: int) -> int:
        """The choice, or a better one: CPU 0 exchanged for the free twin of a core that is split anyway."""
        if not chosen & 1:
            return chosen
        better = [chosen]
        rest = chosen & ~1
        while rest:
            core = self._core_of((rest & -rest).bit_length() - 1).bits
            twins = core & self._free & ~chosen & ~1
            if twins:
                better.append(chosen ^ 1 | _lowest(twins, 1))
            rest &= ~core
        return min(better, key=self.score)

    def _by_fullness(self, index: int) -> tuple[int, int, int]:
        return -self._has(index), self._llcs[index] & self._free & 1, index

    def _has(self, index: int) -> int:
        return (self._llcs[index] & self._free).bit_count()

    def _within(self, index: int, count: int) -> int:
        """`count` free CPUs of one cache: whole cores while they fit, then odd CPUs of cores that are in use
        already, then of the others; CPU 0 and its core last."""
        taken = 0
        spare = []
        for whole, last, core in self._ranked(index):
            size = core.bit_count()
            if whole and size <= count:
                taken |= core
                count -= size
            elif count:
                spare.append((last, whole, core))
        for _, _, core in sorted(spare) if count else ():
            part = _lowest(core, count)
            taken |= part
            count -= part.bit_count()
            if not count:
                break
        return taken

    def _ranked(self, index: int) -> list[tuple[bool, int, int]]:
        """The free parts of a cache's cores: whether it is the whole core, whether it has CPU 0, the CPUs;
        that with CPU 0 at the end."""
        parts = []
        for core in self._cores[index]:
            part = core.bits & self._free
            if part:
                parts.append((part == core.bits, part & 1, part))
        if parts and parts[0][1]:
            parts.append(parts.pop(0))
        return parts


def _lowest(cpus: int, count: int) -> int:
    """The `count` lowest CPUs, or all if there are fewer; CPU 0 counts as the highest."""
    taken = 0
    rest = cpus & ~1
    while rest and count:
        low = rest & -rest
        taken |= low
        rest ^= low
        count -= 1
    return taken | (cpus & 1 if count else 0)
