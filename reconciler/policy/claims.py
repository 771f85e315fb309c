"""Granting and refusing claims: who is entitled to what, and the conflict table. Pure.

Every function returns a new ledger, or raises `errors.Refused` with a sentence for the pod's owner; the
ledger that it was given stays as it was. PRD 1, 2 and 5. `integer` and `moving` have the other half.
"""

from __future__ import annotations

from reconciler import errors, events, intent
from reconciler.policy import bounds, integer, moving, state

EMPTY_POOL = "the shared pool is empty: none of its CPUs is online; bring some online or free exclusive ones"


def grant(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.Ledger:
    """The ledger in which `container` has what `what` entitles it to, whoever had to move for that.

    Raises Refused.
    """
    if what.refusal:
        raise errors.Refused(what.refusal, "annotation")
    match what.kind:
        case intent.Kind.ANNOTATED_EXCLUSIVE | intent.Kind.ANNOTATED_SHARED:
            return _grant_annotated(now, pod, container, what)
        case intent.Kind.INTEGER:
            return integer.grant(now, pod, container, what)
        case intent.Kind.SHARED | intent.Kind.UNMANAGED:
            return now.ledger


def check_shared(now: state.State, what: intent.Intent) -> None:
    """Raises Refused where a shared container would have no CPU: by its forbid list, or none is online."""
    if not now.pool:
        raise errors.Refused(EMPTY_POOL, "pool")
    if now.pool <= what.forbidden:
        raise errors.Refused(
            f"the shared pool is {now.pool} and annotation {intent.FORBID} forbids all of it "
            f"({what.forbidden}); forbid fewer CPUs",
            "annotation",
        )


def _grant_annotated(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.Ledger:
    name = f"{intent.CORES}.{container.name}" if what.own_list else intent.CORES
    held = now.ledger.claims.get(state.claim_key(pod, container, what))
    claim = _annotated_claim(held, pod, container, what)
    if claim == held:
        return now.ledger
    if held is not None and (claim.kind, claim.cpus) == (held.kind, held.cpus):
        return now.ledger.with_claim(claim)
    _check_annotation(now, pod, what, name)
    before = now
    if held is not None:
        ledger = now.ledger.without_claim(held.key)
        before = state.State(terms=now.terms, inventory=now.inventory, ledger=ledger)
    _refuse_annotated(before, claim, name)
    ledger = moving.make_room(before, claim, name).with_claim(claim)
    if broken := bounds.broken(now, ledger, pod):
        raise errors.Refused(f"annotation {name}={what.cpus} would {broken}", "bounds")
    return ledger


def _annotated_claim(
    held: state.Claim | None, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.Claim:
    return state.Claim(
        key=state.claim_key(pod, container, what),
        # The first container with integer semantics raises the pod's claim, and no later one lowers it.
        kind=what.kind if held is None or not held.exclusive else held.kind,
        cpus=what.cpus,
        pod=f"{pod.namespace}/{pod.name}",
        holders=frozenset({container.name}) if held is None else held.holders | {container.name},
    )


def _check_annotation(now: state.State, pod: events.Pod, what: intent.Intent, name: str) -> None:
    """Raises Refused where the namespace may not name CPUs, or one of them is not online."""
    config, online = now.terms.config, now.terms.topology.online
    if not config.may_annotate(pod.namespace):
        allowed = ", ".join(config.annotated_namespaces) or "none"
        raise errors.Refused(
            f"annotation {name}: namespace {pod.namespace} may not name CPUs on this node "
            f"(annotatedNamespaces: {allowed}); remove the annotation or have the namespace allowed",
            "namespace",
        )
    if offline := what.cpus - online:
        raise errors.Refused(
            f"annotation {name}={what.cpus}: CPU {offline} is not online on this node (online: {online})",
            "annotation",
        )


def _refuse_annotated(now: state.State, new: state.Claim, name: str) -> None:
    """Raises Refused where other annotated claims stand in the way, naming who holds which CPU."""
    if now.terms.config.annotated_overlap == "allow":
        return
    held_by = []
    for claim in now.ledger.claims.values():
        if claim.kind is intent.Kind.INTEGER or not (claim.exclusive or new.exclusive):
            continue
        if overlap := claim.cpus & new.cpus:
            held_by.append(f"CPU {overlap} by {claim.kind.value} {claim.holder}")
    if held_by:
        raise errors.Refused(
            f"annotation {name}={new.cpus} conflicts with CPUs that are held: "
            f"{'; '.join(sorted(held_by))}; choose other CPUs or remove that pod",
            "held",
        )
