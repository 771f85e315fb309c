"""What makes one choice of CPUs better than another: the definition that everything else is held against.

A choice is a plain int here, bit i for CPU i. Two choices are compared by their `Score`, field by field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reconciler.cpu import topology as topologies


class Score(NamedTuple):
    """The preferences, most important first (PRD 2); less is better in every field.

    What counts as *free* is what the choice was made from, CPUs that the container holds already included.
    A core that firmware reports across several caches counts as one in each of them.
    """

    nodes: int
    """NUMA nodes used."""
    distance: int
    """Sum of the distances between the used nodes, both ways (ACPI SLIT)."""
    caches: int
    """Last-level caches used."""
    split: int
    """CPUs on cores that the choice does not have whole."""
    broken: int
    """Wholly free cores of which it takes a part: the odd CPU belongs on a core that is half used already."""
    new: int
    """CPUs that the container does not hold already."""
    cpu_0: int
    """1 with CPU 0, which the kernel and many programs take for granted."""
    node_room: int
    """Free CPUs of the used nodes: the less is left beside the choice, the larger are the others."""
    cache_room: int
    """Free CPUs of the used caches: the same, one level down."""
    node_set: int
    """The used nodes as a bit set in the order of their ids, as a number."""
    cache_set: int
    """The used caches as a bit set, as a number; they count from the one with most free CPUs on, those with
    equally many in the order of their lowest CPUs."""
    core_0: int
    """1 with a CPU of CPU 0's core, on which it shares the core with the kernel's work."""
    unfinished: int
    """Partly used cores that it uses and does not use up."""
    cpus: int
    """The CPUs as a number, bit i for CPU i: the lowest break a tie."""


class Scale:
    """Weighs choices of the `free` CPUs of a machine for a container that holds `held`, all of them free.

    Every field of `Score` is a method of that name.
    """

    def __init__(self, topology: topologies.Topology, free: int, held: int = 0) -> None:
        self._free = free
        self._held = held
        self._nodes = [node.cpus.bits & free for node in topology.nodes]
        self._distances = between(topology)
        self._caches = [llc.bits & free for llc in topology.llcs]
        self._rank = ranks([room.bit_count() for room in self._caches])
        self._cores = [
            core.bits & llc.bits
            for llc, cores in zip(topology.llcs, topology.llc_cores, strict=True)
            for core in cores
        ]

    def score(self, chosen: int) -> Score:
        """The score of a choice, which must be a part of the free CPUs."""
        return Score(*(getattr(self, name)(chosen) for name in Score._fields))

    def nodes(self, chosen: int) -> int:
        return sum(1 for room in self._nodes if room & chosen)

    def distance(self, chosen: int) -> int:
        used = [index for index, room in enumerate(self._nodes) if room & chosen]
        return sum(self._distances[a][b] for at, a in enumerate(used) for b in used[:at])

    def caches(self, chosen: int) -> int:
        return sum(1 for room in self._caches if room & chosen)

    def split(self, chosen: int) -> int:
        whole = sum(core.bit_count() for core in self._cores if not core & ~chosen)
        return chosen.bit_count() - whole

    def broken(self, chosen: int) -> int:
        return sum(1 for core in self._cores if core & chosen and core & ~chosen and not core & ~self._free)

    def new(self, chosen: int) -> int:
        return (chosen & ~self._held).bit_count()

    def cpu_0(self, chosen: int) -> int:
        return chosen & 1

    def node_room(self, chosen: int) -> int:
        return sum(room.bit_count() for room in self._nodes if room & chosen)

    def cache_room(self, chosen: int) -> int:
        return sum(room.bit_count() for room in self._caches if room & chosen)

    def node_set(self, chosen: int) -> int:
        return sum(1 << index for index, room in enumerate(self._nodes) if room & chosen)

    def cache_set(self, chosen: int) -> int:
        return sum(1 << rank for rank, room in zip(self._rank, self._caches, strict=True) if room & chosen)

    def core_0(self, chosen: int) -> int:
        return sum(1 for core in self._cores if core & 1 and core & chosen)

    def unfinished(self, chosen: int) -> int:
        return sum(
            1 for core in self._cores if core & chosen and core & ~self._free and core & self._free & ~chosen
        )

    def cpus(self, chosen: int) -> int:
        return chosen


def between(topology: topologies.Topology) -> list[list[int]]:
    """The distances between nodes, both ways added up, by their places in the topology."""
    return [[a.distances[b.id] + b.distances[a.id] for b in topology.nodes] for a in topology.nodes]


def ranks(rooms: Sequence[int]) -> list[int]:
    """The place of each cache where those with most free CPUs come first."""
    order = sorted(range(len(rooms)), key=lambda index: -rooms[index])
    places = [0] * len(rooms)
    for place, index in enumerate(order):
        places[index] = place
    return places
