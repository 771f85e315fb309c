"""Real names in the place of those by which containers had to be known. Pure. ADR 0019.

While no runtime answers, a container is known by its id, or by the name of one in whose place it seems to
have come. The next list tells its name, and its pod's annotations; what it holds becomes its own under that
name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from reconciler import events, intent, inventory
from reconciler.policy import state


class _Renamed(NamedTuple):
    """A container whose name, or whose pod's names or annotations, a list tells otherwise."""

    before: events.Container
    pod_before: events.Pod
    container: events.Container
    pod: events.Pod


def is_named(pod: events.Pod) -> bool:
    """Whether more of the pod is known than its cgroup: every pod of Kubernetes has a namespace."""
    return pod.namespace != ""


def renamed(now: state.State, before: inventory.Inventory) -> state.State:
    """The state, after a full list, in which claims are under the names that the list tells.

    `before` is who was known by which name. Nobody moves for another name. Where annotations that were not
    known say otherwise, the intent is forgotten, and a claim that does not go with them ends, so that the
    adoption judges anew. Linear in the containers.
    """
    changed = tuple(_changed(now.inventory, before))
    ledger = now.ledger
    carried: list[state.Claim] = []
    for its in changed:
        what = ledger.intents.get(its.container.id)
        if what is None:
            continue
        due = _due(its, now.terms)
        key = state.claim_key(its.pod_before, its.before, what)
        claim = now.ledger.claims.get(key) if what.kind in intent.CLAIMING else None
        if claim is not None:
            ledger = _without_holder(ledger, key, its.before.name)
            if _goes_with(claim, what, due):
                carried.append(_under_name(claim, its, due))
        id_ = its.container.id
        ledger = ledger.with_intent(id_, due) if _is_same(what, due) else ledger.without_container(id_)
    for claim in carried:
        ledger = _with_holder(ledger, claim)
    return dataclasses.replace(now, ledger=_with_pods_named(ledger, now.inventory))


def _changed(now: inventory.Inventory, before: inventory.Inventory) -> Iterator[_Renamed]:
    for id_, container in now.containers.items():
        if (was := before.containers.get(id_)) is None:
            continue
        its = _Renamed(was, before.pods[was.sandbox], container, now.pods[container.sandbox])
        if was.name != container.name or _said(its.pod_before) != _said(its.pod):
            yield its


def _said(pod: events.Pod) -> tuple[object, ...]:
    """What decides about a pod's containers."""
    return pod.namespace, pod.name, pod.annotations


def _due(its: _Renamed, terms: state.Terms) -> intent.Intent:
    if its.container.name == inventory.PAUSE:
        return intent.pause(its.pod, terms.config)
    return intent.decide(its.pod, its.container, terms.config)


def _is_same(what: intent.Intent, due: intent.Intent) -> bool:
    """Whether nothing but sentences differs."""
    return dataclasses.replace(due, why=what.why, warning=what.warning) == what


def _goes_with(claim: state.Claim, what: intent.Intent, due: intent.Intent) -> bool:
    """Whether the claim that one intent gave may be held by the other."""
    if due.kind is intent.Kind.INTEGER:
        return what.kind is due.kind and claim.cpus.isdisjoint(due.forbidden)
    return what.kind is due.kind and (what.cpus, what.own_list) == (due.cpus, due.own_list)


def _under_name(claim: state.Claim, its: _Renamed, due: intent.Intent) -> state.Claim:
    return dataclasses.replace(
        claim,
        key=state.claim_key(its.pod, its.container, due),
        holders=frozenset({its.container.name}),
        forbidden=due.forbidden if due.kind is intent.Kind.INTEGER else claim.forbidden,
    )


def _without_holder(ledger: state.Ledger, key: state.ClaimKey, name: str) -> state.Ledger:
    claim = ledger.claims.get(key)
    if claim is None or not (left := claim.holders - {name}):
        return ledger.without_claim(key)
    return ledger.with_claim(dataclasses.replace(claim, holders=left))


def _with_holder(ledger: state.Ledger, claim: state.Claim) -> state.Ledger:
    """The ledger in which a claim is held by one more. A container's own takes the place of what an attempt
    that is down has left."""
    held = ledger.claims.get(claim.key)
    if held is not None and claim.key.name == "":
        claim = dataclasses.replace(held, holders=held.holders | claim.holders)
    return ledger.with_claim(claim)


def _with_pods_named(ledger: state.Ledger, now: inventory.Inventory) -> state.Ledger:
    """The ledger in which every claim says what its pod is called."""
    names = {pod.uid: f"{pod.namespace}/{pod.name}" for pod in now.pods.values()}
    for key, claim in ledger.claims.items():
        if (name := names.get(key.uid, claim.pod)) != claim.pod:
            ledger = ledger.with_claim(dataclasses.replace(claim, pod=name))
    return ledger
