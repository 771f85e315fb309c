"""Stage 7: ordered writes, of which every prefix keeps the invariant. Pure.

The invariant: no CPU of an exclusive claim that is in force (its holder's own file says it) is in anyone
else's written set. A prefix never adds a violation, and what a plan finds violated it mends first: leave,
then admit, then settle. PRD 4.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler import events, observed
from reconciler.cpu import bandwidth
from reconciler.cpu.idset import CpuSet
from reconciler.diff import Cause, Difference, Mismatch
from reconciler.policy import desired


class Phase(enum.Enum):
    """What a write is for; the order of the members is the order of the phases."""

    LEAVE = "leave"
    """Takes a container off CPUs that someone else holds exclusively."""
    ADMIT = "admit"
    """Puts an exclusive container on its own CPUs."""
    SETTLE = "settle"
    """Disturbs nobody: growth, quotas, and files that no claim depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One file of one container to write.

    `vacates` are the CPUs that the write frees for others. If it fails they stay occupied, and no later
    write whose `needs` has one of them may be made. `group` is the cgroup that the file is in, "" for the
    container's own.
    """

    container: events.ContainerId
    file: str
    text: str
    phase: Phase
    needs: CpuSet = CpuSet()
    vacates: CpuSet = CpuSet()
    group: str = ""


Plan = tuple[Write, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sets:
    """CPUs under exclusive claims, those that holders have to leave, those that anyone may step onto, and
    those that somebody will not leave first because there is nowhere to step to."""

    claimed: CpuSet
    occupied: CpuSet
    refuge: CpuSet
    stuck: CpuSet


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
    stuck = CpuSet() if pool else _stuck(todo, claimed)
    sets = _Sets(claimed=claimed, occupied=occupied, refuge=pool - occupied or pool, stuck=stuck)
    leave: list[Write] = []
    admit: list[Write] = []
    settle: list[Write] = []
    for difference in todo:
        if difference.want.owner is None:
            _move(difference, sets, leave, settle)
        else:
            _move_holder(difference, sets, leave, admit)
        settle += _writes(difference, Phase.SETTLE, _files(difference, quotas=True))
    return (*leave, *admit, *settle)


def _occupied(wanted: desired.Desired, looks: observed.Observed) -> CpuSet:
    """CPUs that exclusive containers were put on and have to leave.

    One whose file is empty was put nowhere yet: its runtime is about to.
    """
    bits = 0
    for id_, want in wanted.items():
        if want.owner is not None and isinstance(look := looks.get(id_), observed.Present):
            bits |= (look.outer.cpus - want.cpus).bits
    return CpuSet.from_bits(bits)


def _stuck(todo: list[Difference], claimed: CpuSet) -> CpuSet:
    """CPUs of others that are left only for the own ones: without a pool there is no way round."""
    bits = 0
    for difference in todo:
        want, has = difference.want.cpus, difference.look.outer
        if has.cpus.isdisjoint(want):
            bits |= (has.reach & (claimed - want)).bits
    return CpuSet.from_bits(bits)


def _move_holder(difference: Difference, sets: _Sets, leave: list[Write], admit: list[Write]) -> None:
    """An exclusive container: off what others hold, then onto its own.

    The first step is onto those of its own CPUs that it has already, or onto CPUs that nobody holds: its
    other CPUs may not be free of others yet. Where it can step nowhere it waits for a pass in which its own
    are free.
    """
    want, has = difference.want.cpus, difference.look.outer
    files = _files(difference)
    left = has.cpus - want
    trespass = has.reach & (sets.claimed - want)
    target = has.cpus & want or sets.refuge
    if trespass and target:
        leave += _step(difference, target, (trespass | left) - target)
        left = target - want
        if target == want:
            files = tuple(file for file in files if file.file != observed.CPUS)
    if want.isdisjoint(sets.stuck):
        admit += _writes(difference, Phase.ADMIT, files, needs=want, vacates=left)


def _move(difference: Difference, sets: _Sets, leave: list[Write], settle: list[Write]) -> None:
    """A container that shares its CPUs: off what others hold first, onto what others leave last."""
    want = difference.want.cpus
    if trespass := difference.look.outer.reach & sets.claimed:
        target = want - sets.occupied or sets.refuge or want
        if target == want:
            leave += _writes(difference, Phase.LEAVE, _files(difference), vacates=trespass)
            return
        leave += _step(difference, target, trespass)
    settle += _writes(difference, Phase.SETTLE, _files(difference), needs=want & sets.occupied)


def _files(difference: Difference, *, quotas: bool = False) -> tuple[Mismatch, ...]:
    """The cpuset files to write, or those of quotas, on which no claim depends."""
    if not difference.want.quotas:
        return () if quotas else difference.files
    return tuple(its for its in difference.files if its.file.endswith(bandwidth.FILE) == quotas)


def _step(difference: Difference, target: CpuSet, trespass: CpuSet) -> list[Write]:
    step = Mismatch(file=observed.CPUS, want=str(target), have=str(difference.look.outer.cpus))
    return _writes(difference, Phase.LEAVE, (step,), vacates=trespass)


def _writes(
    difference: Difference,
    phase: Phase,
    files: tuple[Mismatch, ...],
    *,
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
            # Memory frees no CPU, and an inner group has none that its outer one has not.
            vacates=vacates if mismatch.file == observed.CPUS else CpuSet(),
        )
        for mismatch in files
    ]


def trespassers(
    holder: desired.Placement, written: Mapping[events.ContainerId, CpuSet], wanted: desired.Desired
) -> tuple[events.ContainerId, ...]:
    """The containers whose written set has CPUs of the exclusive placement `holder`, sorted. Linear.

    Who is to be there is no trespasser: containers of the same claim, and of other annotated pods where lists
    may overlap. One that is not in `wanted` is.
    """
    return tuple(
        sorted(
            id_
            for id_, cpus in written.items()
            if (cpus & holder.cpus) - (wanted[id_].cpus if id_ in wanted else CpuSet())
        )
    )
