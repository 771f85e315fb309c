"""Target: bytes on the disk become a ledger that can be gone on with, or are set aside as Unusable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from reconciler import events, inventory
from reconciler.policy import checkpoint, restoring, state
from reconciler.sim import machine
from tests.pipeline import samples

Decode = Callable[[bytes], checkpoint.Saved]
_NODE = samples.fresh(machine.Shape(sockets=1, cores=4, threads=2))


def check(data: bytes, decode: Decode = checkpoint.decode) -> None:
    """What decodes encodes, decodes to the same again, and fits the machine without two on one CPU."""
    try:
        saved = decode(data)
    except checkpoint.Unusable as unusable:
        assert unusable.reason in ("damaged", "newer", "foreign")
        assert str(unusable).startswith("checkpoint")
        return
    now = state.State(terms=_NODE.terms, inventory=saved.inventory, ledger=saved.ledger)
    again = decode(b"".join(checkpoint.encode(now, saved.origin)))
    assert again.origin == saved.origin
    assert again.ledger == saved.ledger
    assert again.online == _NODE.terms.topology.online
    assert dict(again.inventory.pods) == dict(saved.inventory.pods)
    assert dict(again.inventory.containers) == _named(saved.inventory)
    assert again.shares == {
        id_: its.limits.shares
        for id_, its in again.inventory.containers.items()
        if its.limits.shares is not None
    }
    _check_unions(saved.ledger)
    _check_fit(saved.ledger)


def _named(its: inventory.Inventory) -> dict[events.ContainerId, events.Container]:
    """The containers that are written by name: no container can have the name of pause containers."""
    return {id_: known for id_, known in its.containers.items() if known.name != inventory.PAUSE}


def _check_unions(ledger: state.Ledger) -> None:
    exclusive = {cpu for claim in ledger.claims.values() if claim.exclusive for cpu in claim.cpus}
    pinned = {cpu for claim in ledger.claims.values() if not claim.exclusive for cpu in claim.cpus}
    assert (set(ledger.exclusive), set(ledger.pinned)) == (exclusive, pinned)


def _check_fit(ledger: state.Ledger) -> None:
    """No CPU is held twice, none that the machine has not, and every claim is kept or said to be dropped."""
    kept, misfits = restoring.fit(ledger, _NODE.terms)
    _check_unions(kept)
    exclusive = [cpu for claim in kept.claims.values() if claim.exclusive for cpu in claim.cpus]
    assert len(exclusive) == len(set(exclusive))
    assert not set(exclusive) & set(kept.pinned)
    assert set(exclusive) | set(kept.pinned) <= set(_NODE.terms.topology.online)
    assert sorted([*kept.claims, *(misfit.claim.key for misfit in misfits)]) == sorted(ledger.claims)
    restoring.confirm(dataclasses.replace(_NODE, ledger=kept), {})
