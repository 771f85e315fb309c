"""Which CPUs an integer container gets: one scored, deterministic search. Pure.

- `preferences`: what makes a choice good, as a score. The result of every function here has the best score
  that there is; tests compare it with all choices that there are.
- `search`: settles one level after the other: `nodes`, `caches`, then `picking` CPUs; `cores` says
  what they cost, and `layout` how the machine is made.

Sets are plain ints inside, bit i for CPU i: a creation waits for the answer.
"""

from __future__ import annotations

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.policy.placement import cores, preferences, search
from reconciler.policy.placement.preferences import Score

__all__ = ["Score", "choose", "grow", "move", "score", "shrink"]


def choose(topology: topologies.Topology, free: CpuSet, count: int) -> CpuSet | None:
    """The best `count` (>= 1) CPUs of `free`, or None where there are not that many."""
    return _best(topology, cores.Wish(free=free.bits, held=0, must=0, count=count))


def grow(topology: topologies.Topology, held: CpuSet, free: CpuSet, count: int) -> CpuSet | None:
    """The best `count` CPUs with all of `held`, the others of `free`; None where there are not that many.

    `count` is not less than what is held. The choice is judged as a whole, so that it first completes cores,
    and stays on nodes and caches, of which it has a part.
    """
    return _best(topology, cores.Wish(free=(held | free).bits, held=held.bits, must=held.bits, count=count))


def shrink(topology: topologies.Topology, held: CpuSet, count: int) -> CpuSet:
    """The best `count` CPUs (1 to all) of `held` to keep: whole nodes, caches and cores are given back."""
    kept = choose(topology, held, count)
    if kept is None:
        raise ValueError(f"{len(held)} CPUs do not shrink to {count}")
    return kept


def move(topology: topologies.Topology, held: CpuSet, free: CpuSet, count: int) -> CpuSet | None:
    """The best `count` CPUs of `held` and `free`, or None where there are not that many.

    As good as a fresh choice in nodes, distances, caches and cores; of the choices that are, one that keeps
    most of `held`.
    """
    return _best(topology, cores.Wish(free=(held | free).bits, held=held.bits, must=0, count=count))


def score(topology: topologies.Topology, free: CpuSet, chosen: CpuSet, held: CpuSet = CpuSet()) -> Score:
    """How good it is to choose `chosen` of `free`, with `held` as it was for the choice (in `free` too)."""
    return preferences.Scale(topology, (free | held).bits, held.bits).score(chosen.bits)


def _best(topology: topologies.Topology, wish: cores.Wish) -> CpuSet | None:
    found = search.find(topology, wish)
    return None if found is None else CpuSet.from_bits(found.cpus)
