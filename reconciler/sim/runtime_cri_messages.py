"""What a stand-in runtime shows of its pods over CRI, by generation. Pure.

Generations differ in the names in the verbose info, and in who has `resources` in a container's status.
"""

from __future__ import annotations

import json

from reconciler import events
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import runtime_profile, runtime_records

_STATES = {
    events.Phase.CREATING: cri.CONTAINER_CREATED,
    events.Phase.CREATED: cri.CONTAINER_CREATED,
    events.Phase.RUNNING: cri.CONTAINER_RUNNING,
    events.Phase.STOPPED: cri.CONTAINER_EXITED,
}
_PAUSE_PID = 900

PROFILES = {
    "containerd-1.6": runtime_profile.containerd("1.6.20~ds1", (0, 3, 0)),
    "containerd-1.7": runtime_profile.PROFILES["containerd-1.7.24"],
    "containerd-2.1": runtime_profile.PROFILES["containerd-2.1.9"],
    "cri-o-1.32": runtime_profile.PROFILES["cri-o-1.32"],
}
"""One runtime of each kind that matters over CRI, by name. containerd 1.6 has no NRI that could be used."""


def sandbox(pod: runtime_records.Sandbox, age: int) -> cri.PodSandbox:
    """A sandbox in ListPodSandbox; `age` is in nanoseconds."""
    message = pod.message
    return cri.PodSandbox(
        id=message.id,
        metadata=_metadata(message),
        state=_sandbox_state(pod),
        created_at=age,
        annotations=message.annotations,
        runtime_handler=message.runtime_handler,
    )


def container(record: runtime_records.Record, age: int) -> cri.Container:
    """A container in ListContainers: neither its resources nor its pod's annotations are there."""
    message = record.message
    return cri.Container(
        id=message.id,
        pod_sandbox_id=message.pod_sandbox_id,
        metadata=cri.ContainerMetadata(name=message.name),
        state=_STATES[record.phase],
        created_at=age,
        labels={"io.kubernetes.container.name": message.name},
    )


def sandbox_status(pod: runtime_records.Sandbox) -> cri.PodSandboxStatus:
    """The status of a sandbox, without the verbose info."""
    message = pod.message
    return cri.PodSandboxStatus(
        id=message.id,
        metadata=_metadata(message),
        state=_sandbox_state(pod),
        annotations=message.annotations,
        runtime_handler=message.runtime_handler,
    )


def container_status(record: runtime_records.Record, profile: runtime_profile.Profile) -> cri.ContainerStatus:
    """The status of a container; containerd has `resources` in it since 1.7."""
    status = cri.ContainerStatus(
        id=record.message.id,
        metadata=cri.ContainerMetadata(name=record.message.name),
        state=_STATES[record.phase],
    )
    if not profile.version.lstrip("v").startswith("1.6."):
        cpu = record.message.linux.resources.cpu
        status.resources.linux.cpu_shares = cpu.shares.value
        status.resources.linux.cpu_quota = cpu.quota.value
        status.resources.linux.cpu_period = cpu.period.value
        status.resources.linux.cpuset_cpus = cpu.cpus
    return status


def sandbox_info(pod: runtime_records.Sandbox, profile: runtime_profile.Profile) -> str:
    """`info["info"]` of a sandbox. CRI-O without a pause container has the spec alone."""
    linux = pod.message.linux
    if profile.runtime == "cri-o":
        path = profile.naming.path(linux.cgroup_parent, pod.message.id)
        annotations = {"io.kubernetes.cri-o.CgroupParent": linux.cgroup_parent}
        return json.dumps({"runtimeSpec": {"annotations": annotations, "linux": {"cgroupsPath": path}}})
    return json.dumps(
        {
            "pid": 0 if pod.stopped else _PAUSE_PID,
            "processStatus": "running",
            "snapshotter": "overlayfs",
            "runtimeHandler": pod.message.runtime_handler,
            "config": {
                "metadata": {"name": pod.message.name, "uid": pod.message.uid},
                "linux": {"cgroup_parent": linux.cgroup_parent, "security_context": {}},
            },
            "runtimeSpec": {"ociVersion": "1.1.0", "linux": {"cgroupsPath": linux.cgroups_path}},
            "cniResult": None,
        }
    )


def container_info(record: runtime_records.Record, profile: runtime_profile.Profile) -> str:
    """`info["info"]` of a container: the record that the runtime writes back at each update is in it."""
    linux = record.message.linux
    cpu = linux.resources.cpu
    said = {"shares": cpu.shares.value, "quota": cpu.quota.value, "period": cpu.period.value}
    spec: dict[str, object] = {name: value for name, value in said.items() if value}
    if cpu.cpus:
        spec["cpus"] = cpu.cpus
    if cpu.mems:
        spec["mems"] = cpu.mems
    info: dict[str, object] = {
        "sandboxID": record.message.pod_sandbox_id,
        "pid": record.message.pid,
        "runtimeSpec": {
            "ociVersion": "1.1.0",
            "linux": {"cgroupsPath": linux.cgroups_path, "resources": {"cpu": spec, "memory": {}}},
        },
        "privileged": False,
    }
    if profile.runtime != "cri-o":
        info |= {"removing": False, "snapshotKey": record.message.id, "config": {"metadata": {}}}
    return json.dumps(info)


def cpu(linux: cri.LinuxContainerResources) -> nri_pb2.LinuxCPU:
    """What an update asks for; 0 and "" are what is not asked for."""
    made = nri_pb2.LinuxCPU(cpus=linux.cpuset_cpus, mems=linux.cpuset_mems)
    if linux.cpu_shares:
        made.shares.value = linux.cpu_shares
    if linux.cpu_quota:
        made.quota.value = linux.cpu_quota
    if linux.cpu_period:
        made.period.value = linux.cpu_period
    return made


def _metadata(message: nri_pb2.PodSandbox) -> cri.PodSandboxMetadata:
    return cri.PodSandboxMetadata(name=message.name, uid=message.uid, namespace=message.namespace)


def _sandbox_state(pod: runtime_records.Sandbox) -> cri.PodSandboxState:
    return cri.SANDBOX_NOTREADY if pod.stopped else cri.SANDBOX_READY
