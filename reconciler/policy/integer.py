"""Claims of integer containers: which CPUs are free to one, and what it gets. Pure. PRD 2 and 6.

A container that has a claim keeps as much of it as its size allows. One that has none gets, of what is
allowed, the first of: the CPUs that its pod's namesake had before, CPUs of exited containers of its own pod
(a finished init container's, for one), the best free ones, the best of both.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler import errors, events, intent
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.policy import bounds, placement, state


def grant(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.Ledger:
    """The ledger in which the container has `what.count` CPUs of its own. Raises Refused."""
    key = state.claim_key(pod, container, what)
    held = now.ledger.claims.get(key)
    if held is not None and len(held.cpus) == what.count:
        return now.ledger
    without = state.State(terms=now.terms, inventory=now.inventory, ledger=now.ledger.without_claim(key))
    if held is None:
        choices = _fresh(without, pod, container, what)
    else:
        choices = _resized(without, pod, what, held.cpus)
    why = ""
    for cpus in choices:
        ledger = _give_back(without.ledger, pod, cpus).with_claim(claim(pod, container, what, cpus))
        broken = bounds.broken(now, ledger, pod)
        if not broken:
            return ledger
        why = why or broken
    if why:
        raise errors.Refused(f"{what.count} exclusive CPUs would {why}", "bounds")
    raise errors.Refused(_too_few(without, what), "room")


def take_as_is(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent, cpus: CpuSet
) -> state.Ledger | None:
    """The ledger in which an integer container keeps the CPUs it runs on, or None where it may not.

    It may where nothing of that size is held for it, and they are as many as it is entitled to, and free to
    it or lent to it.
    """
    key = state.claim_key(pod, container, what)
    held = now.ledger.claims.get(key)
    if held is not None and len(held.cpus) == what.count:
        return None
    without = state.State(terms=now.terms, inventory=now.inventory, ledger=now.ledger.without_claim(key))
    lent = _lendable(without, pod) & usable(now, what.forbidden)
    if len(cpus) != what.count or not cpus <= free(without, what.forbidden) | lent:
        return None
    ledger = _give_back(without.ledger, pod, cpus).with_claim(claim(pod, container, what, cpus))
    return None if bounds.broken(now, ledger, pod) else ledger


def claim(pod: events.Pod, container: events.Container, what: intent.Intent, cpus: CpuSet) -> state.Claim:
    """The claim of an integer container on these CPUs."""
    return state.Claim(
        key=state.claim_key(pod, container, what),
        kind=intent.Kind.INTEGER,
        cpus=cpus,
        pod=f"{pod.namespace}/{pod.name}",
        holders=frozenset({container.name}),
        forbidden=what.forbidden,
    )


def usable(now: state.State, forbidden: CpuSet) -> CpuSet:
    """CPUs that integer containers with this forbid list may have, whoever holds them now."""
    return now.terms.poolable - now.terms.reserved - forbidden


def free(now: state.State, forbidden: CpuSet) -> CpuSet:
    """Those of them that nobody holds."""
    return usable(now, forbidden) - now.ledger.exclusive - now.ledger.pinned


def _fresh(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> Iterator[CpuSet]:
    machine, count = now.terms.topology, what.count
    unheld = free(now, what.forbidden)
    lent = _lendable(now, pod) & usable(now, what.forbidden)
    former = now.ledger.former.get(state.former_key(pod, container))
    if former is not None and len(former) == count and former <= unheld | lent:
        yield former
    if lent:
        yield from _existing(_lent_first(now, lent, unheld, count))
    yield from _existing(placement.choose(machine, unheld, count))
    if lent:
        yield from _existing(placement.choose(machine, unheld | lent, count))


def _lent_first(now: state.State, lent: CpuSet, unheld: CpuSet, count: int) -> CpuSet | None:
    if len(lent) >= count:
        return placement.choose(now.terms.topology, lent, count)
    return placement.grow(now.terms.topology, lent, unheld, count)


def _resized(now: state.State, pod: events.Pod, what: intent.Intent, held: CpuSet) -> Iterator[CpuSet]:
    """CPUs of a claim that are offline stay in it where it grows: they may return."""
    machine, count = now.terms.topology, what.count
    if len(held) > count:
        yield _shrunk(machine, held, count)
        return
    online = held & machine.online
    offline = held - online
    unheld = free(now, what.forbidden) - held
    lent = _lendable(now, pod) & usable(now, what.forbidden)
    for more in (unheld, unheld | lent) if lent else (unheld,):
        for cpus in _existing(placement.grow(machine, online, more, count - len(offline))):
            yield cpus | offline


def _shrunk(machine: topologies.Topology, held: CpuSet, count: int) -> CpuSet:
    """What is left of a claim: those of its CPUs that are offline are given back first."""
    online = held & machine.online
    if len(online) >= count:
        return placement.shrink(machine, online, count)
    return online | CpuSet(sorted(held - online)[: count - len(online)])


def _existing(cpus: CpuSet | None) -> tuple[CpuSet, ...]:
    return () if cpus is None else (cpus,)


def _lendable(now: state.State, pod: events.Pod) -> CpuSet:
    """CPUs of this pod's integer containers that have all exited, such as finished init containers.

    After a restart the runtime does not list these any more: no attempt counts like exited ones. One that
    lingers, in whichever sandbox, lends nothing.
    """
    lendable = CpuSet()
    lingering = {its.name for its in now.inventory.lingering(pod.uid)}
    for held in _claims_of(now.ledger, pod):
        if held.key.name in lingering:
            continue
        attempts = now.inventory.attempts(pod.sandbox, held.key.name)
        if all(attempt.phase is events.Phase.STOPPED for attempt in attempts):
            lendable |= held.cpus
    return lendable


def _claims_of(ledger: state.Ledger, pod: events.Pod) -> list[state.Claim]:
    return [
        held
        for held in ledger.claims.values()
        if held.key.uid == pod.uid and held.kind is intent.Kind.INTEGER
    ]


def _give_back(ledger: state.Ledger, pod: events.Pod, chosen: CpuSet) -> state.Ledger:
    """The ledger in which exited containers of the pod no longer hold anything of `chosen`."""
    if chosen.isdisjoint(ledger.exclusive):
        return ledger
    for held in _claims_of(ledger, pod):
        if not held.cpus.isdisjoint(chosen):
            ledger = ledger.without_claim(held.key)
    return ledger


def _too_few(now: state.State, what: intent.Intent) -> str:
    online = now.terms.topology.online
    parts = [
        f"{len(cpus)} {word}"
        for word, cpus in (
            ("held exclusively", now.ledger.exclusive),
            ("held by annotated pods", now.ledger.pinned),
            ("reserved", now.terms.reserved & online),
            ("forbidden to this pod", what.forbidden & online),
        )
        if cpus
    ]
    why = f" ({', '.join(parts)})" if parts else ""
    return (
        f"{what.count} exclusive CPUs wanted, {len(free(now, what.forbidden))} of {len(online)} "
        f"are free{why}; request fewer CPUs or remove a pod that holds some"
    )
