"""What hooks that run out of time are answered, and which of them must not act after that. No I/O."""

from __future__ import annotations

from reconciler import errors, events, intent
from reconciler.config import schema
from reconciler.daemon import answers, counters
from reconciler.policy import desired, state
from reconciler.runtime.nri import handler

TOO_LATE = "the node's CPUs could not be made ready in time; it will be tried again"
_REQUESTS = {
    events.ContainerCreating: "create",
    events.ContainerStarting: "start",
    events.ContainerUpdating: "update",
}
"""Hooks that can take long, as they are counted."""


class Guard:
    """Knows which containers' hooks are still at work, and of which the runtime has given up waiting."""

    def __init__(self, counts: counters.Counters) -> None:
        self._counts = counts
        self._working: set[events.ContainerId] = set()
        self._given_up: set[events.ContainerId] = set()

    @property
    def busy(self) -> bool:
        """Whether the hook of any container is at work."""
        return bool(self._working)

    def begin(self, id_: events.ContainerId) -> None:
        """A hook has begun what can take long, and must not be half done."""
        self._working.add(id_)

    def end(self, id_: events.ContainerId) -> None:
        """It has ended."""
        self._working.discard(id_)

    def has_given_up(self, id_: events.ContainerId) -> bool:
        """Whether the hook's answer reaches nobody any more; true once for each time."""
        given_up = id_ in self._given_up
        self._given_up.discard(id_)
        return given_up

    def answer(
        self, event: events.Event, now: state.State, config: schema.Config, *, adopting: bool
    ) -> handler.Adjustment | None:
        """The safe answer: an exclusive container is refused, unless `onGuard` is `admit`; a shared one gets
        the last known pool, one that is updated its present place, one that is left alone nothing. Raises
        Refused."""
        request = _REQUESTS.get(type(event))
        try:
            answer = self._answer(event, now, config, adopting=adopting)
        except errors.Refused:
            if request is not None:
                self._counts.guard_answered(request, "refused")
            raise
        if request is not None:
            self._counts.guard_answered(request, "in-place" if request == "update" else "admitted")
        return answer

    def _answer(
        self, event: events.Event, now: state.State, config: schema.Config, *, adopting: bool
    ) -> handler.Adjustment | None:
        match event:
            case events.ContainerUpdating(container=container):
                if container.id not in self._working:
                    placement = desired.desired(now, (container.id,)).get(container.id)
                    return None if placement is None else answers.adjustment(placement)
            case events.ContainerCreating(pod=pod, container=container):
                kind = intent.decide(pod, container, config).kind
                if kind is intent.Kind.UNMANAGED:
                    return handler.Adjustment()
                if kind is intent.Kind.SHARED or config.on_guard == "admit":
                    return handler.Adjustment(cpus=str(now.pool))
            case events.ContainerStarting(pod=pod, container=container):
                kind = intent.decide(pod, container, config).kind
                if kind in (intent.Kind.SHARED, intent.Kind.UNMANAGED) or config.on_guard == "admit":
                    return handler.Adjustment()
            case _:
                return None
        if adopting or container.id in self._working:
            # Its hook still waits, and must not place what the runtime has given up by then.
            self._given_up.add(container.id)
        raise errors.Refused(TOO_LATE, "time")
