"""How long one choice of CPUs takes, and how many candidates it weighs. No I/O.

Each request is another situation: a machine, what is free of it, and how many CPUs are wanted, from 1 to all.
Times are CPU time, so that what else the machine does counts little. `sets` and `weighed` count candidates,
and are the same on every machine.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from dataclasses import dataclass

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.policy import placement
from reconciler.policy.placement import cores, search
from reconciler.sim import machine

MACHINES = {
    "64 CPUs, 2 nodes of 4 caches": machine.Shape(sockets=2, llcs=4, cores=4),
    "128 CPUs, 2 nodes of 4 caches": machine.Shape(sockets=2, llcs=4, cores=8),
    "256 CPUs, 4 nodes of 4 caches": machine.Shape(sockets=2, nodes=2, llcs=4, cores=8),
    "512 CPUs, 8 nodes of 4 caches": machine.Shape(sockets=2, nodes=4, llcs=4, cores=8),
    "512 CPUs, 8 nodes of 8 caches": machine.Shape(sockets=2, nodes=4, llcs=8, cores=4),
    "512 CPUs, 8 equally far nodes of 4 caches": machine.Shape(sockets=8, llcs=4, cores=8),
    "512 CPUs, 8 equally far nodes of 1 cache": machine.Shape(sockets=8, cores=32),
}
USES = ("idle", "cores", "pods", "cpus")
"""What is taken: nothing; whole cores; cores and single CPUs; single CPUs. How much of it is random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """CPUs that a container holds, others that are free, and how many it wants of both."""

    held: CpuSet
    free: CpuSet
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Requests of one kind. Times in microseconds; `sets` of nodes and candidates `weighed` are the most."""

    call: str
    machine: str
    use: str
    requests: int
    median: float
    p99: float
    longest: float
    sets: int
    weighed: int


def _choose(its: Situation) -> cores.Wish:
    return cores.Wish(free=its.held.bits | its.free.bits, held=0, must=0, count=its.count)


def _grow(its: Situation) -> cores.Wish:
    free, held = its.held.bits | its.free.bits, its.held.bits
    return cores.Wish(free=free, held=held, must=held, count=max(its.count, len(its.held)))


def _shrink(its: Situation) -> cores.Wish:
    return cores.Wish(free=its.held.bits, held=0, must=0, count=min(its.count, len(its.held)))


def _move(its: Situation) -> cores.Wish:
    return cores.Wish(free=its.held.bits | its.free.bits, held=its.held.bits, must=0, count=its.count)


CALLS = {"choose": _choose, "grow": _grow, "shrink": _shrink, "move": _move}
"""What the functions of `reconciler.policy.placement` search for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `hack/bench placement`."""
    parser.add_argument("--call", nargs="+", choices=list(CALLS), default=["choose"])
    parser.add_argument("--cpus", type=int, nargs="+", metavar="N", help="machines with so many CPUs only")
    parser.add_argument("--use", nargs="+", choices=USES, default=list(USES))
    parser.add_argument("--requests", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)


def run(options: argparse.Namespace) -> list[Row]:
    """Measure every case that the options ask for."""
    return [
        _row(call, name, use, options)
        for call in options.call
        for name, shape in MACHINES.items()
        if not options.cpus or shape.cpus in options.cpus
        for use in options.use
    ]


def _row(call: str, name: str, use: str, options: argparse.Namespace) -> Row:
    topology = topologies.parse(machine.build(MACHINES[name]))
    generator = random.Random(options.seed)  # noqa: S311 - situations, no secrets
    wishes = [CALLS[call](situation(topology, use, generator)) for _ in range(options.requests)]
    search.find(topology, wishes[-1])  # the layout of a machine is made once
    times, costs = [], []
    for wish in wishes:
        begun = time.thread_time()
        found = search.find(topology, wish)
        times.append((time.thread_time() - begun) * 1e6)
        if found is not None:
            costs.append(found)
    return Row(
        call=call,
        machine=name,
        use=use,
        requests=len(times),
        median=statistics.median(times),
        p99=statistics.quantiles(times, n=100)[98],
        longest=max(times),
        sets=max(cost.sets for cost in costs),
        weighed=max(cost.weighed for cost in costs),
    )


def situation(topology: topologies.Topology, use: str, generator: random.Random) -> Situation:
    """A machine of which a random part is taken; a third of what is left is held by a container, a few of its
    CPUs taken from it. The same for the same state of the generator."""
    taken = 0 if use == "idle" else generator.random()
    left = topology.online.bits
    for core in topology.cores:
        if use in ("cores", "pods") and generator.random() < taken * (1 if use == "cores" else 0.7):
            left &= ~core.bits
        elif use == "pods" and generator.random() < taken * 0.3:
            left &= ~(1 << core.first())
    if use == "cpus":
        left &= ~sum(1 << cpu for cpu in topology.online if generator.random() < taken)
    free = CpuSet.from_bits(left) or topology.online
    held = placement.choose(topology, free, generator.randint(1, max(1, len(free) // 3))) or free
    kept = CpuSet(cpu for cpu in held if generator.random() < 0.9) or held
    return Situation(held=kept, free=free - held, count=generator.randint(1, len(free - held | kept)))
