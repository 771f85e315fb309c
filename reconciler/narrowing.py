"""Stage 8, below the report: what the kernel keeps from a container whose files say the right thing. Pure.

A cgroup's effective set is what it asks for within its parent's (cgroup-v2.rst, "Cpuset Interface Files").
What is missing is missing in some ancestor already, or offline, or in the partition of another cgroup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler import observed
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import desired


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A cgroup above the container's, and what its files say."""

    path: str
    cpuset: observed.Cpuset


@dataclass(frozen=True, slots=True, kw_only=True)
class Unenforceable:
    """`file` of the container cannot have `lacks`, and why; `ancestor` is to blame, "" where none is."""

    file: str
    lacks: str
    ancestor: str
    because: str

    def document(self) -> dict[str, object]:
        """It, in the log and the status."""
        return {"file": self.file, "lacks": self.lacks, "ancestor": self.ancestor, "because": self.because}


def judge(
    want: desired.Placement, look: observed.Present, ancestors: Sequence[Ancestor], online: CpuSet
) -> Unenforceable | None:
    """What cannot be had, CPUs before memory; None where all is granted. `ancestors` from the nearest on."""
    has = look.outer if look.inner is None else look.inner
    if lacks := want.cpus - has.effective_cpus:
        return _of_cpus(lacks, ancestors, online)
    if want.mems is not None and (missing := want.mems - has.effective_mems):
        return _of_mems(missing, ancestors)
    return None


def offline(want: desired.Placement, online: CpuSet) -> Unenforceable | None:
    """What cannot be had because it is offline; the container is in order without."""
    lacks = want.cpus - online
    return _of_cpus(lacks, (), online) if lacks else None


def _of_cpus(lacks: CpuSet, ancestors: Sequence[Ancestor], online: CpuSet) -> Unenforceable:
    file, ancestor, parts = observed.EFFECTIVE_CPUS, "", []
    if kept := lacks & online:
        culprit = _topmost(its for its in ancestors if kept - its.cpuset.effective_cpus)
        asks = CpuSet() if culprit is None else culprit.cpuset.cpus
        if culprit is not None and asks and kept - asks:
            ancestor = culprit.path
            parts.append(f"{observed.CPUS} of its ancestor {ancestor} is {asks}")
        else:
            parts.append(f"CPU {kept} is in the partition of another cgroup, or offline by now")
    if gone := lacks - online:
        parts.append(f"CPU {gone} is offline")
    return Unenforceable(file=file, lacks=str(lacks), ancestor=ancestor, because=", and ".join(parts))


def _of_mems(lacks: NodeSet, ancestors: Sequence[Ancestor]) -> Unenforceable:
    file, ancestor, because = observed.EFFECTIVE_MEMS, "", f"node {lacks} has no memory that is online"
    culprit = _topmost(its for its in ancestors if lacks - its.cpuset.effective_mems)
    if culprit is not None and culprit.cpuset.mems and lacks - culprit.cpuset.mems:
        ancestor = culprit.path
        because = f"{observed.MEMS} of its ancestor {ancestor} is {culprit.cpuset.mems}"
    return Unenforceable(file=file, lacks=str(lacks), ancestor=ancestor, because=because)


def _topmost(lacking: Iterable[Ancestor]) -> Ancestor | None:
    """The last of those that lack something: those below it only inherit that."""
    return next(iter(reversed(tuple(lacking))), None)
