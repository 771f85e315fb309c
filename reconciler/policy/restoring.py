"""Going on with the ledger of a checkpoint: what of it still fits, and what has changed since. Pure. PRD 6.

It was true when it was written. The machine may have other CPUs now, containers may have been resized or
moved after the last save, and somebody may have edited it: nothing of it is taken that breaks the rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rpds import HashTrieMap

from reconciler import events, intent
from reconciler.cpu.idset import CpuSet
from reconciler.policy import integer, naming, state

_ORDER = {intent.Kind.ANNOTATED_EXCLUSIVE: 0, intent.Kind.ANNOTATED_SHARED: 1, intent.Kind.INTEGER: 2}


class Misfit(NamedTuple):
    """A claim that cannot be held any more, and why."""

    claim: state.Claim
    why: str


def fit(ledger: state.Ledger, terms: state.Terms) -> tuple[state.Ledger, tuple[Misfit, ...]]:
    """What of a ledger can be held on this machine, and what cannot.

    A CPU that is merely offline stays in its claim. Lists come before integer containers, else the order of
    keys decides who keeps a CPU that two have. Linear in the claims and the former CPUs.
    """
    present = terms.topology.online | terms.topology.offline
    kept = state.Ledger(intents=ledger.intents, unsatisfied=ledger.unsatisfied)
    kept = dataclasses.replace(kept, former=_former(ledger, present))
    misfits = []
    for claim in sorted(ledger.claims.values(), key=lambda its: (_ORDER[its.kind], its.key)):
        if absent := claim.cpus - present:
            misfits.append(Misfit(claim, f"this machine has no CPU {absent}"))
        elif taken := claim.cpus & _held_against(claim, kept, terms):
            misfits.append(Misfit(claim, f"CPU {taken} is in another claim too"))
        else:
            kept = kept.with_claim(claim)
    return kept, tuple(misfits)


def _former(ledger: state.Ledger, present: CpuSet) -> HashTrieMap[state.FormerKey, CpuSet]:
    """The former CPUs that the machine still has, each of them once."""
    former: dict[state.FormerKey, CpuSet] = {}
    taken = CpuSet()
    for key, cpus in sorted(ledger.former.items(), key=lambda its: its[0]):
        if cpus <= present and cpus.isdisjoint(taken):
            former[key] = cpus
            taken |= cpus
    return HashTrieMap(former)


def _held_against(claim: state.Claim, kept: state.Ledger, terms: state.Terms) -> CpuSet:
    """The CPUs that this claim must not have beside those that are kept, lists before the others."""
    if claim.kind is intent.Kind.INTEGER:
        return kept.exclusive | kept.pinned
    if terms.config.annotated_overlap == "allow":
        return CpuSet()
    return kept.exclusive | kept.pinned if claim.exclusive else kept.exclusive


def confirm(now: state.State, shares: Mapping[events.ContainerId, int]) -> state.State:
    """The state, after the runtime's first list, in which containers that were changed are judged anew.

    Their intents are forgotten: of those that kubelet has resized since, whose shares are others than
    `shares`, and of those that the configuration now leaves alone or no longer does. A claim stays where one
    of the same kind is due. What merely lingers is not judged any more. Linear in the containers.
    """
    ledger = now.ledger
    for id_, what in now.ledger.intents.items():
        container = now.inventory.containers.get(id_)
        if container is None or id_ in now.inventory.leftovers.lingering:
            continue
        pod = now.pod_of(container)
        left_alone = now.terms.config.leaves_alone(pod.namespace, pod.annotations)
        moved_over = naming.is_named(pod) and left_alone != (what.kind is intent.Kind.UNMANAGED)
        before, asked = shares.get(id_), container.limits.shares
        if not moved_over and (before is None or asked is None or before == asked):
            continue
        ledger = ledger.without_container(id_)
        if what.kind in intent.CLAIMING:
            kind = intent.decide(pod, container, now.terms.config).kind
            key = state.claim_key(pod, container, what)
            ledger = ledger if kind is what.kind else ledger.without_claim(key)
    return dataclasses.replace(now, ledger=ledger)


def placed(now: state.State) -> Iterator[events.ContainerId]:
    """Containers that are known and have a claim: what differs with them is drift. Linear."""
    for id_, what in now.ledger.intents.items():
        container = now.inventory.containers.get(id_)
        if container is not None and state.claim_of(now.ledger, now.pod_of(container), container, what):
            yield id_


def catch_up(
    now: state.State, in_force: Iterable[CpuSet], running_on: Mapping[events.ContainerId, CpuSet]
) -> state.State:
    """The state in which integer containers are where they had been moved to after the last save.

    A claim is older than such a move where somebody of whom the ledger knows nothing has the claim's CPUs,
    as he is entitled to (`in_force`); where its container runs now, if that may be, is newer. All of them,
    or none.
    """
    wanted = CpuSet()
    for cpus in in_force:
        wanted |= cpus
    stale = [claim for claim in _integer(now.ledger) if not claim.cpus.isdisjoint(wanted)]
    moved = [(claim, _running_on(now, claim, running_on)) for claim in stale]
    moved = [(claim, cpus) for claim, cpus in moved if len(cpus) == len(claim.cpus)]
    ledger = now.ledger
    for claim, _ in moved:
        ledger = ledger.without_claim(claim.key)
    for claim, cpus in moved:
        if not cpus <= integer.free(dataclasses.replace(now, ledger=ledger), claim.forbidden) - wanted:
            return now
        ledger = ledger.with_claim(claim.at(cpus))
    return dataclasses.replace(now, ledger=ledger)


def _integer(ledger: state.Ledger) -> Sequence[state.Claim]:
    return sorted(
        (claim for claim in ledger.claims.values() if claim.kind is intent.Kind.INTEGER),
        key=lambda its: its.key,
    )


def _running_on(
    now: state.State, claim: state.Claim, running_on: Mapping[events.ContainerId, CpuSet]
) -> CpuSet:
    """Where the container of an integer claim runs, as its cgroup asks; nothing where that is unknown."""
    for sandbox in now.inventory.sandboxes(claim.key.uid):
        for attempt in now.inventory.attempts(sandbox, claim.key.name):
            if cpus := running_on.get(attempt.id):
                return cpus
    return CpuSet()
