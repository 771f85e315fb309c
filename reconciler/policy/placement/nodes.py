"""The first step of a choice: which NUMA nodes, and then everything else for each set of nodes that ties.

As few nodes as can be, and of these sets those with the smallest distances. Sets are taken up in the order of
what they could cost at best, and the search ends where none of the rest can be better.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from reconciler.policy.placement import caches, cores

MOST_SETS = 1000
"""Sets of nodes of one size that are compared: all there are with up to 12 nodes. With more nodes it may be
that only those are which grow from one node to its nearest ones."""

_Key = tuple[int, int, int, int]
"""`Score` from `split` to `cpu_0` as a cost, `node_room`, `cache_room`, `node_set`."""


class Node:
    """A node with free CPUs: its place among the nodes, its free CPUs, its caches with free CPUs.

    `rooms` are the free CPUs of each cache that need not be used, the most first.
    """

    def __init__(self, place: int, inside: Sequence[caches.Cache]) -> None:
        self.place = place
        self.caches = inside
        self.forced = [cache for cache in inside if cache.must]
        self.must = bool(self.forced)
        self.room = sum(cache.room for cache in inside)
        self.rooms = sorted((cache.room for cache in inside if not cache.must), reverse=True)
        self.step = math.gcd(*(cache.step for cache in inside))

    @functools.cached_property
    def alike(self) -> Hashable:
        """Equal for nodes that differ in nothing but their CPUs."""
        return frozenset(Counter(cache.alike for cache in self.caches).items())

    @functools.cached_property
    def on_wholes(self) -> list[int]:
        """How many CPUs of each cache that need not be used can be on whole cores, the most first."""
        return sorted((cache.offer.on_wholes for cache in self.caches if not cache.must), reverse=True)

    @functools.cached_property
    def forced_on_wholes(self) -> int:
        """How many CPUs of caches that must be used can be on whole cores."""
        return sum(cache.offer.on_wholes for cache in self.forced)


@dataclass(frozen=True, slots=True)
class Best:
    """The caches that were chosen; how many sets of nodes were looked at from inside, and how many candidates
    of caches were weighed there."""

    caches: Sequence[caches.Cache]
    sets: int
    weighed: int


def best(nodes: Sequence[Node], distances: Sequence[Sequence[int]], wish: cores.Wish) -> Best:
    """The best caches on the best nodes; there are enough free CPUs."""
    sets = _nearest(list(_smallest_sets(nodes, distances, wish.count)), distances)
    needs = [_caches_needed(set_, wish.count) for set_ in sets]
    fewest = min(need for need, _ in needs)
    bounds = sorted(
        (_bound(set_, fewest, room, wish), index)
        for index, (set_, (need, room)) in enumerate(zip(sets, needs, strict=True))
        if need == fewest
    )
    found: list[tuple[_Key, int, Sequence[caches.Cache]]] = []
    weighed = 0
    for bound, index in _unlike(bounds, sets):
        if found and bound > min(found)[0]:
            break
        inside = [cache for node in sets[index] for cache in node.caches]
        its = caches.best(inside, fewest, wish.count, (bound[0], bound[2]))
        found.append(((its.cost, bound[1], its.room, bound[3]), its.ranks, its.caches))
        weighed += its.weighed
    return Best(min(found)[2], len(found), weighed)


def _unlike(bounds: Sequence[tuple[_Key, int]], sets: Sequence[Sequence[Node]]) -> Iterator[tuple[_Key, int]]:
    """Of sets whose nodes are alike one by one the first alone: `node_set` decides before anything inside."""
    yield bounds[0]
    ids: dict[Hashable, int] = {}
    seen = set()
    for at, bound in enumerate(bounds):
        alike = tuple(sorted(ids.setdefault(node.alike, len(ids)) for node in sets[bound[1]]))
        if at and alike not in seen:
            yield bound
        seen.add(alike)


def _caches_needed(set_: Sequence[Node], count: int) -> tuple[int, int]:
    """How many caches are needed beside those that must be used, and how few free CPUs so many can have."""
    rooms = sorted([room for node in set_ for room in node.rooms], reverse=True)
    forced = sum(cache.room for node in set_ for cache in node.forced)
    missing = count - forced
    extra = 0
    while missing > 0:
        missing -= rooms[extra]
        extra += 1
    return extra, max(count, forced + sum(rooms[len(rooms) - extra :]))


def _bound(set_: Sequence[Node], extra: int, room: int, wish: cores.Wish) -> _Key:
    """What the best choice on these nodes costs at least, in the order of the preferences.

    Where one cache is enough, its cores are not looked at for that.
    """
    node_room = _room(set_)
    most, loose = node_room, node_room
    if extra > 1:
        on_wholes = sorted([most for node in set_ for most in node.on_wholes], reverse=True)
        forced = sum(node.forced_on_wholes for node in set_)
        most = forced + sum(on_wholes[:extra])
        loose = node_room - forced - sum(on_wholes)
    split = max(0, wish.count - most)
    split += (wish.count - split) % math.gcd(*[node.step for node in set_])
    new = max(0, wish.count - wish.held.bit_count())
    return cores.cost(split=split, broken=split > loose, new=new), node_room, room, _bits(set_)


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


def _room(nodes: Iterable[Node]) -> int:
    return sum(node.room for node in nodes)


def _bits(nodes: Iterable[Node]) -> int:
    return sum(1 << node.place for node in nodes)
