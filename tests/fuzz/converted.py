"""What every event made of a peer's bytes must be: well-formed, digestible, and fit for a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from rpds import HashTrieMap

from reconciler import events, intent, inventory
from reconciler.config import schema
from reconciler.policy import checkpoint, state
from reconciler.runtime import conversion
from reconciler.sim import machine
from tests.pipeline import samples

_NODE = samples.fresh(machine.Shape(sockets=1, cores=4))
_PHASES = {
    events.ContainerCreating: {events.Phase.CREATING, events.Phase.CREATED},
    events.ContainerStopped: {events.Phase.STOPPED},
}


class Taken:
    """Takes events as the agent does and checks each; keeps the inventory."""

    def __init__(self) -> None:
        self.inventory = inventory.Inventory()

    def take(self, event: events.Event) -> None:
        """Check the event and what follows from it."""
        for pod in _pods(event):
            _check_cgroup(pod.cgroup)
            assert all(key.startswith(conversion.ANNOTATIONS) for key in pod.annotations)
        for container in _containers(event):
            assert container.id
            _check_cgroup(container.cgroup)
        if isinstance(event, events.ContainerCreating | events.ContainerStopped):
            assert event.container.phase in _PHASES[type(event)]
        self.inventory = inventory.reduce(self.inventory, event)
        _check_inventory(self.inventory)

    def check_saved(self) -> None:
        """All that is known can be written to a checkpoint and read again."""
        its = self.inventory
        intents = {
            id_: intent.decide(its.pods[container.sandbox], container, schema.Config())
            for id_, container in its.containers.items()
        }
        ledger = state.Ledger(intents=HashTrieMap(intents))
        now = dataclasses.replace(_NODE, inventory=its, ledger=ledger)
        saved = checkpoint.decode(b"".join(checkpoint.encode(now, checkpoint.Origin())))
        assert saved.ledger == ledger


def _pods(event: events.Event) -> Iterator[events.Pod]:
    match event:
        case events.Synchronized(pods=pods):
            yield from pods
        case events.PodStopped() | events.PodRemoved():
            return
        case _:
            yield event.pod


def _containers(event: events.Event) -> Iterator[events.Container]:
    match event:
        case events.Synchronized(containers=containers):
            yield from containers
        case events.PodStarted() | events.PodStopped() | events.PodRemoved():
            return
        case _:
            yield event.container


def _check_cgroup(path: str | None) -> None:
    """None, or a path that stays below the cgroup2 mount."""
    if path is None:
        return
    assert path
    assert path.isprintable()
    assert not {"", ".", ".."} & set(path.split("/"))


def _check_inventory(its: inventory.Inventory) -> None:
    """Every container is of a known pod, and is a member of that one alone."""
    members = [(id_, sandbox) for sandbox, ids in its.members.items() for id_ in ids]
    assert sorted(members) == sorted((id_, container.sandbox) for id_, container in its.containers.items())
    assert {sandbox for _, sandbox in members} <= set(its.pods)
