"""NRI messages to events. Pure, but for protobuf; every field of a message is optional.

A value that cannot be right costs only itself: the rest of its message is still converted, and why it was set
aside goes to `complain`.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler import errors, events
from reconciler.runtime import cgroup_path
from reconciler.runtime.nri import nri_pb2

Complain = Callable[[errors.Malformed], None]
"""Told of each value that was set aside."""

ANNOTATIONS = "weka.io/"
"""Only the annotations of this domain are kept: they alone say anything about placement."""

_ELSEWHERE = ("kata", "gvisor", "runsc")
"""Beginnings of the names of runtime handlers whose containers have no cgroup of their own on the host."""

_PHASES = {
    nri_pb2.CONTAINER_CREATED: events.Phase.CREATED,
    nri_pb2.CONTAINER_STOPPED: events.Phase.STOPPED,
}


def pod(message: nri_pb2.PodSandbox, complain: Complain, sandbox: str = "") -> events.Pod:
    """A sandbox; `sandbox` is its id where the message has none.

    Where its cgroup parent tells no QoS class it counts as BestEffort, which is entitled to nothing.
    """
    linux = message.linux
    annotations = message.annotations
    try:
        qos = cgroup_path.qos(linux.cgroup_parent)
    except errors.Malformed as error:
        complain(error)
        qos = events.Qos.BEST_EFFORT
    return events.Pod(
        sandbox=events.SandboxId(message.id or sandbox),
        uid=events.PodUid(message.uid),
        namespace=message.namespace,
        name=message.name,
        annotations={key: annotations[key] for key in annotations if key.startswith(ANNOTATIONS)},
        qos=qos,
        cgroup=cgroup(linux.cgroups_path, message.runtime_handler, complain),
    )


def container(
    message: nri_pb2.Container, phase: events.Phase, handler: str, complain: Complain, sandbox: str = ""
) -> events.Container:
    """A container that is in `phase`, of a pod whose runtime handler is called `handler`; `sandbox` is the id
    of the pod that came with it, whatever the message itself says."""
    linux = message.linux
    cpu = linux.resources.cpu
    return events.Container(
        id=events.ContainerId(message.id),
        sandbox=events.SandboxId(sandbox or message.pod_sandbox_id),
        name=message.name,
        cgroup=cgroup(linux.cgroups_path, handler, complain),
        limits=limits(cpu),
        phase=phase,
        cpus=cpu.cpus,
    )


def pair(
    its_pod: nri_pb2.PodSandbox, message: nri_pb2.Container, phase: events.Phase, complain: Complain
) -> tuple[events.Pod, events.Container]:
    """A container that is in `phase`, with its pod. Raises Malformed where the container has no id."""
    if not message.id:
        raise errors.Malformed("Container", f"{message.name!r} has no id")
    converted = pod(its_pod, complain, message.pod_sandbox_id)
    return converted, container(message, phase, its_pod.runtime_handler, complain, converted.sandbox)


def phase(state: nri_pb2.ContainerState) -> events.Phase:
    """How far a container in the runtime's list is. A state that is not known counts as running: that keeps
    what the container has."""
    return _PHASES.get(state, events.Phase.RUNNING)


def limits(cpu: nri_pb2.LinuxCPU) -> events.CpuLimits:
    """The limits that the message carries."""
    return cpu_limits(cpu.shares.value, cpu.quota.value, cpu.period.value)


def cpu_limits(shares: int | None, quota: int | None, period: int | None) -> events.CpuLimits:
    """The limits as a runtime says them. 0 is what it writes where it has nothing to say; what 64 bits with a
    sign do not hold no kernel and no kubelet can have meant, and counts as not said too."""
    return events.CpuLimits(shares=_said(shares), quota=_said(quota), period=_said(period))


def synchronized(
    pods: list[nri_pb2.PodSandbox], containers: list[nri_pb2.Container], complain: Complain
) -> events.Synchronized:
    """All that the runtime has. What has no id is set aside: no later event could ever mean it."""
    handlers = {message.id: message.runtime_handler for message in pods}
    nameless = [f"pod {message.name!r}" for message in pods if not message.id]
    nameless += [f"container {message.name!r}" for message in containers if not message.id]
    for what in nameless:
        complain(errors.Malformed("Synchronize", f"{what} has no id"))
    return events.Synchronized(
        pods=tuple(pod(message, complain) for message in pods if message.id),
        containers=tuple(
            container(message, phase(message.state), handlers.get(message.pod_sandbox_id, ""), complain)
            for message in containers
            if message.id
        ),
    )


def _said(number: int | None) -> int | None:
    return number if number and -(1 << 63) <= number < 1 << 63 else None


def cgroup(path: str, handler: str, complain: Complain) -> str | None:
    """The directory of a cgroup that the runtime calls `path`, or None where there is none on this host."""
    if not path or handler.startswith(_ELSEWHERE):
        return None
    try:
        return cgroup_path.directory(path)
    except errors.Malformed as error:
        complain(error)
        return None
