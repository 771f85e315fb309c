"""What the cores of caches cost, by what is free of them.

Most cores are *plain*: wholly free ones differ by size and number alone, and the free CPUs of half-used ones
are loose change. *Odd* cores are that of CPU 0 and those that are held in part or whole; what may be taken
of them is listed core by core.

Costs are ints with one field of `FIELD` bits for each preference, the most important on top, so that adding
adds field by field and comparing compares preferences in their order. A *plan* is a cost with `core_0`,
`unfinished` and the CPUs below it. Both add up over cores, because no two cores share a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

FIELD = 14
"""Bits of one field: 8192 CPUs at most (`idset.CpuSet`)."""
WIDTH = 8192

Table = Mapping[int, int]
"""The cheapest cost, or plan, by the number of CPUs taken."""


def cost(*, split: int = 0, broken: int = 0, new: int = 0, cpu_0: int = 0) -> int:
    """The fields of `Score` that the cores decide, as one number."""
    return ((split << FIELD | broken) << FIELD | new) << FIELD | cpu_0


def plan_of(cost_: int, *, core_0: int = 0, unfinished: int = 0, cpus: int = 0) -> int:
    """A plan: a cost, the fields of `Score` below the caches, and the CPUs."""
    return ((cost_ << FIELD | core_0) << FIELD | unfinished) << WIDTH | cpus


def cost_of(plan: int) -> int:
    """The cost of a plan."""
    return plan >> (WIDTH + 2 * FIELD)


def cpus_of(plan: int) -> int:
    """The CPUs that a plan takes."""
    return plan & (1 << WIDTH) - 1


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
    """Free cores: whole ones, what is free of half-used ones, and odd ones (whole, whatever is free).

    `kept` are odd ones that are alike but for their CPUs: held whole, and free to be given up.
    """

    wholes: Sequence[int]
    loose: Sequence[int]
    odd: Sequence[int] = ()
    kept: Sequence[int] = ()


def sort(cores: Iterable[int], wish: Wish) -> Cores:
    """The cores of one cache by what is free of them."""
    wholes: list[int] = []
    loose: list[int] = []
    odd: list[int] = []
    kept: list[int] = []
    free, oddities = wish.free, wish.oddities
    given_up = wish.held & ~wish.must & ~1
    for core in cores:
        part = core & free
        if part and core & oddities:
            (odd if core & ~given_up else kept).append(core)
        elif part == core:
            wholes.append(core)
        elif part:
            loose.append(part)
    return Cores(wholes=wholes, loose=loose, odd=odd, kept=kept)


def joined(groups: Sequence[Cores]) -> Cores:
    """The cores of several caches together."""
    return Cores(
        wholes=[core for group in groups for core in group.wholes],
        loose=[part for group in groups for part in group.loose],
        odd=[core for group in groups for core in group.odd],
        kept=[core for group in groups for core in group.kept],
    )


def odd_plans(core: int, wish: Wish) -> dict[int, int]:
    """What may be taken of an odd core: for each number of CPUs the best plan.

    Those that must be taken come first, then held ones, then others; CPU 0 comes after its equals.
    """
    free = core & wish.free
    whole = free == core
    size = core.bit_count()
    order = sorted(singles(free), key=lambda cpu: (not cpu & wish.must, not cpu & wish.held, cpu & 1, cpu))
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
        plans[taken] = plan_of(price, core_0=core & 1 and taken > 0, unfinished=unfinished, cpus=cpus)
    return plans


def costs(plans: Table) -> tuple[tuple[int, int], ...]:
    """The costs alone of a core's plans, by number of CPUs: equal for cores that are alike."""
    return tuple((taken, cost_of(plan)) for taken, plan in plans.items())


def odd_costs(cores: Cores, wish: Wish) -> list[tuple[tuple[int, int], ...]]:
    """The costs of each odd core, kept ones among them, in order."""
    rows = [costs(odd_plans(core, wish)) for core in cores.odd]
    for alike in by_size(cores.kept).values():
        rows += [costs(odd_plans(alike[0], wish))] * len(alike)
    return sorted(rows)


def several(table: Sequence[tuple[int, int]], number: int) -> Iterable[tuple[int, int]]:
    """The costs of so many alike cores together.

    Of whole cores that need not be taken all but one are taken whole or not at all: two that are split cost
    more than one that has CPUs of the other.
    """
    size, whole = table[-1]
    if table[0][0] or whole >> 3 * FIELD:
        return added([table] * number, size * number).items()
    rows = [(at * size + part, at * whole + extra) for at in range(number) for part, extra in table[:-1]]
    return [*rows, (number * size, number * whole)]


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


def numbers(cores: Iterable[int]) -> dict[int, int]:
    """How many cores there are of each size."""
    found: dict[int, int] = {}
    for core in cores:
        size = core.bit_count()
        found[size] = found.get(size, 0) + 1
    return found


def by_size(cores: Iterable[int]) -> dict[int, list[int]]:
    """Cores by their size, those of one size in order."""
    found: dict[int, list[int]] = {}
    for core in sorted(cores):
        found.setdefault(core.bit_count(), []).append(core)
    return found


def singles(cpus: int) -> Iterator[int]:
    """The CPUs one by one, each as a bit set, the lowest first."""
    while cpus:
        low = cpus & -cpus
        yield low
        cpus ^= low
