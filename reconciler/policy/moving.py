"""Moving integer containers out of the way of an annotated pod. Pure: decides who goes where. PRD 5.6.

Those on the wanted CPUs have to move. Where they find no room beside the others, for their forbid lists,
others move too: as few as can be found by leaving out one after the other, the largest first. Whether there
is room at all is decided exactly (`matching`); only then are CPUs chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler import errors, intent
from reconciler.cpu.idset import CpuSet
from reconciler.policy import integer, matching, placement, state


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A claim that goes from some CPUs to others; `pod` is `namespace/name`, `key.name` its container."""

    key: state.ClaimKey
    pod: str
    before: CpuSet
    after: CpuSet


def moves(before: state.Ledger, after: state.Ledger) -> tuple[Move, ...]:
    """The integer claims that have other CPUs of the same number in `after`, sorted. Linear in the claims."""
    if before.claims is after.claims:
        return ()
    found = [
        Move(key=key, pod=old.pod, before=old.cpus, after=new.cpus)
        for key, old in before.claims.items()
        if old.kind is intent.Kind.INTEGER
        and (new := after.claims.get(key)) is not None
        and new.kind is old.kind
        and new.cpus != old.cpus
        and len(new.cpus) == len(old.cpus)
    ]
    return tuple(sorted(found, key=lambda move: move.key))


def room_for(after: state.Ledger, move: Move) -> tuple[str, ...]:
    """Who has the CPUs in `after` that a mover has left: pods as `namespace/name`, sorted. Linear in the
    claims."""
    takers = (claim for key, claim in after.claims.items() if key != move.key)
    return tuple(sorted({claim.pod for claim in takers if not claim.cpus.isdisjoint(move.before)}))


def make_room(now: state.State, new: state.Claim, annotation: str) -> state.Ledger:
    """The ledger in which no integer container holds a CPU of `new`. Raises Refused, naming who stays.

    `new` is not in the ledger; claims of annotated pods are not looked at.
    """
    held = [claim for claim in now.ledger.claims.values() if claim.kind is intent.Kind.INTEGER]
    must = [claim for claim in held if not claim.cpus.isdisjoint(new.cpus)]
    if not must:
        return now.ledger
    room = _Room(now, new)
    others = sorted((claim for claim in held if claim not in must), key=lambda its: (-len(its.cpus), its.key))
    movers = _movers(room, must, others)
    if movers is None:
        raise errors.Refused(_no_room(now, new, must, annotation), "room")
    ledger = now.ledger
    for claim in movers:
        ledger = ledger.without_claim(claim.key)
    for claim, cpus in room.places(movers):
        ledger = ledger.with_claim(claim.at(cpus))
    return ledger


def _movers(room: _Room, must: list[state.Claim], others: list[state.Claim]) -> list[state.Claim] | None:
    """Who moves: those that must, and as few others as it takes; None where even all do not do."""
    if room.holds(must):
        return must
    if not room.holds([*must, *others]):
        return None
    along = list(others)
    for claim in others:
        without = [other for other in along if other is not claim]
        if room.holds([*must, *without]):
            along = without
    return [*must, *along]


class _Room:
    """The CPUs that movers can have. Lives for one decision."""

    def __init__(self, now: state.State, new: state.Claim) -> None:
        self._topology = now.terms.topology
        self._usable = (integer.usable(now, CpuSet()) - new.cpus).bits
        self._free = integer.free(now, CpuSet()).bits & self._usable

    def holds(self, movers: Sequence[state.Claim]) -> bool:
        """Whether all of them find CPUs at once."""
        return matching.assign(self._demands(movers, self._of(movers))) is not None

    def places(self, movers: Sequence[state.Claim]) -> Iterable[tuple[state.Claim, CpuSet]]:
        """Where each of them goes, those with the least choice first. They must fit."""
        room = self._of(movers)
        left = sorted(
            movers, key=lambda its: ((room & ~its.forbidden.bits).bit_count(), -len(its.cpus), its.key)
        )
        while left:
            mover = left.pop(0)
            cpus = self._place(mover, left, room)
            room &= ~cpus.bits
            yield mover, cpus

    def _of(self, movers: Iterable[state.Claim]) -> int:
        room = self._free
        for claim in movers:
            room |= claim.cpus.bits & self._usable
        return room

    def _demands(self, movers: Sequence[state.Claim], room: int) -> list[matching.Demand]:
        return [matching.Demand(len(claim.cpus), room & ~claim.forbidden.bits) for claim in movers]

    def _place(self, mover: state.Claim, left: Sequence[state.Claim], room: int) -> CpuSet:
        """The best place that leaves room for the rest, beside what the rest can keep if possible."""
        allowed = room & ~mover.forbidden.bits
        kept = 0
        for other in left:
            kept |= other.cpus.bits
        for within in (allowed & ~kept, allowed):
            keeps = mover.cpus & CpuSet.from_bits(within)
            others = CpuSet.from_bits(within) - keeps
            cpus = placement.move(self._topology, keeps, others, len(mover.cpus))
            if cpus is not None and matching.assign(self._demands(left, room & ~cpus.bits)) is not None:
                return cpus
        shares = matching.assign(self._demands([mover, *left], room))
        assert shares is not None, "the movers were found to fit"  # noqa: S101  `_movers` has seen to it
        return CpuSet.from_bits(shares[0])


def _no_room(now: state.State, new: state.Claim, must: list[state.Claim], annotation: str) -> str:
    held_by = []
    for claim in sorted(must, key=lambda its: its.key):
        elsewhere = (integer.free(now, claim.forbidden) | claim.cpus) - new.cpus - claim.forbidden
        held_by.append(
            f"CPU {claim.cpus & new.cpus} by integer {claim.holder}, which needs {len(claim.cpus)} CPUs "
            f"and could have {len(elsewhere)} elsewhere"
        )
    return (
        f"annotation {annotation}={new.cpus} conflicts with CPUs that are held, and there is no room to "
        f"move: {'; '.join(held_by)}; choose other CPUs or remove a pod that holds some"
    )
