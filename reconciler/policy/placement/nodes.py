"""The first step of a choice: which NUMA nodes, and then everything else for each set of nodes that ties.

As few nodes as can be, and of these sets those with the smallest distances. Sets are taken up in the order of
what they could cost at best, and the search ends where none of the rest can be better.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reconciler.policy.placement import caches, cores

MOST_SETS = 1000
"""Sets of nodes of one size that are compared: all there are with up to 12 nodes. With more nodes it may be
that only those are which grow from one node to its nearest ones."""

_Bound = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node with free CPUs: its place among the nodes, its free CPUs, its caches with free CPUs."""

    place: int
    room: int
    must: bool
    caches: Sequence[caches.Cache]


@dataclass(frozen=True, slots=True)
class Best:
    """The caches that were chosen, and how many sets of nodes were looked at from inside."""

    caches: Sequence[caches.Cache]
    examined: int


def best(nodes: Sequence[Node], distances: Sequence[Sequence[int]], wish: cores.Wish) -> Best:
    """The best caches on the best nodes; there are enough free CPUs."""
    sets = _nearest(list(_smallest_sets(nodes, distances, wish.count)), distances)
    needs = [caches.fewest(_caches(set_), wish.count) for set_ in sets]
    fewest = min(needs)
    bounds = sorted(
        (_bound(set_, fewest, wish), index)
        for index, (set_, need) in enumerate(zip(sets, needs, strict=True))
        if need == fewest
    )
    found: list[tuple[_Bound, int, caches.Found]] = []
    for bound, index in bounds:
        if found and bound > min(found)[0]:
            break
        inside = caches.best(_caches(sets[index]), fewest, wish.count)
        key = inside.cost, _room(sets[index]), inside.room, _bits(sets[index])
        found.append((key, inside.ranks, inside))
    return Best(min(found)[2].caches, len(found))


def _smallest_sets(
    nodes: Sequence[Node], distances: Sequence[Sequence[int]], count: int
) -> Iterator[Sequence[Node]]:
    """The sets of fewest nodes that have `count` free CPUs, with every node that must be used."""
    forced = [node for node in nodes if node.must]
    others = sorted((node for node in nodes if not node.must), key=lambda node: -node.room)
    missing = count - _room(forced)
    rooms = itertools.accumulate((node.room for node in others), initial=0)
    extra = next(number for number, room in enumerate(rooms) if room >= missing)
    if math.comb(len(others), extra) <= MOST_SETS:
        sets: Iterable[Sequence[Node]] = itertools.combinations(others, extra)
    else:
        sets = [others[:extra], *(_around(node, others, extra, distances) for node in others)]
    return ([*forced, *set_] for set_ in sets if _room(set_) >= missing)


def _around(
    first: Node, others: Sequence[Node], number: int, distances: Sequence[Sequence[int]]
) -> Sequence[Node]:
    return sorted(others, key=lambda node: (node is not first, distances[first.place][node.place]))[:number]


def _nearest(sets: Sequence[Sequence[Node]], distances: Sequence[Sequence[int]]) -> list[Sequence[Node]]:
    if len(sets) == 1:
        return [*sets]
    sums = [sum(distances[a.place][b.place] for at, a in enumerate(set_) for b in set_[:at]) for set_ in sets]
    smallest = min(sums)
    return [set_ for set_, sum_ in zip(sets, sums, strict=True) if sum_ == smallest]


def _bound(set_: Sequence[Node], extra: int, wish: cores.Wish) -> _Bound:
    """What the best choice on these nodes costs at least, in the order of the preferences."""
    inside = _caches(set_)
    forced = sum(cache.on_wholes for cache in inside if cache.must)
    others = sorted((cache.on_wholes for cache in inside if not cache.must), reverse=True)
    split = max(0, wish.count - forced - sum(others[:extra]))
    new = max(0, wish.count - wish.held.bit_count())
    return cores.cost(split=split, new=new), _room(set_), 0, _bits(set_)


def _caches(set_: Sequence[Node]) -> list[caches.Cache]:
    return [cache for node in set_ for cache in node.caches]


def _room(nodes: Iterable[Node]) -> int:
    return sum(node.room for node in nodes)


def _bits(nodes: Iterable[Node]) -> int:
    return sum(1 << node.place for node in nodes)
