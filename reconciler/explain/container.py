"""Why one container has its CPUs: what it holds, what restricts it, its memory, its preferences. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler import events, intent
from reconciler.cpu.idset import CpuSet
from reconciler.explain import choice, names, sentences
from reconciler.policy import desired, state

Document = dict[str, object]


def document(now: state.State, container: events.Container, what: intent.Intent) -> Document:
    """What the status does not say of a container with this intent.

    `why` is why it is of its class, `exclusive` whether nobody else may run on its CPUs, `claim_of` by whose
    claim it has them, None for those of the pool, `restrictions` the CPUs that it cannot have, `memory` a
    sentence on its memory nodes, `choice` how good its CPUs are (integer only), `unsatisfied` why it runs
    without what it is entitled to. Linear in the claims.
    """
    pod = now.pod_of(container)
    claim = state.claim_of(now.ledger, pod, container, what)
    placement = desired.place(now, pod, container, what)
    return {
        "why": what.why,
        "warning": what.warning or None,
        "exclusive": placement.owner is not None,
        "claim_of": _claim_of(claim, placement),
        "restrictions": list(_restrictions(now, what, claim)),
        "memory": memory(now, placement),
        "choice": choice.document(now, claim) if claim and claim.kind is intent.Kind.INTEGER else None,
        "unsatisfied": sentences.shortfall(now, container, what) or None,
    }


def _claim_of(claim: state.Claim | None, placement: desired.Placement) -> str | None:
    if claim is None or claim.cpus != placement.cpus:
        return None
    return "container" if claim.key.name else "pod"


def exited(now: state.State, container: events.Container, what: intent.Intent) -> str:
    """What has become of the claim of a container that has exited."""
    claim = state.claim_of(now.ledger, now.pod_of(container), container, what)
    if claim is None:
        return "the container has exited"
    return f"the container has exited; its claim to {claim.cpus} holds for the next attempt"


def memory(now: state.State, placement: desired.Placement) -> str:
    """Where a container with this placement takes its memory from."""
    if placement.mems is None:
        return "left alone"
    lacking = [
        str(node.id)
        for node in now.terms.topology.nodes
        if not node.has_memory and not node.cpus.isdisjoint(placement.cpus)
    ]
    instead = f" (node {', '.join(lacking)} has none: the nearest stands for it)" if lacking else ""
    return f"from node {placement.mems}, where its CPUs are{instead}"


def _restrictions(now: state.State, what: intent.Intent, claim: state.Claim | None) -> Iterator[Document]:
    """The CPUs that a container cannot have, and why: one entry for each reason and claim."""
    reasons, taken = _restricting(now, what, claim)
    for why, cpus in reasons.items():
        if cpus:
            yield {"cpus": str(cpus), "why": why, "holder": None}
    for held in names.claims_on(now, taken - (claim.cpus if claim is not None else CpuSet())):
        yield {"cpus": held["cpus"], "why": "held", "holder": held}


def _restricting(
    now: state.State, what: intent.Intent, claim: state.Claim | None
) -> tuple[dict[str, CpuSet], CpuSet]:
    """CPUs that it cannot have whoever holds them, by the reason; and those that it cannot have of others."""
    machine = now.terms.topology
    common = {
        "offline": machine.offline,
        "isolated": machine.online - now.terms.poolable,
        "forbidden": what.forbidden & machine.online,
    }
    match what.kind:
        case intent.Kind.UNMANAGED:
            return {}, CpuSet()
        case intent.Kind.ANNOTATED_EXCLUSIVE | intent.Kind.ANNOTATED_SHARED:
            return {"offline": what.cpus - machine.online}, CpuSet() if claim is not None else what.cpus
        case intent.Kind.SHARED:
            return common, now.ledger.exclusive
        case intent.Kind.INTEGER:
            reserved = {"reserved": now.terms.reserved & machine.online}
            return common | reserved, now.ledger.exclusive | now.ledger.pinned
