"""What each event does to the ledger: creation, start-up, endings and second chances. Pure.

`admit` answers a creation and may refuse it. Everything else absorbs what has happened already, and
never refuses: what cannot be satisfied stays on the shared pool and is reported (PRD 5).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Set
from typing import assert_never

from reconciler import errors, events, intent, inventory
from reconciler.cpu.idset import CpuSet
from reconciler.policy import claims, desired, integer, restoring, state

_ADOPTION_ORDER = {
    intent.Kind.ANNOTATED_EXCLUSIVE: 0,
    intent.Kind.ANNOTATED_SHARED: 1,
    intent.Kind.INTEGER: 2,
    intent.Kind.SHARED: 3,
    intent.Kind.UNMANAGED: 3,
}


def admit(
    now: state.State, event: events.ContainerCreating
) -> tuple[state.State, desired.Placement, intent.Intent]:
    """The state in which the container exists, where it runs, and why. Raises Refused; then `now` holds.

    Constant cost for a shared container; linear in the claims for others.
    """
    what = intent.decide(event.pod, event.container, now.terms.config)
    if what.kind is intent.Kind.SHARED:
        if what.forbidden or not now.pool:
            claims.check_shared(now, what)
        ledger = now.ledger
    else:
        ledger = claims.grant(now, event.pod, event.container, what)
    after = state.State(
        terms=now.terms,
        inventory=inventory.reduce(now.inventory, event),
        ledger=_with_pause(ledger, event.pod, now.terms).with_intent(event.container.id, what),
    )
    return after, desired.place(after, event.pod, event.container, what), what


def absorb(
    now: state.State, event: events.Event, alive: Set[events.ContainerId] = inventory.NOBODY
) -> state.State:
    """The state after an event that reports what has happened.

    `alive` are containers of which a process is alive: if the event ends one, what it holds goes on until
    an event of its end comes without that (PRD 6.8).
    """
    if alive:
        now = _content(now, alive)
    after = dataclasses.replace(now, inventory=inventory.reduce(now.inventory, event, alive))
    match event:
        case events.Synchronized():
            return _forget_the_absent(after)
        case events.PodStarted(pod=pod):
            return dataclasses.replace(after, ledger=_with_pause(after.ledger, pod, now.terms))
        case events.PodStopped(sandbox=sandbox) | events.PodRemoved(sandbox=sandbox):
            return _pod_ended(now, after, sandbox)
        case events.ContainerCreating() | events.ContainerStarting() | events.ContainerUpdating():
            return _adopt_one(after, event.pod, event.container)
        case (
            events.ContainerStopped(pod=pod, container=container)
            | events.ContainerRemoved(pod=pod, container=container)
        ):
            return _ended(now, after, pod, container)
        case _ as never:
            assert_never(never)


def _content(now: state.State, ids: Set[events.ContainerId]) -> state.State:
    """The state in which these are owed nothing any more."""
    ledger = now.ledger
    for id_ in ids:
        ledger = ledger.with_unsatisfied(id_, "")
    return dataclasses.replace(now, ledger=ledger)


def adopt(now: state.State, running_on: Mapping[events.ContainerId, CpuSet]) -> state.State:
    """The state after start-up: every container of the inventory has an intent, and a claim if it can.

    `running_on` are the CPUs that containers' own cgroups ask for. Claims that are held already stay, unless
    `restoring.catch_up` finds that they were moved; whoever has an intent and no claim keeps the intent. Then
    whoever runs on what it is entitled to keeps it: lists in force, then integer containers on valid CPUs,
    first those of another size than their claim. Then the other lists, and integer containers that need other
    CPUs. In order of ids, so that the same node gives the same result.
    """
    new = sorted(_without_place(now), key=lambda its: (_ADOPTION_ORDER[its[2].kind], its[1].id))
    in_force = {
        its.id: cpus
        for _, its, what in new
        if (cpus := running_on.get(its.id)) and (cpus == what.cpus or len(cpus) == what.count)
    }
    now = restoring.catch_up(now, in_force.values(), running_on)
    keeping, others = [], []
    for pod, container, what in new:
        if running_on.get(container.id) and what.kind is intent.Kind.INTEGER:
            keeping.append((pod, container, what))
        elif container.id in in_force:
            now = _take_over(now, pod, container, what)
        else:
            others.append((pod, container, what))
    for pod, container, what in sorted(keeping, key=lambda its: state.claim_of(now.ledger, *its) is None):
        kept = integer.take_as_is(now, pod, container, what, running_on[container.id])
        if kept is None:
            others.append((pod, container, what))
        else:
            ledger = kept.with_unsatisfied(container.id, "")
            now = _known(dataclasses.replace(now, ledger=ledger), pod, container, what)
    for pod, container, what in others:
        now = _take_over(now, pod, container, what)
    return now


_Candidate = tuple[events.Pod, events.Container, intent.Intent]


def _without_place(now: state.State) -> Iterator[_Candidate]:
    """Containers that have no intent yet, or lack the claim that theirs entitles them to.

    What merely lingers is entitled to what it has.
    """
    for id_, container in now.inventory.containers.items():
        if id_ in now.inventory.leftovers.lingering:
            continue
        pod = now.pod_of(container)
        what = now.ledger.intents.get(id_)
        if what is None:
            yield pod, container, intent.decide(pod, container, now.terms.config)
        elif what.kind in intent.CLAIMING and state.claim_of(now.ledger, pod, container, what) is None:
            yield pod, container, what


def retry(now: state.State) -> state.State:
    """The state in which unsatisfied containers have what has become possible since."""
    for id_ in sorted(now.ledger.unsatisfied):
        container = now.inventory.containers.get(id_)
        if container is None or now.inventory.has_ended(container):
            now = dataclasses.replace(now, ledger=now.ledger.with_unsatisfied(id_, ""))
        else:
            now = _settle(now, now.pod_of(container), container, now.ledger.intents[id_])
    return now


def _with_pause(ledger: state.Ledger, pod: events.Pod, terms: state.Terms) -> state.Ledger:
    """The ledger with the intent of the pod's pause container."""
    id_ = events.ContainerId(pod.sandbox)
    if pod.cgroup is None or id_ in ledger.intents:
        return ledger
    return ledger.with_intent(id_, intent.pause(pod, terms.config))


def _adopt_one(now: state.State, pod: events.Pod, container: events.Container) -> state.State:
    if container.id in now.ledger.intents:
        return now
    return _take_over(now, pod, container, intent.decide(pod, container, now.terms.config))


def _take_over(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.State:
    now = _known(now, pod, container, what)
    return now if container.name == inventory.PAUSE else _settle(now, pod, container, what)


def _known(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.State:
    """The state in which the container has this intent; a pause container has its own."""
    ledger = _with_pause(now.ledger, pod, now.terms)
    if container.name != inventory.PAUSE:
        ledger = ledger.with_intent(container.id, what)
    return dataclasses.replace(now, ledger=ledger)


def _settle(
    now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent
) -> state.State:
    """Grants what can be granted to a container that exists already; reports what cannot."""
    ledger = now.ledger
    why = ""
    try:
        if what.kind is intent.Kind.SHARED:
            claims.check_shared(now, what)
        else:
            ledger = claims.grant(now, pod, container, what)
    except errors.Refused as refused:
        why = str(refused)
    return dataclasses.replace(now, ledger=ledger.with_unsatisfied(container.id, why))


def _forget_the_absent(now: state.State) -> state.State:
    """Drops what a full list no longer has: attempts that are gone, claims whose pod is gone.

    A claim whose container is merely down stays: the runtime lists no exited containers.
    """
    ledger = now.ledger
    for id_ in ledger.intents:
        if id_ not in now.inventory.containers:
            ledger = ledger.without_container(id_)
    ended = now.inventory.leftovers.ended
    present = {pod.uid for sandbox, pod in now.inventory.pods.items() if sandbox not in ended}
    for key in ledger.claims:
        if key.uid not in present:
            ledger = _with_those_left(ledger, now.inventory, key)
    return dataclasses.replace(now, ledger=ledger)


def _with_those_left(ledger: state.Ledger, known: inventory.Inventory, key: state.ClaimKey) -> state.Ledger:
    """The ledger in which a claim, whose pod has ended, is held only by those that linger and run on it."""
    claim = ledger.claims[key]
    left = known.lingering(key.uid)
    holders = frozenset(
        its.name
        for its in left
        if state.claim_of(ledger, known.pods[its.sandbox], its, ledger.intents[its.id]) is claim
    )
    if not holders:
        return ledger.with_ended(key)
    return ledger if holders == claim.holders else ledger.with_claim(claim.held_by(holders))


def _pod_ended(before: state.State, now: state.State, sandbox: events.SandboxId) -> state.State:
    ledger = now.ledger
    for member in before.inventory.members.get(sandbox, frozenset()):
        if member not in now.inventory.containers:
            ledger = ledger.without_container(member)
    pod = before.inventory.pods.get(sandbox)
    if pod is not None and not now.inventory.has_pod(pod.uid):
        ledger = _after_pod(ledger, now.inventory, pod.uid)
    return dataclasses.replace(now, ledger=ledger)


def _after_pod(ledger: state.Ledger, known: inventory.Inventory, uid: events.PodUid) -> state.Ledger:
    """The ledger after a pod's end."""
    for key in [key for key in ledger.claims if key.uid == uid]:
        ledger = _with_those_left(ledger, known, key)
    return ledger


def _ended(
    before: state.State, now: state.State, pod: events.Pod, container: events.Container
) -> state.State:
    """If its record is gone, so is its claim, unless another attempt of that name exists; if its pod has
    ended, so have all claims that nothing which lingers runs on.

    An id that was never known (a refused creation) takes nothing with it, nor does one that lingers.
    """
    if container.id not in before.inventory.containers or container.id in now.inventory.containers:
        return now
    what = before.ledger.intents.get(container.id)
    ledger = now.ledger.without_container(container.id)
    if not now.inventory.has_pod(pod.uid):
        return dataclasses.replace(now, ledger=_after_pod(ledger, now.inventory, pod.uid))
    attempts = (
        attempt
        for sandbox in now.inventory.sandboxes(pod.uid)
        for attempt in now.inventory.attempts(sandbox, container.name)
    )
    if what is not None and next(attempts, None) is None:
        ledger = _without_holder(ledger, state.claim_key(pod, container, what), container.name)
    return dataclasses.replace(now, ledger=ledger)


def _without_holder(ledger: state.Ledger, key: state.ClaimKey, name: str) -> state.Ledger:
    claim = ledger.claims.get(key)
    if claim is None:
        return ledger
    holders = claim.holders - {name}
    if holders:
        return ledger.with_claim(claim.held_by(holders))
    return ledger.with_ended(key)
