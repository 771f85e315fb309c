"""A machine's nodes, caches and cores as ints, made once for each topology."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.cpu import topology as topologies
from reconciler.policy.placement import preferences


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The CPUs of a last-level cache, its cores in the order of their lowest CPUs, and how many of each size;
    `step` divides all these sizes, `size` is all CPUs.

    A core of several caches is, in each, what that has of it.
    """

    cpus: int
    cores: Sequence[int]
    sizes: dict[int, int]
    step: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`caches` in the order of the topology's, `of_node` the places of each node's, `distances` both ways."""

    caches: Sequence[Cache]
    nodes: Sequence[int]
    of_node: Sequence[Sequence[int]]
    distances: Sequence[Sequence[int]]


def of(topology: topologies.Topology) -> Layout:
    """The layout of a topology; linear in its CPUs, but at once where it is one of the last."""
    return _made(_Identity(topology))


class _Identity:
    """A topology that equals only itself: hashing what is in it takes longer than to choose."""

    __slots__ = ("topology",)

    def __init__(self, topology: topologies.Topology) -> None:
        self.topology = topology

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.topology is self.topology

    def __hash__(self) -> int:
        return id(self.topology)


@functools.lru_cache(maxsize=4)
def _made(which: _Identity) -> Layout:
    topology = which.topology
    caches = []
    for llc, cores in zip(topology.llcs, topology.llc_cores, strict=True):
        parts = [core.bits & llc.bits for core in cores]
        sizes: dict[int, int] = {}
        for part in parts:
            sizes[part.bit_count()] = sizes.get(part.bit_count(), 0) + 1
        caches.append(Cache(cpus=llc.bits, cores=parts, sizes=sizes, step=math.gcd(*sizes), size=len(llc)))
    nodes = [node.cpus.bits for node in topology.nodes]
    return Layout(
        caches=caches,
        nodes=nodes,
        of_node=[[place for place, cache in enumerate(caches) if cache.cpus & node] for node in nodes],
        distances=preferences.between(topology),
    )
