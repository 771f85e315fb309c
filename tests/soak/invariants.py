"""What holds of every state, and of every step from one state to the next."""

from __future__ import annotations

from reconciler import events, intent
from reconciler.cpu.idset import CpuSet
from reconciler.policy import bounds, desired, state


def check(now: state.State, mask: int) -> None:
    """All that holds of any state; what is desired of those that `mask` chooses is part of the whole."""
    check_claims(now)
    everything = desired.desired(now)
    check_entitlement(now, everything)
    assert set(now.ledger.intents) == set(now.inventory.containers)
    assert set(now.ledger.unsatisfied) <= set(now.ledger.intents)
    assert {key.uid for key in now.ledger.claims} <= {pod.uid for pod in now.inventory.pods.values()}
    assert len(now.ledger.former) <= len(now.terms.topology.online | now.terms.topology.offline)
    ids = [id_ for at, id_ in enumerate(sorted(now.inventory.containers)) if mask >> at & 1]
    assert desired.desired(now, ids) == {id_: everything[id_] for id_ in ids if id_ in everything}


def check_claims(now: state.State) -> None:
    """Exclusive claims are disjoint from all others, and the ledger's unions are those of its claims.

    Where lists may overlap, only integer containers' are.
    """
    overlap = now.terms.config.annotated_overlap == "allow"
    exclusive = pinned = listed = 0
    for claim in now.ledger.claims.values():
        assert claim.cpus
        assert claim.holders
        may_overlap = listed if overlap and claim.kind is not intent.Kind.INTEGER else 0
        assert not claim.cpus.bits & exclusive & ~may_overlap, f"{claim} and another"
        assert not (claim.exclusive and claim.cpus.bits & pinned & ~may_overlap), f"{claim} and another"
        if claim.kind is not intent.Kind.INTEGER:
            listed |= claim.cpus.bits
        if claim.exclusive:
            exclusive |= claim.cpus.bits
        else:
            pinned |= claim.cpus.bits
    assert (now.ledger.exclusive.bits, now.ledger.pinned.bits) == (exclusive, pinned)
    for cpus in now.ledger.former.values():
        assert cpus


def check_entitlement(now: state.State, everything: desired.Desired) -> None:
    """Whoever runs has what it is entitled to, as far as that is online, or is unsatisfied."""
    for id_, its in everything.items():
        what = now.ledger.intents[id_]
        assert its.cpus
        if its.owner is None:
            overlap = what.kind in intent.CLAIMING and now.terms.config.annotated_overlap == "allow"
            assert overlap or its.cpus.isdisjoint(now.ledger.exclusive)
        else:
            assert its.cpus == now.ledger.claims[its.owner].cpus
            assert not its.cpus.isdisjoint(now.terms.topology.online)
        if id_ in now.ledger.unsatisfied or id_ in now.inventory.leftovers.lingering:
            continue
        if what.kind is intent.Kind.SHARED:
            assert its.cpus == (now.pool - what.forbidden or now.pool)
            continue
        container = now.inventory.containers[id_]
        claim = state.claim_of(now.ledger, now.pod_of(container), container, what)
        assert claim is not None
        if what.kind is intent.Kind.INTEGER:
            assert len(claim.cpus) == what.count
        else:
            assert claim.cpus == what.cpus


def check_leftovers(before: state.State, after: state.State) -> None:
    """Of what lingers no claim ends, but by a resize of another attempt, and nobody else has its CPUs.

    That claims are disjoint, and that whoever has one runs on it, holds of all containers.
    """
    for id_ in before.inventory.leftovers.lingering & after.inventory.leftovers.lingering:
        its, was = _claim(after, id_), _claim(before, id_)
        if was is not None and its is None:
            others = (
                other
                for other in after.inventory.containers.values()
                if (other.name, after.pod_of(other).uid) == (was.key.name, was.key.uid) and other.id != id_
            )
            assert next(others, None) is not None, f"{was} has ended while a process of {id_} is alive"


def _claim(now: state.State, id_: events.ContainerId) -> state.Claim | None:
    container = now.inventory.containers[id_]
    return state.claim_of(now.ledger, now.pod_of(container), container, now.ledger.intents[id_])


def check_floor(before: state.State, after: state.State) -> None:
    """Under the terms of `after`, the pool stays above its minimum or does not shrink."""
    had = len(after.terms.poolable - before.ledger.exclusive)
    assert len(after.pool) >= min(after.terms.min_shared, had)


def check_ceiling(before: state.State, after: state.State, namespace: str) -> None:
    """Under the terms of `after`, a namespace stays under its ceiling or holds no more than before."""
    most = after.terms.config.most_exclusive(namespace)
    if most is not None:
        held = len(bounds.held_by(after.ledger, namespace))
        assert held <= max(most, len(bounds.held_by(before.ledger, namespace)))


def check_choices(before: state.State, after: state.State) -> None:
    """Integer containers have got no CPUs but those that they may have."""
    if before.ledger.claims is after.ledger.claims:
        return
    terms = after.terms
    for key, claim in after.ledger.claims.items():
        if claim.kind is intent.Kind.INTEGER:
            old = before.ledger.claims.get(key)
            got = claim.cpus - (CpuSet() if old is None else old.cpus)
            assert got <= terms.poolable - terms.reserved - claim.forbidden, f"{got} of {claim}"
