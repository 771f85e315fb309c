"""One look at the simulated node: who may run where, as the files of its cgroups say. Values; pure.

Nothing here asks the agent or knows its rules: what is claimed comes from the script, what is allowed from
the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A container with a cgroup. `cpus` is its file; `claim` what the script knows it to hold, empty for one
    on the shared pool. `letter` stands for it on the map, "" for the pool; `number` counts claims, so that
    each keeps its colour when others end."""

    name: str
    letter: str = ""
    number: int = 0
    claim: CpuSet = CpuSet()
    exclusive: bool = False
    cpus: CpuSet
    mems: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intrusion:
    """CPUs of an exclusive claim that are in someone else's file."""

    holder: str
    intruder: str
    cpus: CpuSet

    def __str__(self) -> str:
        return f"{self.intruder} may run on CPU {self.cpus}, which {self.holder} holds exclusively"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The node at one moment. `note` is a remark on the moment itself, `tally` what has happened so far."""

    topology: topologies.Topology
    residents: tuple[Resident, ...] = ()
    note: str = ""
    tally: str = ""

    def intrusions(self) -> Iterator[Intrusion]:
        """Every exclusive claim of which someone else has a part."""
        for holder in self.residents:
            if not holder.exclusive:
                continue
            for other in self.residents:
                if other is not holder and not other.cpus.isdisjoint(holder.claim):
                    yield Intrusion(holder=holder.name, intruder=other.name, cpus=other.cpus & holder.claim)

    def claimants(self) -> list[Resident]:
        """The residents that hold CPUs, in the order in which they came."""
        return [resident for resident in self.residents if resident.letter]

    @property
    def pool(self) -> CpuSet:
        """The CPUs that some resident without a claim may run on."""
        bits = 0
        for resident in self.residents:
            if not resident.letter:
                bits |= resident.cpus.bits
        return CpuSet.from_bits(bits)
