"""Stage 2: who is on this node. `reduce(Inventory, Event) -> Inventory`; pure, persistent, idempotent.

A change costs the same whatever the number of containers: the maps are persistent hash tries, and an
older inventory stays valid, so that a refused request is undone by forgetting its result.

What has ended for the runtime though a process of it is alive stays, as a leftover: it can run on CPUs like
anyone else (PRD 6.8, ADR 0024).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from rpds import HashTrieMap

from reconciler import events, leftovers

PAUSE = "POD"
"""Name of a sandbox's pause container, as kubelet writes it; no container can be called so (it is not a
DNS label)."""

NOBODY = leftovers.NOBODY
_NONE = leftovers.Leftovers()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Pods by sandbox, containers by id (pause containers among them), and who belongs to which pod."""

    pods: HashTrieMap[events.SandboxId, events.Pod] = field(default_factory=HashTrieMap)
    containers: HashTrieMap[events.ContainerId, events.Container] = field(default_factory=HashTrieMap)
    members: HashTrieMap[events.SandboxId, frozenset[events.ContainerId]] = field(default_factory=HashTrieMap)
    leftovers: leftovers.Leftovers = _NONE

    def attempts(self, sandbox: events.SandboxId, name: str) -> Iterator[events.Container]:
        """The attempts of the container called `name` that the runtime has a record of, or that linger."""
        for member in self.members.get(sandbox, NOBODY):
            container = self.containers[member]
            if container.name == name:
                yield container

    def sandboxes(self, uid: events.PodUid) -> Iterator[events.SandboxId]:
        """The sandboxes of one pod; more than one while its sandbox is being recreated, or one lingers."""
        return (sandbox for sandbox, pod in self.pods.items() if pod.uid == uid)

    def has_pod(self, uid: events.PodUid) -> bool:
        """Whether the runtime has a sandbox of the pod."""
        return any(sandbox not in self.leftovers.ended for sandbox in self.sandboxes(uid))

    def has_ended(self, container: events.Container) -> bool:
        """Whether a container has ended for the runtime, though it may linger."""
        return container.phase is events.Phase.STOPPED or container.id in self.leftovers.lingering

    def lingering(self, uid: events.PodUid) -> Iterator[events.Container]:
        """The pod's containers that linger, in whichever sandbox."""
        left = (self.containers[id_] for id_ in self.leftovers.lingering)
        return (its for its in left if self.pods[its.sandbox].uid == uid)


def ended_by(inventory: Inventory, event: events.Event) -> Iterator[events.Container]:
    """The containers that have ended as `event` says; those that had exited before are not among them."""
    ids: Iterable[events.ContainerId] = ()
    match event:
        case events.ContainerStopped(container=container) | events.ContainerRemoved(container=container):
            ids = (container.id,)
        case events.PodStopped(sandbox=sandbox) | events.PodRemoved(sandbox=sandbox):
            ids = inventory.members.get(sandbox, NOBODY)
        case events.Synchronized(pods=pods, containers=containers):
            sandboxes = {pod.sandbox for pod in pods}
            listed = {its.id for its in containers if its.sandbox in sandboxes}
            listed |= {events.ContainerId(sandbox) for sandbox in sandboxes}
            ids = (id_ for id_ in inventory.containers if id_ not in listed)
        case _:
            pass
    for id_ in ids:
        its = inventory.containers.get(id_)
        if its is not None and its.phase is not events.Phase.STOPPED:
            yield its


def seen(inventory: Inventory, pids: Mapping[events.ContainerId, int]) -> Inventory:
    """The inventory in which these processes were seen of containers that linger."""
    left = inventory.leftovers.with_seen(pids)
    return inventory if left is inventory.leftovers else dataclasses.replace(inventory, leftovers=left)


def reduce(  # noqa: PLR0911  one a kind
    inventory: Inventory, event: events.Event, alive: Set[events.ContainerId] = NOBODY
) -> Inventory:
    """The inventory after `event`. Unknown ids are adopted by what still runs, ignored by what ends.

    `alive` are containers of which a process is alive: they stay, whatever the event says.
    """
    match event:
        case events.Synchronized(pods=pods, containers=containers):
            return _synchronized(inventory, pods, containers, alive)
        case events.PodStarted(pod=pod):
            return _with_pod(inventory, pod)
        case events.PodStopped(sandbox=sandbox) | events.PodRemoved(sandbox=sandbox):
            return _without_pod(inventory, sandbox, alive)
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
            return _stopped(inventory, container.id, alive)
        case events.ContainerRemoved(container=container):
            return _without_container(inventory, container.id, alive)


def _synchronized(
    before: Inventory,
    pods: tuple[events.Pod, ...],
    containers: tuple[events.Container, ...],
    alive: Set[events.ContainerId],
) -> Inventory:
    inventory = Inventory()
    by_sandbox = {}
    for pod in pods:
        by_sandbox[pod.sandbox] = pod
        inventory = _with_pod(inventory, pod)
    for container in containers:
        # A container without its pod has no annotations to judge it by; it is adopted at its next event.
        if (its_pod := by_sandbox.get(container.sandbox)) is not None:
            inventory = _with_container(inventory, its_pod, container)
    for id_ in alive:
        its = before.containers.get(id_)
        if its is not None and id_ not in inventory.containers:
            pod, forgotten = before.pods[its.sandbox], id_ in before.leftovers.forgotten
            inventory = _left_by_a_list(inventory, pod, its, by_sandbox, forgotten=forgotten)
    return inventory


def _left_by_a_list(
    inventory: Inventory,
    pod: events.Pod,
    container: events.Container,
    listed: Mapping[events.SandboxId, events.Pod],
    *,
    forgotten: bool,
) -> Inventory:
    """One whose pod is listed may have a record nevertheless: no list has those that have exited."""
    if pod.sandbox not in inventory.pods:
        inventory = dataclasses.replace(inventory, pods=inventory.pods.insert(pod.sandbox, pod))
    inventory = _insert(inventory, container)
    if pod.sandbox in listed:
        return _lingers(inventory, {container.id}, forgotten=forgotten)
    return _lingers(inventory, {container.id}, forgotten=True, ended=pod.sandbox)


def _lingers(
    inventory: Inventory,
    ids: Set[events.ContainerId],
    *,
    forgotten: bool = False,
    ended: events.SandboxId | None = None,
) -> Inventory:
    left = inventory.leftovers.with_lingering(ids, forgotten=forgotten, ended=ended)
    return dataclasses.replace(inventory, leftovers=left)


def _with_pod(inventory: Inventory, pod: events.Pod) -> Inventory:
    if pod.sandbox in inventory.leftovers.ended:
        left = inventory.leftovers.without_pod(pod.sandbox)
        inventory = dataclasses.replace(inventory, leftovers=left)
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
    if pod.sandbox not in inventory.pods or pod.sandbox in inventory.leftovers.ended:
        inventory = _with_pod(inventory, pod)
    return _insert(inventory, container)


def _insert(inventory: Inventory, container: events.Container) -> Inventory:
    known = inventory.members.get(container.sandbox, NOBODY)
    members = inventory.members
    before = inventory.containers.get(container.id)
    if before is not None and before.sandbox != container.sandbox:
        # A runtime that tells of an id again under another sandbox: it is in that one alone.
        members = members.insert(before.sandbox, members[before.sandbox] - {container.id})
    if container.id not in known:
        members = members.insert(container.sandbox, known | {container.id})
    return Inventory(
        pods=inventory.pods,
        containers=inventory.containers.insert(container.id, container),
        members=members,
        leftovers=inventory.leftovers.without(container.id),
    )


def _stopped(inventory: Inventory, id_: events.ContainerId, alive: Set[events.ContainerId]) -> Inventory:
    container = inventory.containers.get(id_)
    if container is None:
        return inventory
    if id_ in alive:
        return _lingers(inventory, {id_})
    if id_ in inventory.leftovers.forgotten:
        return _without_container(inventory, id_, alive)
    stopped = dataclasses.replace(container, phase=events.Phase.STOPPED)
    return _insert(inventory, stopped)


def _without_container(
    inventory: Inventory, id_: events.ContainerId, alive: Set[events.ContainerId]
) -> Inventory:
    container = inventory.containers.get(id_)
    if container is None:
        return inventory
    if id_ in alive:
        return _lingers(inventory, {id_}, forgotten=True)
    sandbox = container.sandbox
    left = inventory.members[sandbox] - {id_}
    members = inventory.members
    inventory = dataclasses.replace(
        inventory,
        containers=inventory.containers.remove(id_),
        members=members.insert(sandbox, left) if left else members.remove(sandbox),
        leftovers=inventory.leftovers.without(id_),
    )
    if left or sandbox not in inventory.leftovers.ended:
        return inventory
    return _without_pod(inventory, sandbox, alive)


def _without_pod(
    inventory: Inventory, sandbox: events.SandboxId, alive: Set[events.ContainerId]
) -> Inventory:
    """The inventory without a sandbox, but for its containers that are alive."""
    containers, left = inventory.containers, inventory.leftovers
    members = inventory.members.get(sandbox, NOBODY)
    staying = members & alive
    for member in members - staying:
        containers = containers.remove(member)
        left = left.without(member)
    if staying:
        inventory = dataclasses.replace(
            inventory,
            containers=containers,
            members=inventory.members.insert(sandbox, staying),
            leftovers=left,
        )
        return _lingers(inventory, staying, forgotten=True, ended=sandbox)
    return Inventory(
        pods=inventory.pods.discard(sandbox),
        containers=containers,
        members=inventory.members.discard(sandbox),
        leftovers=left.without_pod(sandbox),
    )
