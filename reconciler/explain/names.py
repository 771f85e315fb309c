"""What containers and claims are called, and which container a name means. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler import errors, events, inventory
from reconciler.cpu.idset import CpuSet
from reconciler.policy import state

Document = dict[str, object]

_MOST_LISTED = 8
"""Names in one sentence; more are counted."""


def of(now: state.State, container: events.Container) -> str:
    """`NAMESPACE/POD/CONTAINER`."""
    pod = now.pod_of(container)
    return f"{pod.namespace}/{pod.name}/{container.name}"


def claims_on(now: state.State, cpus: CpuSet) -> list[Document]:
    """The claims that hold one of `cpus`, by their lowest such CPU: whose, and which of them.

    `container` is None where the claim is by the annotation of a whole pod.
    """
    held = [
        (claim.cpus & cpus, claim) for claim in now.ledger.claims.values() if not claim.cpus.isdisjoint(cpus)
    ]
    return [
        {
            "cpus": str(its),
            "pod": claim.pod,
            "container": claim.key.name or None,
            "class": claim.kind.value,
            "exclusive": claim.exclusive,
        }
        for its, claim in sorted(held, key=lambda pair: (pair[0].first(), pair[1].key))
    ]


def find(now: state.State, name: str) -> events.Container:
    """The container that `name` means: an id, or the beginning of only one, or [NAMESPACE/]POD/CONTAINER.

    Of several attempts of one container the one that runs is meant. Raises Malformed, with what there is,
    where it means none or several. Linear in the containers.
    """
    exact = now.inventory.containers.get(events.ContainerId(name))
    if exact is not None:
        return exact
    found = _called(now, name) if "/" in name else _beginning(now, name)
    if not found:
        raise errors.Malformed(
            f"container {name!r}", f"there is none of that name or id; {_candidates(now, name)}"
        )
    if len(found) > 1:
        several = _some(f"{of(now, its)} ({its.id})" for its in found)
        raise errors.Malformed(f"container {name!r}", f"several are meant: {several}")
    return found[0]


def _called(now: state.State, name: str) -> list[events.Container]:
    parts = name.split("/")
    meant = [
        its
        for its in now.inventory.containers.values()
        if parts in (of(now, its).split("/"), of(now, its).split("/")[1:])
    ]
    attempts: dict[tuple[events.PodUid, str], events.Container] = {}
    for its in sorted(meant, key=lambda its: (now.inventory.has_ended(its), its.id)):
        attempts.setdefault((now.pod_of(its).uid, its.name), its)
    return sorted(attempts.values(), key=lambda its: its.id)


def _beginning(now: state.State, name: str) -> list[events.Container]:
    found = [its for id_, its in now.inventory.containers.items() if name and id_.startswith(name)]
    return sorted(found, key=lambda its: its.id)


def _candidates(now: state.State, name: str) -> str:
    """The containers that share a part of the name, or else all."""
    names = {
        of(now, its)
        for its in now.inventory.containers.values()
        if its.phase is not events.Phase.STOPPED and its.name != inventory.PAUSE
    }
    if not names:
        return "the agent knows of no container"
    parts = {part for part in name.split("/") if part}
    like = {its for its in names if any(part in its for part in parts)}
    return f"there are {_some(like or names)}"


def _some(names: Iterable[str]) -> str:
    each = sorted(names)
    more = len(each) - _MOST_LISTED
    return ", ".join(each[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
