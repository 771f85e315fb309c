"""Stage 2: who is on this node. `reduce(Inventory, Event) -> Inventory`; pure, persistent, idempotent.

A change costs the same whatever the number of containers: the maps are persistent hash tries, and an
older inventory stays valid, so that a refused request is undone by forgetting its result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from rpds import HashTrieMap

from reconciler import events

PAUSE = "POD"
"""Name of a sandbox's pause container, as kubelet writes it; no container can be called so (it is not a
DNS label)."""

_NOBODY: frozenset[events.ContainerId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Pods by sandbox, containers by id (pause containers among them), and who belongs to which pod."""

    pods: HashTrieMap[events.SandboxId, events.Pod] = field(default_factory=HashTrieMap)
    containers: HashTrieMap[events.ContainerId, events.Container] = field(default_factory=HashTrieMap)
    members: HashTrieMap[events.SandboxId, frozenset[events.ContainerId]] = field(default_factory=HashTrieMap)

    def attempts(self, sandbox: events.SandboxId, name: str) -> Iterator[events.Container]:
        """The attempts of the container called `name` that the runtime still has a record of."""
        for member in self.members.get(sandbox, _NOBODY):
            container = self.containers[member]
            if container.name == name:
                yield container

    def sandboxes(self, uid: events.PodUid) -> Iterator[events.SandboxId]:
        """The sandboxes of one pod; more than one while its sandbox is being recreated."""
        return (sandbox for sandbox, pod in self.pods.items() if pod.uid == uid)


def reduce(inventory: Inventory, event: events.Event) -> Inventory:  # noqa: PLR0911  one a kind
    """The inventory after `event`. Unknown ids are adopted by what still runs, ignored by what ends."""
    match event:
        case events.Synchronized(pods=pods, containers=containers):
            return _synchronized(pods, containers)
        case events.PodStarted(pod=pod):
            return _with_pod(inventory, pod)
        case events.PodStopped(sandbox=sandbox) | events.PodRemoved(sandbox=sandbox):
            return _without_pod(inventory, sandbox)
        case events.ContainerCreating(pod=pod, container=container):
            return _with_container(inventory, pod, container)
        case events.ContainerStarting(pod=pod, container=container):
            running = dataclasses.replace(container, phase=events.Phase.RUNNING)
            return _with_container(inventory, pod, running)
        case events.ContainerUpdating(pod=pod, container=container, limits=limits):
            known = inventory.containers.get(container.id, container)
            resized = dataclasses.replace(known, limits=known.limits.changed(limits))
            return _with_container(inventory, pod, resized)
        case events.ContainerStopped(container=container):
            return _stopped(inventory, container.id)
        case events.ContainerRemoved(container=container):
            return _without_container(inventory, container.id)


def _synchronized(pods: tuple[events.Pod, ...], containers: tuple[events.Container, ...]) -> Inventory:
    inventory = Inventory()
    by_sandbox = {}
    for pod in pods:
        by_sandbox[pod.sandbox] = pod
        inventory = _with_pod(inventory, pod)
    for container in containers:
        # A container without its pod has no annotations to judge it by; it is adopted at its next event.
        if (its_pod := by_sandbox.get(container.sandbox)) is not None:
            inventory = _with_container(inventory, its_pod, container)
    return inventory


def _with_pod(inventory: Inventory, pod: events.Pod) -> Inventory:
    if inventory.pods.get(pod.sandbox) == pod:
        return inventory
    inventory = dataclasses.replace(inventory, pods=inventory.pods.insert(pod.sandbox, pod))
    if pod.cgroup is None:
        return inventory
    pause = events.Container(
        id=events.ContainerId(pod.sandbox),
        sandbox=pod.sandbox,
        name=PAUSE,
        cgroup=pod.cgroup,
        limits=events.CpuLimits(),
        phase=events.Phase.RUNNING,
    )
    return _insert(inventory, pause)


def _with_container(inventory: Inventory, pod: events.Pod, container: events.Container) -> Inventory:
    if pod.sandbox not in inventory.pods:
        inventory = _with_pod(inventory, pod)
    return _insert(inventory, container)


def _insert(inventory: Inventory, container: events.Container) -> Inventory:
    known = inventory.members.get(container.sandbox, _NOBODY)
    members = inventory.members
    if container.id not in known:
        members = members.insert(container.sandbox, known | {container.id})
    return Inventory(
        pods=inventory.pods,
        containers=inventory.containers.insert(container.id, container),
        members=members,
    )


def _stopped(inventory: Inventory, id_: events.ContainerId) -> Inventory:
    container = inventory.containers.get(id_)
    if container is None:
        return inventory
    stopped = dataclasses.replace(container, phase=events.Phase.STOPPED)
    return dataclasses.replace(inventory, containers=inventory.containers.insert(id_, stopped))


def _without_container(inventory: Inventory, id_: events.ContainerId) -> Inventory:
    container = inventory.containers.get(id_)
    if container is None:
        return inventory
    left = inventory.members[container.sandbox] - {id_}
    members = inventory.members
    return dataclasses.replace(
        inventory,
        containers=inventory.containers.remove(id_),
        members=members.insert(container.sandbox, left) if left else members.remove(container.sandbox),
    )


def _without_pod(inventory: Inventory, sandbox: events.SandboxId) -> Inventory:
    containers = inventory.containers
    for member in inventory.members.get(sandbox, _NOBODY):
        containers = containers.remove(member)
    return Inventory(
        pods=inventory.pods.discard(sandbox),
        containers=containers,
        members=inventory.members.discard(sandbox),
    )
