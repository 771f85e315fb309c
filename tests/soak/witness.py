"""Looks on while a plan is carried out, and judges after every single write. PRD 4.2."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Set

from reconciler import events, intent
from reconciler.cpu.idset import CpuSet
from reconciler.policy import desired, state
from tests.soak import kernel

Kin = Mapping[str, Hashable]
"""By path, what those have in common who may be on each other's exclusive CPUs."""
Holding = tuple[int, Hashable]
"""The CPUs of an exclusive claim as bits, and whose kin may be on them."""


def kin(now: state.State, wanted: desired.Desired) -> Kin:
    """Containers with the same claim; where lists may overlap, all that run on one."""
    overlap = now.terms.config.annotated_overlap == "allow"
    found: dict[str, Hashable] = {}
    for id_, its in wanted.items():
        container, what = now.inventory.containers[id_], now.ledger.intents[id_]
        claim = state.claim_of(now.ledger, now.pod_of(container), container, what)
        if claim is not None and overlap and claim.kind is not intent.Kind.INTEGER:
            found[id_] = "lists"
        elif its.owner is not None:
            found[id_] = its.owner
    return found


class Witness:
    """Knows who is to hold what in one pass, and who was where when it began."""

    def __init__(
        self,
        ground: kernel.Kernel,
        wanted: desired.Desired,
        its_kin: Kin,
        scope: Set[events.ContainerId] | None = None,
    ) -> None:
        """`scope` are the containers that the pass looks at, None for all."""
        self._ground = ground
        self._scope = wanted.keys() if scope is None else wanted.keys() & scope
        self._kin = its_kin
        self._holdings: dict[str, Holding] = {
            id_: (its.cpus.bits, its_kin[id_]) for id_, its in wanted.items() if its.owner is not None
        }
        self._began = {path: ground.reach(path).bits for path in ground.cpus}

    def wrote(self, path: str, before: CpuSet, after: CpuSet) -> None:
        """As `kernel.Watch`. Raises AssertionError where the write put anyone on CPUs that a holder has.

        A holder has those CPUs of its claim that its own file names; if that names no others, the whole claim
        is in force, and nobody is on it who was not there when the pass began. A holder is put on CPUs with
        someone on them only if the pass does not look at that one, or has no CPU to send it to.
        """
        gained = after.bits & ~(before or self._ground.online).bits
        own = self._holdings.get(path)
        for holder, claim in self._others(self._kin.get(path)):
            says = self._ground.cpus[holder].bits
            kept = claim if says and not says & ~claim else 0
            came = after.bits & ~self._began[path]
            wrong = (gained & claim & says) | (came & kept)
            assert not wrong, f"{path} was put on CPU {CpuSet.from_bits(wrong)} of {holder}"
        if own is not None:
            self._took(path, own, before.bits, after.bits)

    def _took(self, path: str, own: Holding, before: int, after: int) -> None:
        claim, family = own
        taken = claim & after & ~before
        kept = 0 if after & ~claim else claim
        for other in self._ground.cpus:
            if other == path or self._kin.get(other) == family:
                continue
            there = self._ground.reach(other).bits
            wrong = there & ((taken if other in self._scope else 0) | (kept & ~self._began[other]))
            assert not wrong, f"{path} was put on CPU {CpuSet.from_bits(wrong)} with {other} there"

    def _others(self, family: Hashable) -> Iterator[tuple[str, int]]:
        for holder, (claim, others) in self._holdings.items():
            if holder in self._ground.cpus and others != family:
                yield holder, claim


def trespasses(ground: kernel.Kernel, wanted: desired.Desired, its_kin: Kin) -> Iterator[str]:
    """Who is on whose exclusive CPUs now, as sentences."""
    for holder, its in wanted.items():
        if its.owner is None or holder not in ground.cpus:
            continue
        for path in ground.cpus:
            if path != holder and its_kin.get(path) != its_kin[holder]:
                wrong = ground.reach(path) & its.cpus
                if wrong:
                    yield f"{path} is on CPU {wrong} of {holder}"


def misplaced(ground: kernel.Kernel, wanted: desired.Desired) -> Mapping[str, str]:
    """What the file of each container says that does not say what is desired."""
    return {
        id_: f"{ground.cpus[id_]} {ground.mems[id_]} instead of {its.cpus} {its.mems}"
        for id_, its in wanted.items()
        if id_ in ground.cpus and (ground.cpus[id_] != its.cpus or its.mems not in (None, ground.mems[id_]))
    }
