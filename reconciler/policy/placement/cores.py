"""The last step of a choice: the caches are settled, their cores are not.

Most cores are *plain*: wholly free ones differ by size and number alone, and the free CPUs of half-used ones
are loose change. *Odd* cores are that of CPU 0 and those that are held in part or whole; what may be taken
of them is listed core by core.

Costs are ints with one field of `FIELD` bits for each preference, the most important on top, so that adding
adds field by field and comparing compares preferences in their order. A *plan* is a cost with `core_0`,
`unfinished` and the CPUs below it. Both add up over cores, because no two cores share a CPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

FIELD = 14
"""Bits of one field: 8192 CPUs at most (`idset.CpuSet`)."""
_WIDTH = 8192
_NEVER = 1 << _WIDTH
"""Above every union of cores."""

Table = Mapping[int, int]
"""The cheapest cost, or plan, by the number of CPUs taken."""


def cost(*, split: int = 0, broken: int = 0, new: int = 0, cpu_0: int = 0) -> int:
    """The fields of `Score` that the cores decide, as one number."""
    return ((split << FIELD | broken) << FIELD | new) << FIELD | cpu_0


def _plan(cost_: int, *, core_0: int = 0, unfinished: int = 0, cpus: int = 0) -> int:
    return ((cost_ << FIELD | core_0) << FIELD | unfinished) << _WIDTH | cpus


def _cost_of(plan: int) -> int:
    return plan >> (_WIDTH + 2 * FIELD)


def cpus_of(plan: int) -> int:
    """The CPUs that a plan takes."""
    return plan & (1 << _WIDTH) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for: `count` CPUs of `free`, with all of `must` and as many of `held` as may be."""

    free: int
    held: int
    must: int
    count: int

    @property
    def oddities(self) -> int:
        """CPUs that make their core an odd one."""
        return self.held | self.must | 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Free cores: whole ones, what is free of half-used ones, and odd ones (whole, whatever is free)."""

    wholes: Sequence[int]
    loose: Sequence[int]
    odd: Sequence[int]


def sort(cores: Iterable[int], wish: Wish) -> Cores:
    """The cores of one cache by what is free of them."""
    wholes, loose, odd = [], [], []
    free, oddities = wish.free, wish.oddities
    for core in cores:
        part = core & free
        if part and core & oddities:
            odd.append(core)
        elif part == core:
            wholes.append(core)
        elif part:
            loose.append(part)
    return Cores(wholes=wholes, loose=loose, odd=odd)


def joined(groups: Sequence[Cores]) -> Cores:
    """The cores of several caches together."""
    return Cores(
        wholes=[core for group in groups for core in group.wholes],
        loose=[part for group in groups for part in group.loose],
        odd=[core for group in groups for core in group.odd],
    )


def odd_plans(core: int, wish: Wish) -> dict[int, int]:
    """What may be taken of an odd core: for each number of CPUs the best plan.

    Those that must be taken come first, then held ones, then others; CPU 0 comes after its equals.
    """
    free = core & wish.free
    whole = free == core
    size = core.bit_count()
    order = sorted(_singles(free), key=lambda cpu: (not cpu & wish.must, not cpu & wish.held, cpu & 1, cpu))
    plans = {}
    for taken in range((core & wish.must).bit_count(), len(order) + 1):
        cpus = sum(order[:taken])
        price = cost(
            split=0 if taken == size else taken,
            broken=whole and 0 < taken < size,
            new=(cpus & ~wish.held).bit_count(),
            cpu_0=cpus & 1,
        )
        unfinished = not whole and 0 < taken < len(order)
        plans[taken] = _plan(price, core_0=core & 1 and taken > 0, unfinished=unfinished, cpus=cpus)
    return plans


def costs(plans: Table) -> tuple[tuple[int, int], ...]:
    """The costs alone of a core's plans, by number of CPUs: equal for cores that are alike."""
    return tuple((taken, _cost_of(plan)) for taken, plan in plans.items())


def added(tables: Iterable[Iterable[tuple[int, int]]], most: int) -> dict[int, int]:
    """The best over all of these cores together, for up to `most` CPUs."""
    total = {0: 0}
    for table in tables:
        rows = tuple(table)
        following: dict[int, int] = {}
        for taken, price in total.items():
            for more, extra in rows:
                count = taken + more
                if count <= most and (count not in following or price + extra < following[count]):
                    following[count] = price + extra
        total = following
    return total


def plain_cost(sizes: Sequence[tuple[int, int]], loose: int, taken: int) -> int:
    """The cost of `taken` CPUs of plain cores: so many whole ones of each size, and so many loose CPUs.

    As many as fit go on whole cores. The rest are loose ones; where these do not suffice one core is broken,
    and one suffices, for a core of which the rest needs every CPU would have been taken whole.
    """
    rest = taken - most_on_wholes(sizes, taken)
    return cost(split=rest, broken=rest > loose, new=taken)


def most_on_wholes(sizes: Sequence[tuple[int, int]], most: int) -> int:
    """How many of `most` CPUs can be on whole cores: the largest sum of sizes that is not above it."""
    if len(sizes) == 1:
        size, number = sizes[0]
        return size * min(number, most // size)
    sums = 1
    for size, number in sizes:
        left, step = number, 1
        while left:
            step = min(step, left)
            sums |= sums << size * step
            left -= step
            step *= 2
    return (sums & (2 << most) - 1).bit_length() - 1


def take(cores: Cores, wish: Wish) -> int:
    """The best `wish.count` CPUs of these cores, which have so many, as a bit set."""
    tables = [odd_plans(core, wish).items() for core in cores.odd]
    sizes = list(numbers(cores.wholes).items())
    loose = sum(part.bit_count() for part in cores.loose)
    room = loose + sum(size * number for size, number in sizes)
    priced = {}
    for taken, plan in added(tables, wish.count).items():
        rest = wish.count - taken
        if rest <= room:
            priced[rest] = _plan(plain_cost(sizes, loose, rest)) + plan
    cheapest = min(map(_cost_of, priced.values()))
    return cpus_of(
        min(
            plan + _take_plain(cores, sizes, loose, rest)
            for rest, plan in priced.items()
            if _cost_of(plan) == cheapest
        )
    )


def numbers(cores: Iterable[int]) -> dict[int, int]:
    """How many cores there are of each size."""
    found: dict[int, int] = {}
    for core in cores:
        size = core.bit_count()
        found[size] = found.get(size, 0) + 1
    return found


def _take_plain(cores: Cores, sizes: Sequence[tuple[int, int]], loose: int, count: int) -> int:
    """The lowest `count` CPUs of plain cores at the cost of `plain_cost`, as a plan without cost."""
    whole = most_on_wholes(sizes, count)
    rest = count - whole
    if rest > loose:
        return min(
            _lowest(cores.wholes, whole + piece, [piece]) + _lowest(cores.loose, rest - piece)
            for piece in range(rest - loose, rest + 1)
        )
    kept = _lowest(cores.wholes, whole)
    exact = _lowest(cores.loose, rest)
    if exact < _NEVER:
        return kept + exact
    largest = max(part.bit_count() for part in cores.loose)
    return kept + _plan(0, unfinished=1, cpus=_lowest(cores.loose, rest, range(1, largest)))


def _lowest(cores: Iterable[int], total: int, pieces: Iterable[int] = ()) -> int:
    """The smallest union of cores with `total` CPUs; `_NEVER` or more where sizes do not add up to it.

    With `pieces`, exactly one core gives only that many CPUs, its lowest; one of the numbers.
    """
    if not total:
        return 0
    by_size: dict[int, list[int]] = {}
    for core in cores:
        by_size.setdefault(core.bit_count(), []).append(core)
    shelves = {size: sorted(alike) for size, alike in by_size.items()}
    unions = {size: [0, *itertools.accumulate(alike)] for size, alike in shelves.items()}
    if not pieces:
        return _smallest(list(unions.items()), total)
    found = _NEVER
    for piece in pieces:
        for size, alike in shelves.items():
            if size > piece:
                broken = _with_piece(alike, unions[size], piece)
                others = [(other, union) for other, union in unions.items() if other != size]
                found = min(found, _smallest([*others, (size, broken)], total - piece))
    return found


def _smallest(shelves: Sequence[tuple[int, Sequence[int]]], total: int) -> int:
    """The smallest sum of one union per size, where the sizes add up to `total`; `unions[n]` has n cores."""
    if not shelves:
        return _NEVER if total else 0
    size, unions = shelves[-1]
    if len(shelves) == 1:
        number, over = divmod(total, size)
        return unions[number] if not over and 0 <= number < len(unions) else _NEVER
    return min(
        (
            union + _smallest(shelves[:-1], total - number * size)
            for number, union in enumerate(unions[: max(0, total // size + 1)])
        ),
        default=_NEVER,
    )


def _with_piece(alike: Sequence[int], unions: Sequence[int], piece: int) -> list[int]:
    """For each n: the smallest union of n cores and the lowest `piece` CPUs of one more, cores in order.

    The piece is from a later core, beside the n lowest, or from one of the n + 1 lowest.
    """
    parts = [lowest(core, piece) for core in alike]
    later = list(itertools.accumulate(reversed(parts), min))[::-1]
    spared = itertools.accumulate((core ^ part for core, part in zip(alike, parts, strict=True)), max)
    return [
        min(unions[number] + later[number], unions[number + 1] - saved) for number, saved in enumerate(spared)
    ]


def lowest(cpus: int, count: int) -> int:
    """The `count` lowest CPUs."""
    return sum(itertools.islice(_singles(cpus), count))


def _singles(cpus: int) -> Iterator[int]:
    while cpus:
        low = cpus & -cpus
        yield low
        cpus ^= low
