"""The last step of a choice: the caches are settled, and their cores are sorted, not searched."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from reconciler.policy.placement import cores

_NEVER = 1 << cores.WIDTH
"""Above every union of cores."""


def take(its: cores.Cores, wish: cores.Wish) -> int:
    """The best `wish.count` CPUs of these cores, which have so many, as a bit set."""
    tables = [
        *(cores.odd_plans(core, wish).items() for core in its.odd),
        *(_kept_plans(alike, wish) for alike in cores.by_size(its.kept).values()),
    ]
    sizes = list(cores.numbers(its.wholes).items())
    loose = sum(part.bit_count() for part in its.loose)
    room = loose + sum(size * number for size, number in sizes)
    priced = {}
    for taken, plan in cores.added(tables, wish.count).items():
        rest = wish.count - taken
        if rest <= room:
            priced[rest] = cores.plan_of(cores.plain_cost(sizes, loose, rest)) + plan
    cheapest = min(map(cores.cost_of, priced.values()))
    return cores.cpus_of(
        min(
            plan + _take_plain(its, sizes, loose, rest)
            for rest, plan in priced.items()
            if cores.cost_of(plan) == cheapest
        )
    )


def _kept_plans(alike: Sequence[int], wish: cores.Wish) -> Iterator[tuple[int, int]]:
    """`several` for the plans of kept cores of one size, in order: for each number of CPUs the lowest."""
    prices = cores.costs(cores.odd_plans(alike[0], wish))
    size, whole = prices[-1]
    unions = [0, *itertools.accumulate(alike)]
    yield from (
        (size * number, cores.plan_of(whole * number, cpus=union)) for number, union in enumerate(unions)
    )
    for part, extra in prices[1:-1]:
        for number, union in enumerate(_with_piece(alike, unions, part)):
            yield size * number + part, cores.plan_of(whole * number + extra, cpus=union)


def _take_plain(its: cores.Cores, sizes: Sequence[tuple[int, int]], loose: int, count: int) -> int:
    """The lowest `count` CPUs of plain cores at the cost of `plain_cost`, as a plan without cost."""
    whole = cores.most_on_wholes(sizes, count)
    rest = count - whole
    if rest > loose:
        return min(
            _lowest(its.wholes, whole + piece, [piece]) + _lowest(its.loose, rest - piece)
            for piece in range(rest - loose, rest + 1)
        )
    kept = _lowest(its.wholes, whole)
    exact = _lowest(its.loose, rest)
    if exact < _NEVER:
        return kept + exact
    largest = max(part.bit_count() for part in its.loose)
    return kept + cores.plan_of(0, unfinished=1, cpus=_lowest(its.loose, rest, range(1, largest)))


def _lowest(parts: Iterable[int], total: int, pieces: Iterable[int] = ()) -> int:
    """The smallest union of cores with `total` CPUs; `_NEVER` or more where sizes do not add up to it.

    With `pieces`, exactly one core gives only that many CPUs, its lowest; one of the numbers.
    """
    if not total:
        return 0
    shelves = cores.by_size(parts)
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
    if len(shelves) == 1:
        size, unions = shelves[0]
        number, over = divmod(total, size)
        return unions[number] if not over and 0 <= number < len(unions) else _NEVER
    tables = [[(size * number, union) for number, union in enumerate(unions)] for size, unions in shelves]
    return cores.added(tables, total).get(total, _NEVER)


def _with_piece(alike: Sequence[int], unions: Sequence[int], piece: int) -> list[int]:
    """For each n: the smallest union of n cores and the lowest `piece` CPUs of one more, cores in order.

    The piece is of a later core than the n lowest: the highest CPU of a core decides, and a piece is without.
    """
    later = itertools.accumulate((_first(core, piece) for core in reversed(alike)), min)
    return [union + part for union, part in zip(unions, reversed([*later]), strict=False)]


def _first(cpus: int, count: int) -> int:
    """The `count` lowest CPUs."""
    return sum(itertools.islice(cores.singles(cpus), count))
