"""One call of the runtime becomes one call of the handler, and its result the reply. No I/O.

Since NRI 0.12 each event is a call of its own; before, most came as `StateChange`. Both end in the same
functions here.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from reconciler import errors, events
from reconciler.runtime import conversion
from reconciler.runtime.nri import envelope, handler, nri_pb2
from reconciler.runtime.nri.handler import Adjustment

EMPTY = envelope.reply(b"")
"""The reply that says nothing."""

_CHANGES = {
    nri_pb2.RUN_POD_SANDBOX: "RunPodSandbox",
    nri_pb2.STOP_POD_SANDBOX: "StopPodSandbox",
    nri_pb2.REMOVE_POD_SANDBOX: "RemovePodSandbox",
    nri_pb2.START_CONTAINER: "StartContainer",
    nri_pb2.STOP_CONTAINER: "StopContainer",
    nri_pb2.REMOVE_CONTAINER: "RemoveContainer",
}
"""What the events of a `StateChange` are called where they are calls of their own."""

Encode = Callable[[Adjustment | None], bytes]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reply that is not there yet: `encode` makes it of what `result` or the guard of `event` gives."""

    event: events.Event
    result: Awaitable[Adjustment | None]
    encode: Encode


Answer = bytes | Waiting
_OnPair = Callable[[nri_pb2.PodSandbox, nri_pb2.Container], Answer]


class Dispatcher:
    """Calls the handler. Keeps nothing between calls but the name of the last hook."""

    def __init__(self, handler: handler.Handler, report: handler.Report) -> None:
        self._handler = handler
        self._report = report
        self.hook = ""
        """What `answer` was last asked for: a method, or the event of a `StateChange` by its method."""
        changes: dict[int, _OnPair] = {
            nri_pb2.RUN_POD_SANDBOX: self._run_pod,
            nri_pb2.STOP_POD_SANDBOX: self._stop_pod,
            nri_pb2.REMOVE_POD_SANDBOX: self._remove_pod,
            nri_pb2.START_CONTAINER: self._start,
            nri_pb2.STOP_CONTAINER: self._stop,
            nri_pb2.REMOVE_CONTAINER: self._remove,
        }
        self._changes = changes
        self._methods: dict[str, Callable[[bytes], Answer]] = {
            "CreateContainer": self._create,
            "UpdateContainer": self._update,
            "StateChange": self._state_change,
            "RunPodSandbox": functools.partial(_own_call, self._run_pod),
            "StopPodSandbox": functools.partial(_own_call, self._stop_pod),
            "RemovePodSandbox": functools.partial(_own_call, self._remove_pod),
            "StartContainer": functools.partial(_own_call, self._start),
            "StopContainer": functools.partial(_own_call, self._stop),
            "RemoveContainer": functools.partial(_own_call, self._remove),
        }

    def answer(self, method: str, payload: bytes) -> Answer:
        """The body of the reply to a call, or what to wait for. Raises nothing."""
        self.hook = method
        known = self._methods.get(method)
        if known is None:
            # A runtime of NRI >= 0.12 takes this code as "use StateChange instead".
            return envelope.failure(envelope.Code.UNIMPLEMENTED, f"method {method}")
        try:
            return known(payload)
        except Exception as error:  # noqa: BLE001  whatever goes wrong, the runtime waits for an answer
            return self.failure(method, error)

    def guarded(self, method: str, waiting: Waiting) -> bytes:
        """The body of the reply when the awaited one is too late. Raises nothing."""
        text = f"{method} was not decided in time, the guard answers"
        self._report(handler.Notice("nri.guarded", text))
        try:
            return waiting.encode(self._handler.guard(waiting.event))
        except Exception as error:  # noqa: BLE001  as above
            return self.failure(method, error)

    def failure(self, method: str, error: BaseException) -> bytes:
        """The body of the reply when `error` was raised; reports what is no refusal."""
        if isinstance(error, errors.Refused):
            return envelope.failure(envelope.Code.FAILED_PRECONDITION, str(error))
        if isinstance(error, errors.Malformed):
            self._report(handler.Notice("nri.malformed", f"{method}: {error}", error))
            return envelope.failure(envelope.Code.INVALID_ARGUMENT, str(error))
        text = f"cpuset-reconciler failed at {method}: {type(error).__name__}: {error}"
        self._report(handler.Notice("nri.handler-failed", text, error))
        return envelope.failure(envelope.Code.UNKNOWN, text)

    def complain(self, error: errors.Malformed) -> None:
        """Report a value that was set aside."""
        self._report(handler.Notice("nri.malformed", str(error), error))

    def _create(self, payload: bytes) -> Answer:
        request = envelope.parse(nri_pb2.CreateContainerRequest, payload)
        pod, container = conversion.pair(request.pod, request.container, events.Phase.CREATING, self.complain)
        event = events.ContainerCreating(pod=pod, container=container)
        result = self._handler.create(event)
        return (
            create_reply(result) if isinstance(result, Adjustment) else Waiting(event, result, create_reply)
        )

    def _update(self, payload: bytes) -> Answer:
        request = envelope.parse(nri_pb2.UpdateContainerRequest, payload)
        phase = conversion.phase(request.container.state)
        pod, container = conversion.pair(request.pod, request.container, phase, self.complain)
        cpu = request.linux_resources.cpu
        event = events.ContainerUpdating(
            pod=pod, container=container, limits=conversion.limits(cpu), cpus=cpu.cpus
        )
        result = self._handler.update(event)
        encode = functools.partial(update_reply, container.id)
        return encode(result) if isinstance(result, Adjustment) else Waiting(event, result, encode)

    def _state_change(self, payload: bytes) -> Answer:
        request = envelope.parse(nri_pb2.StateChangeEvent, payload)
        self.hook = _CHANGES.get(request.event, self.hook)
        change = self._changes.get(request.event)
        return EMPTY if change is None else change(request.pod, request.container)

    def _start(self, pod: nri_pb2.PodSandbox, container: nri_pb2.Container) -> Answer:
        its_pod, created = conversion.pair(pod, container, events.Phase.CREATED, self.complain)
        event = events.ContainerStarting(pod=its_pod, container=created)
        result = self._handler.start(event)
        return EMPTY if result is None else Waiting(event, result, _start_reply)

    def _stop(self, pod: nri_pb2.PodSandbox, container: nri_pb2.Container) -> Answer:
        its_pod, stopped = conversion.pair(pod, container, events.Phase.STOPPED, self.complain)
        self._handler.stopped(events.ContainerStopped(pod=its_pod, container=stopped))
        return EMPTY

    def _remove(self, pod: nri_pb2.PodSandbox, container: nri_pb2.Container) -> Answer:
        its_pod, removed = conversion.pair(pod, container, events.Phase.STOPPED, self.complain)
        self._handler.removed(events.ContainerRemoved(pod=its_pod, container=removed))
        return EMPTY

    def _run_pod(self, pod: nri_pb2.PodSandbox, _: nri_pb2.Container) -> Answer:
        _sandbox(pod)
        self._handler.pod_started(events.PodStarted(pod=conversion.pod(pod, self.complain)))
        return EMPTY

    def _stop_pod(self, pod: nri_pb2.PodSandbox, _: nri_pb2.Container) -> Answer:
        self._handler.pod_stopped(events.PodStopped(sandbox=_sandbox(pod)))
        return EMPTY

    def _remove_pod(self, pod: nri_pb2.PodSandbox, _: nri_pb2.Container) -> Answer:
        self._handler.pod_removed(events.PodRemoved(sandbox=_sandbox(pod)))
        return EMPTY


@functools.lru_cache(maxsize=256)
def create_reply(adjustment: Adjustment | None) -> bytes:
    """The body of the reply to CreateContainer. Cached: all shared containers get the same one."""
    response = nri_pb2.CreateContainerResponse()
    if adjustment is not None:
        _fill(response.adjust.linux.resources, adjustment)
    return envelope.reply(response.SerializeToString() if adjustment != Adjustment() else b"")


def update_reply(container: events.ContainerId, adjustment: Adjustment | None) -> bytes:
    """The body of the reply to UpdateContainer, which the runtime lays over what was asked for."""
    if adjustment is None or adjustment == Adjustment():
        return EMPTY
    update = nri_pb2.ContainerUpdate(container_id=container)
    _fill(update.linux.resources, adjustment)
    return envelope.reply(nri_pb2.UpdateContainerResponse(update=[update]).SerializeToString())


def _start_reply(_: Adjustment | None) -> bytes:
    return EMPTY


def _fill(resources: nri_pb2.LinuxResources, adjustment: Adjustment) -> None:
    if adjustment.cpus:
        resources.cpu.cpus = adjustment.cpus
    if adjustment.mems:
        resources.cpu.mems = adjustment.mems


def _own_call(on_pair: _OnPair, payload: bytes) -> Answer:
    request = envelope.parse(nri_pb2.Lifecycle, payload)
    return on_pair(request.pod, request.container)


def _sandbox(pod: nri_pb2.PodSandbox) -> events.SandboxId:
    if not pod.id:
        raise errors.Malformed("PodSandbox", f"{pod.name!r} has no id")
    return events.SandboxId(pod.id)
