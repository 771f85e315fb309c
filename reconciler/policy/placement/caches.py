"""The middle step of a choice: the nodes are settled, which of their caches to use is not.

As few caches as can be are used, and every choice from these touches all of them. What the cores will cost
depends only on how many cores of each kind the caches have together (`cores`), so caches are told apart by
these numbers. The sets of caches are not walked one by one: all sums of numbers that they reach are kept as
the bits of one int, with what each could still lose.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reconciler.policy.placement import cores

MOST_SUMS = 1 << 23
"""Bits of one int of sums, 1 MiB. Above, the fullest caches are taken: machines whose cores come in many
sizes over many caches, or a move of a container with CPUs in many caches that are all used differently."""


_Odd = tuple[tuple[tuple[int, int], ...], ...]
Kind = int | _Odd


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What one cache has to offer.

    `rank` is its place by room, see `Score.cache_set`. `kinds` counts what its cores are for their cost:
    whole plain ones by size, and all odd ones together, by their costs. `on_wholes` is an upper bound for the
    CPUs that can be on cores taken whole, `must` whether it has a CPU that has to be taken.
    """

    rank: int
    room: int
    kinds: Mapping[Kind, int]
    on_wholes: int
    must: bool
    cores: cores.Cores


class Found(NamedTuple):
    """Caches to use, and what that costs: `Score` from `split` to `cpu_0`, `cache_room` and `cache_set`."""

    cost: int
    room: int
    ranks: int
    caches: Sequence[Cache]


def look(rank: int, parts: Sequence[int], wish: cores.Wish) -> Cache:
    """What a cache, given by its cores, has to offer."""
    its = cores.sort(parts, wish)
    kinds: dict[Kind, int] = Counter(core.bit_count() for core in its.wholes)
    on_wholes = sum(core.bit_count() for core in its.wholes)
    room = on_wholes + sum(part.bit_count() for part in its.loose)
    if its.odd:
        kinds[tuple(sorted(cores.costs(cores.odd_plans(core, wish)) for core in its.odd))] = 1
        room += sum((core & wish.free).bit_count() for core in its.odd)
        on_wholes += sum(core.bit_count() for core in its.odd if not core & ~wish.free)
    must = any(core & wish.must for core in its.odd)
    return Cache(rank=rank, room=room, kinds=kinds, on_wholes=on_wholes, must=must, cores=its)


def price(kinds: Mapping[Kind, int], room: int, count: int) -> int:
    """What `count` CPUs of caches with so many cores of each kind, and `room` free CPUs, cost at best."""
    sizes = [(kind, number) for kind, number in kinds.items() if isinstance(kind, int) and number]
    tables = [
        table
        for kind, number in kinds.items()
        if isinstance(kind, tuple)
        for table in itertools.chain.from_iterable(itertools.repeat(kind, number))
    ]
    on_odd = sum(table[-1][0] for table in tables)
    loose = room - on_odd - sum(size * number for size, number in sizes)
    return min(
        extra + cores.plain_cost(sizes, loose, count - taken)
        for taken, extra in cores.added(tables, count).items()
        if count - taken <= room - on_odd
    )


def fewest(caches: Sequence[Cache], count: int) -> int:
    """How many caches are needed beside those that must be used; `caches` have enough room."""
    missing = count - sum(cache.room for cache in caches if cache.must)
    if missing <= 0:
        return 0
    rooms = sorted((cache.room for cache in caches if not cache.must), reverse=True)
    return next(n for n, room in enumerate(itertools.accumulate(rooms), 1) if room >= missing)


def best(caches: Sequence[Cache], extra: int, count: int) -> Found:
    """The best caches for `count` CPUs: those that must be used, and `extra` others."""
    forced = [cache for cache in caches if cache.must]
    others = sorted((cache for cache in caches if not cache.must), key=lambda cache: cache.rank)
    search = _Search(forced, others, extra, count)
    if extra == 0 or extra == len(others):
        return search.found(others[:extra])
    if extra == 1:
        return min(search.found([cache]) for cache in others if cache.room >= search.missing)
    if search.sums > MOST_SUMS:
        return search.found(others[:extra])
    return search.found(list(search.walk()))


class _Search:
    """One search for `extra` of `others`, which are in the order of their room, beside `forced`."""

    def __init__(self, forced: Sequence[Cache], others: Sequence[Cache], extra: int, count: int) -> None:
        self._forced = forced
        self._others = others
        self._extra = extra
        self._count = count
        self._base = _together(forced)
        self.missing = count - sum(cache.room for cache in forced)
        self._spare = sum(cache.room for cache in others[:extra]) - self.missing
        self._limits = _together(others)
        self._span = math.prod(number + 1 for number in self._limits.values())
        self.sums = (self._spare + 1) * self._span

    def found(self, chosen: Sequence[Cache]) -> Found:
        """These others, with what they cost."""
        caches = [*self._forced, *chosen]
        room = sum(cache.room for cache in caches)
        ranks = sum(1 << cache.rank for cache in caches)
        return Found(price(_together(caches), room, self._count), room, ranks, caches)

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
        return (self._others[place].room - self._others[self._extra + skipped].room) * self._span

    def _step(self, cache: Cache) -> int:
        """What a cache adds to a sum: its numbers in a mixed radix."""
        step = 0
        for kind, limit in self._limits.items():
            number = cache.kinds.get(kind, 0)
            step = step * (limit + 1) + number
        return step

    def _goals(self, sums: int) -> int:
        """The sums of the lowest cost and, of these, the least room."""
        lowest, goals = None, 0
        while sums:
            bit = sums & -sums
            sums ^= bit
            spare, total = divmod(bit.bit_length() - 1, self._span)
            room = self._count + spare
            key = price(self._kinds(total), room, self._count), room
            if lowest is None or key < lowest:
                lowest, goals = key, bit
            elif key == lowest:
                goals |= bit
        return goals

    def _kinds(self, total: int) -> dict[Kind, int]:
        """The numbers of cores by kind that a sum stands for, with those of the forced caches."""
        kinds = dict(self._base)
        for kind, limit in reversed(self._limits.items()):
            total, number = divmod(total, limit + 1)
            kinds[kind] = kinds.get(kind, 0) + number
        return kinds


def _together(caches: Sequence[Cache]) -> dict[Kind, int]:
    kinds: dict[Kind, int] = {}
    for cache in caches:
        for kind, number in cache.kinds.items():
            kinds[kind] = kinds.get(kind, 0) + number
    return kinds
