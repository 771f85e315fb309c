"""Stage 7: ordered writes, of which every prefix keeps the invariant. Pure.

The invariant: no CPU of an exclusive claim that is in force (its holder's own file says it) is in anyone
else's written set. A prefix never adds a violation, and what a plan finds violated it mends first: leave,
then admit, then settle. PRD 4.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler import events, observed
from reconciler.cpu.idset import CpuSet
from reconciler.diff import CPUS, Cause, Difference, Mismatch
from reconciler.policy import desired


class Phase(enum.Enum):
    """What a write is for; the order of the members is the order of the phases."""

    LEAVE = "leave"
    """Takes a container off CPUs that someone else holds exclusively."""
    ADMIT = "admit"
    """Puts an exclusive container on its own CPUs."""
    SETTLE = "settle"
    """Disturbs nobody: growth, and files that no claim depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One file of one container to write.

    `vacates` are the CPUs that the write frees for others. If it fails they stay occupied, and no later
    write whose `needs` has one of them may be made.
    """

    container: events.ContainerId
    file: str
    text: str
    phase: Phase
    needs: CpuSet = CpuSet()
    vacates: CpuSet = CpuSet()


Plan = tuple[Write, ...]


def order(
    differences: tuple[Difference, ...],
    wanted: desired.Desired,
    looks: observed.Observed,
    claimed: CpuSet,
    pool: CpuSet,
) -> Plan:
    """The writes that turn what is observed into what is desired. Linear in the containers looked at.

    `claimed` are all exclusive claims together, also of containers that were not looked at; `pool` are
    the CPUs that nobody holds exclusively: the way out for containers on each other's CPUs.
    """
    todo = [difference for difference in differences if difference.cause is not Cause.NARROWED]
    if not todo:
        return ()
    occupied = _occupied(wanted, looks)
    refuge = pool - occupied or pool
    leave: list[Write] = []
    admit: list[Write] = []
    settle: list[Write] = []
    for difference in todo:
        own = difference.want.cpus if difference.want.owner is not None else CpuSet()
        trespass = difference.look.outer.reach & (claimed - own)
        if difference.want.owner is not None:
            if trespass:
                leave += _step_aside(difference, trespass, refuge)
            admit += _admit(difference)
        elif trespass and difference.want.cpus.isdisjoint(occupied):
            leave += _writes(difference, Phase.LEAVE, vacates=trespass)
        else:
            if trespass:
                leave += _step_aside(difference, trespass, refuge)
            settle += _writes(difference, Phase.SETTLE, needs=difference.want.cpus & occupied)
    return (*leave, *admit, *settle)


def _union(sets: Iterable[CpuSet]) -> CpuSet:
    bits = 0
    for cpus in sets:
        bits |= cpus.bits
    return CpuSet.from_bits(bits)


def _occupied(wanted: desired.Desired, looks: observed.Observed) -> CpuSet:
    """CPUs that exclusive containers are on and have to leave."""
    return _union(
        look.outer.reach - want.cpus
        for id_, want in wanted.items()
        if want.owner is not None and isinstance(look := looks.get(id_), observed.Present)
    )


def _step_aside(difference: Difference, trespass: CpuSet, refuge: CpuSet) -> list[Write]:
    """A first step onto those CPUs that the container both has and may keep, or onto free ones."""
    target = difference.look.outer.reach & difference.want.cpus or refuge
    step = Mismatch(file=CPUS, want=str(target), have=str(difference.look.outer.cpus))
    return _writes(difference, Phase.LEAVE, files=(step,), vacates=trespass)


def _admit(difference: Difference) -> list[Write]:
    want = difference.want.cpus
    return _writes(difference, Phase.ADMIT, needs=want, vacates=difference.look.outer.reach - want)


def _writes(
    difference: Difference,
    phase: Phase,
    *,
    files: tuple[Mismatch, ...] | None = None,
    needs: CpuSet = CpuSet(),
    vacates: CpuSet = CpuSet(),
) -> list[Write]:
    return [
        Write(
            container=difference.container,
            file=mismatch.file,
            text=mismatch.want,
            phase=phase,
            needs=needs,
            vacates=vacates,
        )
        for mismatch in (difference.files if files is None else files)
    ]


def trespassers(
    holder: desired.Placement, written: Mapping[events.ContainerId, CpuSet], wanted: desired.Desired
) -> tuple[events.ContainerId, ...]:
    """The containers whose written set has CPUs of the exclusive placement `holder`, sorted. Linear.

    Containers of the same claim are no trespassers; one that is not in `wanted` is.
    """
    return tuple(
        sorted(
            id_
            for id_, cpus in written.items()
            if not cpus.isdisjoint(holder.cpus) and (id_ not in wanted or wanted[id_].owner != holder.owner)
        )
    )
