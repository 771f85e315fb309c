"""CRI messages to the values that events carry. Pure, but for protobuf; every field of a message is optional.

As with NRI, a value that cannot be right costs only itself, and why goes to `complain`.
"""

from __future__ import annotations

import dataclasses

from reconciler import errors, events
from reconciler.runtime import cgroup_path, conversion
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.cri import info

Complain = conversion.Complain

CRIO = "cri-o"
"""Name by which CRI-O introduces itself; every other runtime names cgroups as containerd does."""

_PHASES = {
    cri.CONTAINER_CREATED: events.Phase.CREATED,
    cri.CONTAINER_EXITED: events.Phase.STOPPED,
}


def phase(state: cri.ContainerState) -> events.Phase:
    """How far a listed container is. A state that is not known counts as running: that keeps what it has."""
    return _PHASES.get(state, events.Phase.RUNNING)


def pod(message: cri.PodSandbox, said: info.Info, parent: str, complain: Complain) -> events.Pod:
    """A listed sandbox with what its verbose status said, under the cgroup parent `parent`.

    Where that tells no QoS class the pod counts as BestEffort, which is entitled to nothing. A sandbox
    without a process has no pause container: CRI-O names a cgroup for it all the same.
    """
    metadata = message.metadata
    path = said.cgroups_path if said.pid else ""
    return events.Pod(
        sandbox=events.SandboxId(message.id),
        uid=events.PodUid(metadata.uid),
        namespace=metadata.namespace,
        name=metadata.name,
        annotations={
            key: text for key, text in message.annotations.items() if key.startswith(conversion.ANNOTATIONS)
        },
        qos=_qos(parent, complain),
        cgroup=conversion.cgroup(path, message.runtime_handler, complain),
    )


def placed(value: events.Pod, parent: str, complain: Complain) -> events.Pod:
    """The pod under a cgroup parent that was not known when it was converted."""
    return dataclasses.replace(value, qos=_qos(parent, complain))


def container(
    message: cri.Container, limits: events.CpuLimits, cpus: str, cgroup: str | None
) -> events.Container:
    """A listed container with what its status said."""
    return events.Container(
        id=events.ContainerId(message.id),
        sandbox=events.SandboxId(message.pod_sandbox_id),
        name=message.metadata.name,
        cgroup=cgroup,
        limits=limits,
        phase=phase(message.state),
        cpus=cpus,
    )


def limits(status: cri.ContainerStatus, said: info.Info) -> events.CpuLimits:
    """The limits in force. Runtimes since containerd 1.7 and CRI-O 1.26 say them in the status; before that
    they are in the runtime's OCI spec."""
    if status.resources.HasField("linux"):
        linux = status.resources.linux
        return conversion.cpu_limits(linux.cpu_shares, linux.cpu_quota, linux.cpu_period)
    return conversion.cpu_limits(said.cpu.shares, said.cpu.quota, said.cpu.period)


def says_limits(status: cri.ContainerStatus) -> bool:
    """Whether a status has the limits without the verbose info."""
    return status.resources.HasField("linux")


def cgroups_path(said: info.Info, parent: str, id_: str, runtime: str) -> str:
    """The OCI name of a container's cgroup: what the runtime says, else what it gives under `parent`; "" if
    there is no parent either. `runtime` is the name from Version."""
    if said.cgroups_path or not parent:
        return said.cgroups_path
    crio = runtime == CRIO
    if parent.endswith(".slice"):
        return f"{parent.rpartition('/')[2]}:{'crio' if crio else 'cri-containerd'}:{id_}"
    return f"{parent}/{'crio-' if crio else ''}{id_}"


def _qos(parent: str, complain: Complain) -> events.Qos:
    try:
        return cgroup_path.qos(parent)
    except errors.Malformed as error:
        complain(error)
        return events.Qos.BEST_EFFORT
