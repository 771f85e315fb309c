"""Why a container runs where it runs, in one sentence. Pure."""

from __future__ import annotations

from reconciler import events, intent
from reconciler.policy import claims, desired, state


def reason(
    now: state.State, container: events.Container, what: intent.Intent, placement: desired.Placement
) -> str:
    """Why this container runs where it runs, in one sentence."""
    why = _why(now, container, what, placement)
    left = lingers(now, container.id)
    return f"{left}; {why}" if left else why


def lingers(now: state.State, id_: events.ContainerId) -> str:
    """Why a container is there that has ended for the runtime, or ""."""
    left = now.inventory.leftovers
    if id_ not in left.lingering:
        return ""
    says = "has no record of it any more" if id_ in left.forgotten else "says that it has ended"
    pid = left.pids.get(id_)
    which = f" (pid {pid})" if pid else ""
    return f"the runtime {says}, but a process of it is alive{which}"


def _why(
    now: state.State, container: events.Container, what: intent.Intent, placement: desired.Placement
) -> str:
    if what.kind is intent.Kind.UNMANAGED:
        return what.why
    unsatisfied = shortfall(now, container, what)
    offline = placement.cpus - now.terms.topology.online
    if unsatisfied and not offline:
        return f"{'on the shared pool' if placement.cpus else 'left as it is'}: {unsatisfied}"
    short = f", and {offline} of it offline" if offline else ""
    if placement.owner is not None:
        return f"{what.why}: {placement.cpus} is exclusive{short}"
    if what.kind is intent.Kind.ANNOTATED_SHARED:
        return f"{what.why}: {placement.cpus} is shared{short}"
    forbidden = f", less the forbidden {what.forbidden}" if what.forbidden else ""
    warning = f" ({what.warning})" if what.warning else ""
    return f"{what.why}: shared pool {now.pool}{forbidden}{warning}"


def shortfall(now: state.State, container: events.Container, what: intent.Intent) -> str:
    """Why this container runs without what it is entitled to, or ""."""
    if what.kind is intent.Kind.SHARED and not now.pool:
        return claims.EMPTY_POOL
    if what.kind is intent.Kind.SHARED and what.forbidden and now.pool <= what.forbidden:
        return f"annotation {intent.FORBID}={what.forbidden} forbids the whole shared pool {now.pool}"
    claim = state.claim_of(now.ledger, now.pod_of(container), container, what)
    if claim is not None and (offline := claim.cpus - now.terms.topology.online):
        if offline == claim.cpus:
            return f"none of its CPUs {claim.cpus} is online"
        return f"CPU {offline} of its {claim.cpus} is offline"
    return now.ledger.unsatisfied.get(container.id, "")
