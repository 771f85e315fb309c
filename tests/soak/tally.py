"""Counts what sequences reach, so that nobody takes silence for a proof."""

from __future__ import annotations

from collections import Counter

from reconciler import events, intent, plan
from reconciler.daemon import transaction, walk
from reconciler.policy import state

_ANNOTATED = (intent.Kind.ANNOTATED_EXCLUSIVE, intent.Kind.ANNOTATED_SHARED)


def moves(reached: Counter[str], step: transaction.Transaction) -> None:
    """A creation that moves others: one, several, or others than those in the way."""
    reached["moves"] += 1
    reached["moves of several"] += len(step.moves) > 1
    container = step.after.inventory.containers[step.id_]
    wanted = step.after.ledger.intents[container.id].cpus
    reached["chains of moves"] += any(move.before.isdisjoint(wanted) for move in step.moves)


def granted(
    reached: Counter[str],
    before: state.State,
    after: state.State,
    event: events.ContainerCreating,
    what: intent.Intent,
) -> None:
    """A creation that was granted: whose CPUs it has got."""
    if what.kind in _ANNOTATED:
        reached["lists that overlap"] += bool(state.overlapping(after.ledger.claims))
    if what.kind in _ANNOTATED and what.own_list:
        reached["granted to a container's own list"] += 1
    if what.kind is not intent.Kind.INTEGER:
        return
    key = state.claim_key(event.pod, event.container, what)
    had = before.ledger.claims.get(key)
    cpus = after.ledger.claims[key].cpus
    if had is not None:
        reached["the next attempt has its CPUs"] += 1
    elif before.ledger.former.get(state.former_key(event.pod, event.container)) == cpus:
        reached["former CPUs given back"] += 1
    elif not cpus.isdisjoint(before.ledger.exclusive):
        reached["CPUs lent within a pod"] += 1


def resized(
    reached: Counter[str], before: state.State, after: state.State, event: events.ContainerUpdating
) -> None:
    """A resize that was carried out, by its kind."""
    id_ = event.container.id
    old, new = before.ledger.intents[id_], after.ledger.intents[id_]
    if old.kind is not new.kind:
        reached[f"resize from {old.kind.value} to {new.kind.value}"] += 1
    elif new.count != old.count:
        reached["resize grows" if new.count > old.count else "resize shrinks"] += 1


def passed(reached: Counter[str], done: walk.Done) -> None:
    """A pass: its writes by phase, and what became of them."""
    for result in done.results:
        reached["writes"] += 1
        reached["writes that failed"] += result.error is not None
        reached["writes held up"] += result.blocked
        reached["writes to vanished groups"] += result.gone
        reached[f"writes to {result.write.phase.value}"] += 1
    reached["starts held up"] += any(done.verdicts.values())
    reached["passes"] += 1
    reached["plans of all phases"] += {its.write.phase for its in done.results} == set(plan.Phase)


def terms(reached: Counter[str], now: state.State) -> None:
    """The node's CPUs after they changed: who is short of some."""
    online = now.terms.topology.online
    for claim in now.ledger.claims.values():
        if claim.cpus.isdisjoint(online):
            reached["claims without a CPU"] += 1
        elif not claim.cpus <= online:
            reached["short claims"] += 1
    reached["nodes without a CPU"] += any(not node.cpus for node in now.terms.topology.nodes)
    reached["an empty pool"] += not now.pool
