"""Granting and refusing claims: the conflict table, free CPUs, the floor under the pool. Pure.

Every function returns a new ledger, or raises `errors.Refused` with a sentence for the pod's owner; the
ledger that it was given stays as it was. PRD 1, 2 and 4.
"""

from __future__ import annotations

from reconciler import errors, events, intent
from reconciler.cpu.idset import CpuSet
from reconciler.policy import placement, state

EMPTY_POOL = "the shared pool is empty: none of its CPUs is online; bring some online or free exclusive ones"


def grant(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.Ledger:
    """The ledger in which `container` has what `what` entitles it to. Raises Refused."""
    if what.refusal:
        raise errors.Refused(what.refusal)
    match what.kind:
        case intent.Kind.ANNOTATED_EXCLUSIVE | intent.Kind.ANNOTATED_SHARED:
            return _grant_annotated(now, pod, container, what)
        case intent.Kind.INTEGER:
            return _grant_integer(now, pod, container, what)
        case intent.Kind.SHARED | intent.Kind.UNMANAGED:
            return now.ledger


def check_shared(now: state.State, what: intent.Intent) -> None:
    """Raises Refused where a shared container would have no CPU: by its forbid list, or none is online."""
    if not now.pool:
        raise errors.Refused(EMPTY_POOL)
    if now.pool <= what.forbidden:
        raise errors.Refused(
            f"the shared pool is {now.pool} and annotation {intent.FORBID} forbids all of it "
            f"({what.forbidden}); forbid fewer CPUs"
        )


def take_as_is(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent, cpus: CpuSet
) -> state.Ledger | None:
    """The ledger in which an integer container keeps the CPUs it runs on, or None where it may not.

    It may where nothing is held for it, and they are as many as it is entitled to and free to it.
    """
    if state.claim_key(pod, container, what.kind) in now.ledger.claims:
        return None
    if len(cpus) != what.count or not cpus <= _free(now, what) or not _leaves_pool(now, cpus):
        return None
    return now.ledger.with_claim(_integer_claim(pod, container, cpus))


def _grant_annotated(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.Ledger:
    offline = what.cpus - now.terms.topology.online
    if offline:
        raise errors.Refused(
            f"annotation {intent.CORES}={what.cpus}: CPU {offline} is not online on this node "
            f"(online: {now.terms.topology.online})"
        )
    key = state.claim_key(pod, container, what.kind)
    held = now.ledger.claims.get(key)
    claim = state.Claim(
        key=key,
        # The first container with integer semantics raises the pod's claim, and nothing lowers it again.
        kind=what.kind if held is None or not held.exclusive else held.kind,
        cpus=what.cpus,
        pod=f"{pod.namespace}/{pod.name}",
        holders=frozenset({container.name}) if held is None else held.holders | {container.name},
    )
    if claim == held:
        return now.ledger
    if held is None or (claim.kind, claim.cpus) != (held.kind, held.cpus):
        _refuse_conflicts(now, claim)
        if claim.exclusive and not _leaves_pool(now, claim.cpus):
            raise errors.Refused(f"annotation {intent.CORES}={what.cpus} would {_starve(now, claim.cpus)}")
    return now.ledger.with_claim(claim)


def _refuse_conflicts(now: state.State, new: state.Claim) -> None:
    """Raises Refused where the conflict table says so, naming who holds which CPU."""
    held_by = []
    for claim in now.ledger.claims.values():
        both_shared = not claim.exclusive and not new.exclusive
        if claim.key.uid == new.key.uid or both_shared:
            continue
        if overlap := claim.cpus & new.cpus:
            holder = f"{claim.pod} container {claim.key.name}" if claim.key.name else claim.pod
            held_by.append(f"CPU {overlap} by {claim.kind.value} {holder}")
    if held_by:
        raise errors.Refused(
            f"annotation {intent.CORES}={new.cpus} conflicts with CPUs that are held: "
            f"{'; '.join(sorted(held_by))}; choose other CPUs or remove that pod"
        )


def _grant_integer(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.Ledger:
    key = state.claim_key(pod, container, what.kind)
    held = now.ledger.claims.get(key)
    if held is not None and len(held.cpus) == what.count:
        return now.ledger
    without = state.State(terms=now.terms, inventory=now.inventory, ledger=now.ledger.without_claim(key))
    usable = _usable(now, what)
    free = usable - without.ledger.exclusive - without.ledger.pinned
    chosen = placement.choose(now.terms.topology, free, what.count)
    if chosen is not None and _leaves_pool(without, chosen):
        return without.ledger.with_claim(_integer_claim(pod, container, chosen))
    for lent in _with_lent(without, pod, usable, free, what.count):
        ledger = _give_back(without.ledger, pod, lent).with_claim(_integer_claim(pod, container, lent))
        if len(now.terms.poolable - ledger.exclusive) >= now.terms.min_shared:
            return ledger
    if chosen is None:
        raise errors.Refused(_too_few(without, what))
    raise errors.Refused(f"{what.count} exclusive CPUs would {_starve(without, chosen)}")


def _with_lent(now: state.State, pod: events.Pod, usable: CpuSet, free: CpuSet, count: int) -> list[CpuSet]:
    """Choices with CPUs of the pod's exited containers: the best one, and that which spares the pool most."""
    lendable = _lendable(now, pod) & usable
    missing = count - len(lendable)
    if not lendable or len(free) < missing:
        return []
    machine = now.terms.topology
    best = placement.choose(machine, free | lendable, count)
    if missing > 0:
        rest = placement.choose(machine, free, missing)
        least = None if rest is None else lendable | rest
    else:
        least = placement.choose(machine, lendable, count)
    return [cpus for cpus in (best, least) if cpus is not None]


def _integer_claim(pod: events.Pod, container: events.Container, cpus: CpuSet) -> state.Claim:
    return state.Claim(
        key=state.claim_key(pod, container, intent.Kind.INTEGER),
        kind=intent.Kind.INTEGER,
        cpus=cpus,
        pod=f"{pod.namespace}/{pod.name}",
        holders=frozenset({container.name}),
    )


def _usable(now: state.State, what: intent.Intent) -> CpuSet:
    """CPUs that integer containers of this pod may have, whoever holds them now."""
    return now.terms.poolable - now.terms.reserved - what.forbidden


def _free(now: state.State, what: intent.Intent) -> CpuSet:
    return _usable(now, what) - now.ledger.exclusive - now.ledger.pinned


def _lendable(now: state.State, pod: events.Pod) -> CpuSet:
    """CPUs of this pod's integer containers that have all exited, such as finished init containers."""
    lendable = CpuSet()
    for claim in _integer_claims(now.ledger, pod):
        attempts = list(now.inventory.attempts(pod.sandbox, claim.key.name))
        if attempts and all(attempt.phase is events.Phase.STOPPED for attempt in attempts):
            lendable |= claim.cpus
    return lendable


def _integer_claims(ledger: state.Ledger, pod: events.Pod) -> list[state.Claim]:
    return [
        claim
        for claim in ledger.claims.values()
        if claim.key.uid == pod.uid and claim.kind is intent.Kind.INTEGER
    ]


def _give_back(ledger: state.Ledger, pod: events.Pod, chosen: CpuSet) -> state.Ledger:
    """The ledger in which exited containers of the pod no longer hold anything of `chosen`."""
    if chosen.isdisjoint(ledger.exclusive):
        return ledger
    for claim in _integer_claims(ledger, pod):
        if not claim.cpus.isdisjoint(chosen):
            ledger = ledger.without_claim(claim.key)
    return ledger


def _leaves_pool(now: state.State, cpus: CpuSet) -> bool:
    return len(now.pool - cpus) >= now.terms.min_shared


def _starve(now: state.State, cpus: CpuSet) -> str:
    return (
        f"leave {len(now.pool - cpus)} CPUs in the shared pool, below the minimum of "
        f"{now.terms.min_shared} (pool now: {now.pool or 'empty'}); request fewer CPUs"
    )


def _too_few(now: state.State, what: intent.Intent) -> str:
    free = _free(now, what)
    parts = [
        f"{len(cpus)} {word}"
        for word, cpus in (
            ("held exclusively", now.ledger.exclusive),
            ("held by annotated pods", now.ledger.pinned),
            ("reserved", now.terms.reserved & now.terms.topology.online),
            ("forbidden to this pod", what.forbidden & now.terms.topology.online),
        )
        if cpus
    ]
    why = f" ({', '.join(parts)})" if parts else ""
    return (
        f"{what.count} exclusive CPUs wanted, {len(free)} of {len(now.terms.topology.online)} "
        f"are free{why}; request fewer CPUs or remove a pod that holds some"
    )
