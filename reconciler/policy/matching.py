"""Whether several demands for CPUs can be met at once, and how. Pure; sets are ints, bit i for CPU i."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Demand(NamedTuple):
    """`size` CPUs, of those that are bits of `allowed`."""

    size: int
    allowed: int


def assign(demands: Sequence[Demand]) -> list[int] | None:
    """Disjoint sets of CPUs, as bits, that satisfy all demands; None where there are none.

    Each demand takes what is free to it; what is missing comes along augmenting paths: one gives up a CPU
    and takes another instead (Berge). Exact. Linear in the CPUs wanted, times the demands squared.
    """
    room = 0
    for demand in demands:
        room |= demand.allowed
    shares: list[int] = []
    for demand in demands:
        free = room & demand.allowed
        take = free if free.bit_count() <= demand.size else _lowest(free, demand.size)
        room &= ~take
        shares.append(take)
        while shares[-1].bit_count() < demand.size:
            path = _path(demands, shares, room)
            if path is None:
                return None
            room = _shift(demands, shares, room, path)
    return shares


def _path(demands: Sequence[Demand], shares: list[int], room: int) -> list[int] | None:
    """The shortest chain from the last demand to one that can take from the room: each takes a CPU of the
    next."""
    last = len(shares) - 1
    came_from = {last: last}
    queue = [last]
    for index in queue:
        if demands[index].allowed & room:
            path = [index]
            while path[-1] != last:
                path.append(came_from[path[-1]])
            return path[::-1]
        for other, share in enumerate(shares):
            if other not in came_from and share & demands[index].allowed:
                came_from[other] = index
                queue.append(other)
    return None


def _shift(demands: Sequence[Demand], shares: list[int], room: int, path: list[int]) -> int:
    """Pass one CPU along the path, the last one's from the room; what is left of the room."""
    for taker, giver in itertools.pairwise(path):
        cpu = _lowest(shares[giver] & demands[taker].allowed, 1)
        shares[giver] &= ~cpu
        shares[taker] |= cpu
    cpu = _lowest(room & demands[path[-1]].allowed, 1)
    shares[path[-1]] |= cpu
    return room & ~cpu


def _lowest(cpus: int, count: int) -> int:
    taken = 0
    for _ in range(count):
        low = cpus & -cpus
        taken |= low
        cpus ^= low
    return taken
