"""What is written so that containers have again what the runtime has on record of them. Pure. PRD 10.8.

For when the agent goes for good. Nobody is kept off anybody's CPUs any more, so the order does not matter.
Partitions are taken back by the passes' own `partitions`, before this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler import events, intent, inventory, observed
from reconciler.cpu import bandwidth
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import quotas, state


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The kernel lists that the runtime has on record of one container; empty where it has none, which
    means all that the parent has."""

    cpus: CpuSet = CpuSet()
    mems: NodeSet = NodeSet()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One file to write, seen from the container's cgroup.

    `instead` is written where the kernel does not let `text` be written because it would clear the file of
    a group with processes (ENOSPC, up to Linux 6.12); "" for no other.
    """

    container: events.ContainerId
    file: str
    observed: str
    text: str
    instead: str = ""


def managed(now: state.State) -> tuple[events.ContainerId, ...]:
    """Who was placed by the agent, and has a cgroup."""
    return tuple(
        id_
        for id_, container in sorted(now.inventory.containers.items())
        if container.cgroup is not None
        and container.phase is not events.Phase.STOPPED
        and (what := now.ledger.intents.get(id_)) is not None
        and what.kind is not intent.Kind.UNMANAGED
    )


def files(now: state.State, id_: events.ContainerId) -> tuple[str, ...]:
    """The quotas that may have been lifted with the container's, seen from its cgroup."""
    is_pause = now.inventory.containers[id_].name == inventory.PAUSE
    return () if is_pause else (bandwidth.FILE, bandwidth.POD_FILE)


def changes(
    now: state.State, looks: observed.Observed, records: Mapping[events.ContainerId, Record]
) -> tuple[Change, ...]:
    """What differs from the records, and quotas that are lifted though there are limits. Who has no record
    or no cgroup is passed over. Linear in the containers and those of their pods."""
    present = {id_: look for id_, look in looks.items() if isinstance(look, observed.Present)}
    found = [*_quotas(now, present)]
    for id_, look in present.items():
        if id_ in records:
            found += _cpusets(now, id_, look, records[id_])
    return tuple(found)


def _cpusets(
    now: state.State, id_: events.ContainerId, look: observed.Present, record: Record
) -> Iterator[Change]:
    """The inner group of crun follows where it has a list of its own."""
    topology = now.terms.topology
    memory = NodeSet(node.id for node in topology.nodes if node.has_memory)
    groups: Sequence[tuple[str, observed.Cpuset]] = [("", look.outer)]
    if look.inner is not None:
        groups = [*groups, (f"{observed.INNER}/", look.inner)]
    for prefix, has in groups:
        lists: Sequence[tuple[str, CpuSet | NodeSet, CpuSet | NodeSet, CpuSet | NodeSet]] = (
            (observed.CPUS, has.cpus, record.cpus, topology.online),
            (observed.MEMS, has.mems, record.mems, memory),
        )
        for file, is_, was, all_ in lists:
            if is_ == was or (prefix and not is_) or (not was and is_ == all_):
                continue
            yield Change(
                container=id_,
                file=prefix + file,
                observed=str(is_),
                text=str(was),
                instead="" if was else str(all_),
            )


def _quotas(now: state.State, looks: Mapping[events.ContainerId, observed.Present]) -> Iterator[Change]:
    """What is limited again: containers without a quota that have limits, and before them their pods, so that
    who is interrupted finds the rest. A quota that is there is somebody's own decision."""
    lifted = {id_ for id_, look in looks.items() if _is_lifted(now, id_, look)}
    found = []
    for id_ in sorted(lifted):
        for wish in quotas.returns(now, now.inventory.containers[id_], lifted):
            says = looks[id_].says(wish.file)
            if not isinstance(says, bandwidth.Bandwidth) or says.quota is not None:
                continue
            if (due := wish.instead(says)) != says:
                found.append(Change(container=id_, file=wish.file, observed=str(says), text=str(due)))
    yield from sorted(found, key=lambda change: change.file != bandwidth.POD_FILE)


def _is_lifted(now: state.State, id_: events.ContainerId, look: observed.Present) -> bool:
    container = now.inventory.containers[id_]
    limit = bandwidth.limit(container.limits.quota, container.limits.period)
    says = look.says(bandwidth.FILE)
    return limit is not None and isinstance(says, bandwidth.Bandwidth) and says.quota is None
