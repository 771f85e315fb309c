"""A resize in place: claims grow and shrink, and change their class. Pure. PRD 2.12."""

from __future__ import annotations

import dataclasses

from reconciler import events, intent, inventory
from reconciler.policy import claims, state


def is_resize(event: events.ContainerUpdating) -> bool:
    """Whether kubelet has resized the container: it then says the shares, always, beside quota and period.

    Anyone else's change of the quota alone, ours among them, is none, and changes no class (PRD 2.9).
    """
    return event.limits.shares is not None


def resize(now: state.State, event: events.ContainerUpdating) -> state.State:
    """The state in which the container has its new size, and its new class if that changes.

    Of a claim that grows or shrinks the container keeps what it can. Raises Refused; then `now` holds.
    """
    after = dataclasses.replace(now, inventory=inventory.reduce(now.inventory, event))
    container = after.inventory.containers[event.container.id]
    pod = after.pod_of(container)
    what = intent.decide(pod, container, now.terms.config)
    old = now.ledger.intents.get(container.id)
    if old is None or what == old:
        return after
    before = dataclasses.replace(after, ledger=after.ledger.with_intent(container.id, what))
    ledger = _granted(before, pod, container, old, what)
    return dataclasses.replace(before, ledger=ledger.with_unsatisfied(container.id, ""))


def _granted(
    now: state.State, pod: events.Pod, container: events.Container, old: intent.Intent, what: intent.Intent
) -> state.Ledger:
    match what.kind:
        case intent.Kind.INTEGER | intent.Kind.ANNOTATED_EXCLUSIVE:
            return claims.grant(now, pod, container, what)
        case intent.Kind.ANNOTATED_SHARED:
            return _lowered(now, pod, container, what)
        case intent.Kind.SHARED | intent.Kind.UNMANAGED:
            ledger = now.ledger.without_claim(state.claim_key(pod, container, old))
            claims.check_shared(dataclasses.replace(now, ledger=ledger), what)
            return ledger


def _lowered(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.Ledger:
    """The pod's claim is shared again where no container of it has integer semantics any more."""
    ledger = claims.grant(now, pod, container, what)
    key = state.claim_key(pod, container, what)
    exclusive = any(
        its is not None and its.kind is intent.Kind.ANNOTATED_EXCLUSIVE
        for sandbox in now.inventory.sandboxes(pod.uid)
        for member in now.inventory.members.get(sandbox, ())
        for its in (ledger.intents.get(member),)
        if state.claim_key(pod, now.inventory.containers[member], its or what) == key
    )
    if exclusive:
        return ledger
    return ledger.with_claim(dataclasses.replace(ledger.claims[key], kind=what.kind))
