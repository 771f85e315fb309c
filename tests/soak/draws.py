"""What rules of the state machine are drawn from. Choices are few, so that what is chosen meets again."""

from __future__ import annotations

from hypothesis import strategies as st

from reconciler.cpu.idset import CpuSet
from reconciler.sim import machine

SHAPES = (
    machine.Shape(sockets=2, cores=2),
    machine.Shape(sockets=2, cores=2, adjacent=True),
    machine.Shape(sockets=1, llcs=2, cores=2, adjacent=True),
    machine.Shape(sockets=2, llcs=2, cores=1, adjacent=True),
    machine.Shape(sockets=3, cores=1),
)
NAMES = ("p0", "p1", "p2", "p3", "p4")
BYSTANDER = "p9"
FORBIDS = st.sampled_from(("", "", "0-1", "0-1,4-7", "0-3,6-7", "0-5", "0,2-4,6-7", "0,2,4", "2-"))
"""Lists of forbidden CPUs, many of which leave two CPUs: whoever has to move then makes others move."""

CHOICE = st.sampled_from(range(12))
"""One of those there are, by its place in the order of ids, from the start again where there are fewer."""
SMALL = st.sampled_from(range(8))
SOME = st.sampled_from(range(1, 256))
"""Bits, for CPUs or for those there are."""
COUNTS = st.sampled_from((1, 2, 1, 2, 3, 0, 4))
POD = st.sampled_from(NAMES)
SORTS = st.sampled_from(("integer", "listed", "integer", "listed", "shared", "listed shared", "own lists"))
WIDTHS = st.sampled_from((1, 2, 2, 3))
CONTAINERS = st.sampled_from(("main", "main", "side", "init"))
CLINGS = st.sampled_from((False, True))
"""Whether a process of a container that ends cannot end."""
FAILING = st.sampled_from((0, 0, 1, 2, 4, 8, 5, 15, 255))
"""Bits of the groups to which the next write fails."""
MEANWHILE = st.sampled_from(("nothing", "nothing", "a creation", "a pod's end", "an exit", "hotplug"))
OVERLAP = st.sampled_from(("refuse", "refuse", "refuse", "allow"))
CEILING = st.sampled_from((8, 8, 8, 8, 8, 4, 2))
"""The most CPUs that the capped namespace may hold exclusively; 8 are all there are."""


MEMBER = st.tuples(COUNTS, FORBIDS)
CROWDS = st.one_of(st.just(()), st.tuples(MEMBER, MEMBER, MEMBER), st.tuples(MEMBER, MEMBER, MEMBER, MEMBER))
"""Pods that are there from the beginning: how many CPUs they want, and which they forbid."""


def cpu_list(first: int, width: int, cpus: int) -> str:
    """`width` CPUs from `first` on, from 0 again at the end of the machine."""
    return str(CpuSet((first + at) % cpus for at in range(width)))
