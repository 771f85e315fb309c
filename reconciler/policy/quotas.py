"""Whose CFS quota is lifted, and what is given back when that ends. Pure. PRD 2.13, ADR 0014.

A container is freed that has integer semantics of its own and holds exclusive CPUs; the quota of one that is
with it under the pod's annotation bounds what it takes of its neighbours' CPUs, and stays. A pod is freed
where all of its containers are. Its `cpu.max` is reached through one of its containers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from reconciler import events, intent, inventory
from reconciler.cpu import bandwidth
from reconciler.policy import state

_EXCLUSIVE = frozenset({intent.Kind.ANNOTATED_EXCLUSIVE, intent.Kind.INTEGER})


def wishes(now: state.State, container: events.Container) -> tuple[bandwidth.Wish, ...]:
    """What is to be lifted of a container; nothing under `cfsQuota: keep`. Linear in its pod's containers.

    A pod that has others beside its exclusive containers has a quota, if all its containers have one.
    """
    if now.terms.config.cfs_quota == "keep" or not _is_free(now, container):
        return ()
    own = bandwidth.Wish(file=bandwidth.FILE, limit=_limit(container))
    alive = list(_alive(now, container))
    free = [other for other in alive if _is_free(now, other)]
    if container.id != min(other.id for other in free):
        return (own,)
    together = bandwidth.total(map(_limit, alive))
    return own, bandwidth.Wish(file=bandwidth.POD_FILE, limit=together, lifted=len(free) == len(alive))


def returns(
    now: state.State, container: events.Container, lifted: Collection[events.ContainerId]
) -> tuple[bandwidth.Wish, ...]:
    """What a container that is among the `lifted`, and is not to be any more, is given back, once.

    The pod's quota too, unless another of its containers has it lifted or gives it back. It allows for those
    that have ended, too: one may be between two attempts, and nobody looks at the pod any more when it comes.
    """
    own = bandwidth.Wish(file=bandwidth.FILE, limit=_limit(container), lifted=False, once=True)
    alive = list(_alive(now, container))
    if any(wishes(now, other) for other in alive):
        return (own,)
    if container.id != min((other.id for other in alive if other.id in lifted), default=container.id):
        return (own,)
    all_ = {other.name: other for other in _members(now, container)}
    together = bandwidth.total(map(_limit, all_.values()))
    return own, bandwidth.Wish(file=bandwidth.POD_FILE, limit=together, lifted=False, once=True)


def _alive(now: state.State, container: events.Container) -> Iterator[events.Container]:
    """The containers of its pod that run or may run, itself among them."""
    return (its for its in _members(now, container) if its.phase is not events.Phase.STOPPED)


def _members(now: state.State, container: events.Container) -> Iterator[events.Container]:
    """The containers of its pod, the pause container apart, in the order of their ids."""
    for member in sorted(now.inventory.members[container.sandbox]):
        its = now.inventory.containers[member]
        if its.name != inventory.PAUSE:
            yield its


def _is_free(now: state.State, container: events.Container) -> bool:
    """Whether it has integer semantics of its own and holds exclusive CPUs."""
    what = now.ledger.intents.get(container.id)
    if what is None or what.kind not in _EXCLUSIVE:
        return False
    claim = state.claim_of(now.ledger, now.pod_of(container), container, what)
    return claim is not None and claim.exclusive


def _limit(container: events.Container) -> bandwidth.Bandwidth | None:
    return bandwidth.limit(container.limits.quota, container.limits.period)
