"""What a runtime tells of some pods, in order or not. Values, and `deliver`, which calls an agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler import errors, events
from tests.daemon import node, pods

LIFE = ("run", "create", "start", "update", "stop", "remove", "stop_pod", "remove_pod")
"""Every event of a pod with one container, in order; `list` is the ninth kind."""


@dataclass(frozen=True, slots=True)
class Member:
    """A pod with its container. `size` is how many CPUs it is to have for itself, `cpus` which."""

    pod: events.Pod
    container: events.Container
    size: int = 0
    cpus: str = ""


def _member(pod: events.Pod, whole: int = 0, size: int = 0, cpus: str = "") -> Member:
    return Member(pod, pods.container(pod, whole=whole), size, cpus)


MEMBERS: Mapping[str, Member] = {
    "web": _member(pods.pod("web", pause=True)),
    "db": _member(pods.guaranteed("db"), whole=2, size=2),
    "cache": _member(pods.guaranteed("cache"), whole=1, size=1),
    "pinned": _member(pods.guaranteed("pinned", cores="4-5"), whole=2, size=2, cpus="4-5"),
    "listed": _member(pods.guaranteed("listed", cores="6"), cpus="6"),
}
"""They all fit on the eight CPUs of the machine, whoever comes first."""

Told = tuple[str, str]
"""A kind of event, and the pod that it is about; a `list` is about all."""
Reached = Mapping[str, int]
"""How many events of its life each pod has behind it."""


def orderly(reached: Reached) -> list[Told]:
    """One life after the other, each as far as it has come."""
    return [(kind, name) for name in MEMBERS for kind in LIFE[: reached[name]]]


def there(reached: Reached) -> list[tuple[events.Pod, events.Container]]:
    """The containers that the runtime has, as a full list shows them."""
    found = []
    for name, its in MEMBERS.items():
        if LIFE.index("create") < reached[name] <= LIFE.index("stop"):
            phase = events.Phase.RUNNING if reached[name] > LIFE.index("start") else events.Phase.CREATED
            found.append((its.pod, dataclasses.replace(its.container, phase=phase)))
    return found


def sandboxes(reached: Reached) -> tuple[events.Pod, ...]:
    """The pods that the runtime has."""
    return tuple(its.pod for name, its in MEMBERS.items() if 0 < reached[name] <= LIFE.index("stop_pod"))


def full_list(reached: Reached) -> events.Synchronized:
    """All that the runtime has."""
    return events.Synchronized(
        pods=sandboxes(reached), containers=tuple(container for _, container in there(reached))
    )


async def deliver(made: node.Node, told: Iterable[Told], lists: Sequence[events.Synchronized] = ()) -> None:
    """Tell the agent; every `list` takes the next of `lists`. Refusals are as good as answers here."""
    rest = list(lists)
    for kind, name in told:
        if kind == "list":
            made.agent.synchronized(rest.pop(0), node.PEER)
            continue
        try:
            await _tell(made, kind, MEMBERS[name])
        except errors.Refused:
            continue


async def _tell(made: node.Node, kind: str, its: Member) -> None:
    pod, container, agent = its.pod, its.container, made.agent
    match kind:
        case "run":
            agent.pod_started(events.PodStarted(pod=pod))
        case "create":
            await made.create(pod, container)
        case "start":
            await made.start(pod, dataclasses.replace(container, phase=events.Phase.CREATED))
        case "update":
            answer = agent.update(
                events.ContainerUpdating(pod=pod, container=container, limits=events.CpuLimits(), cpus="")
            )
            if not isinstance(answer, tuple):
                await answer
        case "stop":
            agent.stopped(events.ContainerStopped(pod=pod, container=container))
        case "remove":
            agent.removed(events.ContainerRemoved(pod=pod, container=container))
        case "stop_pod":
            agent.pod_stopped(events.PodStopped(sandbox=pod.sandbox))
        case "remove_pod":
            agent.pod_removed(events.PodRemoved(sandbox=pod.sandbox))
        case _:
            raise AssertionError(kind)
