"""Which cgroups a lifted quota is about. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable

from reconciler import events
from reconciler.daemon import executor, watching
from reconciler.policy import state


def is_in_pod_of(now: state.State, id_: events.ContainerId, others: Iterable[events.ContainerId]) -> bool:
    """Whether a container is in the pod of one of the others."""
    container = now.inventory.containers.get(id_)
    if container is None:
        return False
    return not now.inventory.members[container.sandbox].isdisjoint(others)


def groups(now: state.State, lifted: Iterable[events.ContainerId]) -> watching.Quotas:
    """The cgroups whose `cpu.max` is reconciled, the pods' too, and through whom."""
    groups = {}
    for id_ in sorted(lifted):
        path = executor.cgroup_of(now, id_)
        if path is not None:
            groups[path] = id_
            groups.setdefault(os.path.dirname(path), id_)
    return groups
