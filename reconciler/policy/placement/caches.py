"""The middle step of a choice: the nodes are settled, which of their caches to use is not.

As few caches as can be are used, and every choice from these touches all of them. What the cores will cost
depends only on how many cores of each kind the caches have together (`cores`), so caches are told apart by
these numbers. The sets of caches are not walked one by one: all sums of numbers that they reach are kept as
the bits of one int, with what each could still lose.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.policy.placement import cores, layout

MOST_SUMS = 1 << 25
"""Bits that one search may keep, 4 MiB; 512 CPUs in 64 caches with cores of two threads need a quarter of it.

Where it would need more the fullest caches are taken: on machines whose cores come in many sizes over many
caches, or in a move of a container with CPUs in many caches that are all used differently.
"""

Odd = tuple[tuple[tuple[int, int], ...], ...]
"""What the odd cores of a cache cost, core by core and by number of CPUs: equal for caches that are alike."""
Kind = int | Odd
"""A size of whole plain cores, or the odd cores of a cache."""


class Offer(NamedTuple):
    """The cores of a cache by what is free of them.

    `sizes` counts the plain whole ones by their size, `odd` is what the others cost, and `on_wholes` is how
    many CPUs can be on cores taken whole, at most.
    """

    cores: cores.Cores
    sizes: Mapping[int, int]
    odd: Odd
    on_wholes: int


class Cache:
    """A cache with free CPUs, for one choice.

    `rank` is its place by room, see `Score.cache_set`; `step` divides the sizes of its cores; `must` says
    that it has a CPU that has to be taken.
    """

    def __init__(self, made: layout.Cache, room: int, rank: int, wish: cores.Wish) -> None:
        self._made = made
        self._wish = wish
        self.room = room
        self.rank = rank
        self.step = made.step
        self.must = made.cpus & wish.must != 0

    @property
    def alike(self) -> Hashable:
        """Equal for caches that differ in nothing but their CPUs: with them bounds are equal, too."""
        offer = self.offer
        return self.room, self.step, tuple(sorted(offer.sizes.items())), offer.odd

    @functools.cached_property
    def offer(self) -> Offer:
        """What it has to offer, looked at only when that is asked for."""
        made, wish = self._made, self._wish
        if self.room == made.size and not made.cpus & wish.oddities:
            return Offer(cores.Cores(wholes=made.cores, loose=()), made.sizes, (), self.room)
        its = cores.sort(made.cores, wish)
        sizes = cores.numbers(its.wholes)
        on_wholes = sum(size * number for size, number in sizes.items())
        on_wholes += sum(core.bit_count() for core in (*its.odd, *its.kept) if not core & ~wish.free)
        return Offer(its, sizes, tuple(cores.odd_costs(its, wish)), on_wholes)


class Found(NamedTuple):
    """Caches to use, and what that costs: `Score` from `split` to `cpu_0`, `cache_room` and `cache_set`.

    `weighed` says how many candidates were: single caches, or sums of numbers of cores.
    """

    cost: int
    room: int
    ranks: int
    caches: Sequence[Cache]
    weighed: int


def price(kinds: Mapping[Kind, int], room: int, count: int) -> int:
    """What `count` CPUs of caches with so many cores of each kind, and `room` free CPUs, cost at best."""
    sizes = []
    odd: Odd = ()
    for kind, number in kinds.items():
        if isinstance(kind, int):
            sizes.append((kind, number))
            room -= kind * number
        elif number:
            odd += kind * number
    if not odd:
        return cores.plain_cost(sizes, room, count)
    loose = room - sum(table[-1][0] for table in odd)
    most = loose + sum(size * number for size, number in sizes)
    return min(
        extra + cores.plain_cost(sizes, loose, count - taken)
        for taken, extra in _odd_costs(odd, count).items()
        if count - taken <= most
    )


@functools.lru_cache(maxsize=32)
def _odd_costs(odd: Odd, most: int) -> cores.Table:
    """What up to `most` CPUs of these cores cost: for many sums of one search they are the same."""
    return cores.added((cores.several(table, number) for table, number in Counter(odd).items()), most)


def best(caches: Sequence[Cache], extra: int, count: int, bound: tuple[int, int]) -> Found:
    """The best caches for `count` CPUs: those that must be used, and `extra` others.

    Nothing costs less than `bound`, or costs that and has less room.
    """
    forced = [cache for cache in caches if cache.must]
    others = sorted((cache for cache in caches if not cache.must), key=lambda cache: cache.rank)
    missing = count - sum(cache.room for cache in forced)
    if extra == 1:
        return _one(forced, [cache for cache in others if cache.room >= missing], count, bound[0])
    fullest = _found([*forced, *others[:extra]], count)  # no others have a lower `cache_set`
    if extra in (0, len(others)) or (fullest.cost, fullest.room) == bound:
        return fullest
    search = _Search(forced, others, extra, count)
    if search.sums > MOST_SUMS:
        return fullest
    return _found([*forced, *search.walk()], count)._replace(weighed=search.weighed)


def _one(forced: Sequence[Cache], others: Sequence[Cache], count: int, cheapest: int) -> Found:
    """The best of the others, one of which is enough. Nothing costs less than `cheapest`."""
    found = []
    for cache in sorted(others, key=lambda cache: (cache.room, cache.rank)):
        found.append(_found([*forced, cache], count))
        if found[-1].cost == cheapest:
            break
    return min(found)._replace(weighed=len(found))


def _found(caches: Sequence[Cache], count: int) -> Found:
    """These caches, with what they cost."""
    room = sum(cache.room for cache in caches)
    ranks = sum(1 << cache.rank for cache in caches)
    return Found(price(_together(caches), room, count), room, ranks, caches, 1)


class _Search:
    """One search for `extra` of `others`, which are in the order of their room, beside `forced`."""

    def __init__(self, forced: Sequence[Cache], others: Sequence[Cache], extra: int, count: int) -> None:
        self._others = others
        self._rooms = [cache.room for cache in others]
        self._extra = extra
        self._count = count
        self._base = _together(forced)
        self._limits = _together(others)
        self._span = math.prod(number + 1 for number in self._limits.values())
        self._spare = sum(cache.room for cache in (*forced, *others[:extra])) - count
        self.sums = (self._spare + 1) * self._span * len(others) * (len(others) - extra + 1)
        self.weighed = 0

    def walk(self) -> Iterator[Cache]:
        """The best others.

        Caches are taken or skipped in the order of their room. A bit of `layers[s]` is a sum that is reached
        with s skips; the n-th skip brings in the cache n places after the last of the fullest, and loses the
        difference in room. What would lose more than there is to spare falls off the int.
        """
        steps = [self._step(cache) for cache in self._others]
        skips = len(self._others) - self._extra
        layers = [1 << self._spare * self._span] + [0] * skips
        history = []
        for place, step in enumerate(steps):
            history.append(layers)
            following = [sums << step for sums in layers]
            if place >= self._extra:
                following[place - self._extra] = 0
            for skipped, sums in enumerate(layers[:-1]):
                if sums:
                    following[skipped + 1] |= sums >> self._loss(place, skipped)
            layers = following
        yield from self._back(steps, history, self._goals(layers[-1]))

    def _back(self, steps: Sequence[int], history: Sequence[Sequence[int]], goals: int) -> Iterator[Cache]:
        """From the sums that are wanted to the caches that reach one: those of little room left out first."""
        skipped = len(steps) - self._extra
        for place in reversed(range(len(steps))):
            without = 0
            if skipped:
                without = goals << self._loss(place, skipped - 1) & history[place][skipped - 1]
            if without:
                goals = without
                skipped -= 1
            else:
                goals = goals >> steps[place] & history[place][skipped]
                yield self._others[place]

    def _loss(self, place: int, skipped: int) -> int:
        """What skipping this cache costs of the room to spare, as a shift."""
        return (self._rooms[place] - self._rooms[self._extra + skipped]) * self._span

    def _step(self, cache: Cache) -> int:
        """What a cache adds to a sum: its numbers in a mixed radix."""
        offer = cache.offer
        step = 0
        for kind, limit in self._limits.items():
            number = offer.sizes.get(kind, 0) if isinstance(kind, int) else kind == offer.odd
            step = step * (limit + 1) + number
        return step

    def _goals(self, sums: int) -> int:
        """The sums of the lowest cost and, of these, the least room."""
        lowest, goals = None, 0
        while sums:
            bit = sums & -sums
            sums ^= bit
            self.weighed += 1
            spare, total = divmod(bit.bit_length() - 1, self._span)
            room = self._count + spare
            key = price(self._numbers(total), room, self._count), room
            if lowest is None or key < lowest:
                lowest, goals = key, bit
            elif key == lowest:
                goals |= bit
        return goals

    def _numbers(self, total: int) -> dict[Kind, int]:
        """The numbers of cores by kind that a sum stands for, with those of the forced caches."""
        kinds = dict(self._base)
        for kind, limit in reversed(self._limits.items()):
            total, number = divmod(total, limit + 1)
            kinds[kind] = kinds.get(kind, 0) + number
        return kinds


def _together(caches: Iterable[Cache]) -> dict[Kind, int]:
    """How many of each kind these caches have."""
    kinds: dict[Kind, int] = {}
    for cache in caches:
        offer = cache.offer
        for size, number in offer.sizes.items():
            kinds[size] = kinds.get(size, 0) + number
        if offer.odd:
            kinds[offer.odd] = kinds.get(offer.odd, 0) + 1
    return kinds
