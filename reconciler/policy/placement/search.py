"""The search as a whole: nodes, then caches, then cores."""

from __future__ import annotations

from typing import NamedTuple

from reconciler.cpu import topology as topologies
from reconciler.policy.placement import caches, cores, layout, nodes, picking, preferences


class Result(NamedTuple):
    """The CPUs as a bit set; how many sets of nodes were looked at from inside, and how many candidates of
    caches were weighed there."""

    cpus: int
    sets: int
    weighed: int


def find(topology: topologies.Topology, wish: cores.Wish) -> Result | None:
    """The best choice that fulfils a wish, or None where fewer CPUs are free."""
    if wish.free.bit_count() < wish.count:
        return None
    made = layout.of(topology)
    found = nodes.best(_nodes(made, wish), made.distances, wish)
    cpus = picking.take(cores.joined([cache.offer.cores for cache in found.caches]), wish)
    return Result(cpus, found.sets, found.weighed)


def _nodes(made: layout.Layout, wish: cores.Wish) -> list[nodes.Node]:
    """The nodes that have free CPUs, with what their caches have to offer."""
    rooms = [(cache.cpus & wish.free).bit_count() for cache in made.caches]
    ranks = preferences.ranks(rooms)
    found = []
    for place, its in enumerate(made.of_node):
        inside = [caches.Cache(made.caches[at], rooms[at], ranks[at], wish) for at in its if rooms[at]]
        if inside:
            found.append(nodes.Node(place, inside))
    return found
