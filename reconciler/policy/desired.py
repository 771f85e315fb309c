"""The cpuset of every container, as it follows from the ledger. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler import events, intent
from reconciler.cpu import bandwidth
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import quotas, state


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one container may run. `mems` None means that its memory nodes are left alone.

    `owner` is the exclusive claim that `cpus` are; None where others may run on them too. `quotas` are the
    files `cpu.max` that are reconciled too; all others are left alone.
    """

    cpus: CpuSet
    mems: NodeSet | None = None
    owner: state.ClaimKey | None = None
    quotas: tuple[bandwidth.Wish, ...] = ()


def lasting(want: Placement) -> Placement:
    """The placement that is still wished for when what is wished for once has been done."""
    if not any(wish.once for wish in want.quotas):
        return want
    return dataclasses.replace(want, quotas=tuple(wish for wish in want.quotas if not wish.once))


Desired = Mapping[events.ContainerId, Placement]


def place(now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent) -> Placement:
    """The placement of one container; costs the same whatever the number of containers.

    A container that is entitled to CPUs and has no claim on them is placed as a shared one, and so is one
    with no CPU of its claim online: the kernel would let it run on all that its parent has. A shared one
    that is forbidden the whole pool has the whole pool. Without CPUs if no CPU of the pool is online, and
    where the container is left alone.
    """
    if what.kind is intent.Kind.UNMANAGED:
        return Placement(cpus=CpuSet())
    claim = state.claim_of(now.ledger, pod, container, what)
    if claim is None or claim.cpus.isdisjoint(now.terms.topology.online):
        pool = now.pool
        return Placement(cpus=(pool - what.forbidden or pool) if what.forbidden else pool)
    pinned = what.kind is not intent.Kind.INTEGER or now.terms.pin_integer_memory
    mems = now.terms.topology.memory_nodes(claim.cpus) if pinned else None
    if not claim.exclusive:
        return Placement(cpus=claim.cpus, mems=mems)
    return Placement(cpus=claim.cpus, mems=mems, owner=claim.key, quotas=quotas.wishes(now, container))


def desired(
    now: state.State, scope: Iterable[events.ContainerId] | None = None
) -> dict[events.ContainerId, Placement]:
    """The placement of every container of `scope`, or of all, that runs or may run and has a cgroup.

    One that would be without CPUs is left as it is: an empty `cpuset.cpus` means all that the parent has,
    exclusive CPUs too. Linear in the scope. Ids that are not known are passed over.
    """
    placements: dict[events.ContainerId, Placement] = {}
    pool = Placement(cpus=now.pool)
    containers = now.inventory.containers
    for id_ in containers if scope is None else scope:
        container = containers.get(id_)
        if container is None or container.phase is events.Phase.STOPPED or container.cgroup is None:
            continue
        what = now.ledger.intents.get(id_)
        if what is None or what.kind is intent.Kind.UNMANAGED:
            continue
        plain = what.kind is intent.Kind.SHARED and not what.forbidden
        its = pool if plain else place(now, now.pod_of(container), container, what)
        if its.cpus:
            placements[id_] = its
    return placements
