"""Taking back a decision that could not be carried out. Pure. PRD 4.8."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from reconciler import events, intent, inventory
from reconciler.policy import bounds, state

_Claims = Mapping[state.ClaimKey, state.Claim | None]
"""Claims as they were before the step; None where there was none."""


def revert(now: state.State, before: state.State, after: state.State, id_: events.ContainerId) -> state.State:
    """The state in which the step from `before` to `after`, about the container `id_`, was not made.

    What has changed again since stays as it is now. So does what cannot go back, because somebody has been
    granted the CPUs since or they are what is left of the pool: a container that was moved stays where it is
    to go, and one that was resized keeps its new size. Linear in the claims for each that was changed.
    """
    step = _Step(now, before, after, id_)
    back = step.back()
    ledger = _put_back(now.ledger, back).with_former(before.ledger.former)
    container = now.inventory.containers.get(id_)
    old = before.inventory.containers.get(id_)
    keeps_its_size = old is not None and not step.own <= back.keys()
    if container is None or keeps_its_size:
        return dataclasses.replace(now, ledger=ledger)
    pod = now.pod_of(container)
    event: events.Event
    if old is None:
        event = events.ContainerRemoved(pod=pod, container=container)
        ledger = ledger.without_container(id_)
    else:
        event = events.ContainerUpdating(pod=pod, container=container, limits=old.limits)
        ledger = ledger.with_intent(id_, before.ledger.intents[id_])
        ledger = ledger.with_unsatisfied(id_, before.ledger.unsatisfied.get(id_, ""))
    return dataclasses.replace(now, inventory=inventory.reduce(now.inventory, event), ledger=ledger)


class _Step:
    """What a step has changed and nobody has changed since. Lives for one call."""

    def __init__(
        self, now: state.State, before: state.State, after: state.State, id_: events.ContainerId
    ) -> None:
        self._now = now
        self._floor = dataclasses.replace(before, terms=now.terms)
        changed = {
            key: before.ledger.claims.get(key)
            for key in {*before.ledger.claims, *after.ledger.claims}
            if _is_as_left(now, before, after, key)
        }
        container = after.inventory.containers[id_]
        self._pod = after.pod_of(container)
        taken = frozenset(self._taken_since(before, id_))
        self._changed = {key: was for key, was in changed.items() if was is not None or key not in taken}
        keys = {
            state.claim_key(self._pod, container, what)
            for what in (before.ledger.intents.get(id_), after.ledger.intents.get(id_))
            if what is not None
        }
        self.own = {key for key in keys if before.ledger.claims.get(key) != after.ledger.claims.get(key)}
        """The claim that the step was about, if it changed it."""

    def _taken_since(self, before: state.State, id_: events.ContainerId) -> Iterator[state.ClaimKey]:
        """The claims that others of its pod have come to run on, as another attempt of it may have."""
        known = self._now.inventory
        for sandbox in known.sandboxes(self._pod.uid):
            for member in known.members.get(sandbox, inventory.NOBODY):
                what = self._now.ledger.intents.get(member)
                if what is None or what.kind not in intent.CLAIMING or member == id_:
                    continue
                if member not in before.inventory.containers:
                    yield state.claim_key(known.pods[sandbox], known.containers[member], what)

    def back(self) -> _Claims:
        """The claims that go back to what they were."""
        back = dict(self._changed)
        while stuck := self._stuck(back):
            for key in stuck:
                del back[key]
        return back

    def _stuck(self, back: _Claims) -> Collection[state.ClaimKey]:
        """Those that cannot go back, for somebody who does not has their CPUs; or the step's own, where the
        pool or the namespace cannot spare it."""
        staying = [claim for key, claim in self._now.ledger.claims.items() if key not in back]
        stuck = [
            key
            for key, was in back.items()
            if was is not None and any(self._conflict(was, claim) for claim in staying)
        ]
        if stuck:
            return stuck
        own = [key for key in self.own if back.get(key) is not None]
        if own and bounds.broken(self._floor, _put_back(self._now.ledger, back), self._pod):
            return own
        return ()

    def _conflict(self, was: state.Claim, other: state.Claim) -> bool:
        if was.cpus.isdisjoint(other.cpus) or not (was.exclusive or other.exclusive):
            return False
        may_overlap = self._now.terms.config.annotated_overlap == "allow"
        return intent.Kind.INTEGER in (was.kind, other.kind) or not may_overlap


def _is_as_left(now: state.State, before: state.State, after: state.State, key: state.ClaimKey) -> bool:
    """Whether the step changed the claim, and nobody since. One that it ended goes back to no one whose last
    record, or whose pod, has gone since."""
    became = after.ledger.claims.get(key)
    if before.ledger.claims.get(key) == became or now.ledger.claims.get(key) != became:
        return False
    if became is not None:
        return True
    if _has_record(now, key):
        return True
    return now.inventory.has_pod(key.uid) and not _has_record(before, key)


def _has_record(now: state.State, key: state.ClaimKey) -> bool:
    return any(
        next(now.inventory.attempts(sandbox, key.name), None) is not None
        for sandbox in now.inventory.sandboxes(key.uid)
    )


def _put_back(ledger: state.Ledger, back: _Claims) -> state.Ledger:
    for key in back:
        ledger = ledger.without_claim(key)
    for was in back.values():
        if was is not None:
            ledger = ledger.with_claim(was)
    return ledger
