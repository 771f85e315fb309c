"""Pods and containers as kubelet asks for them and as a runtime shows them over NRI. Pure."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler import events
from reconciler.cpu import bandwidth
from reconciler.runtime import cgroup_path
from reconciler.runtime.nri import nri_pb2

_PERIOD = 100_000
_MAX_SHARES = 262_144
_MIN_QUOTA = 1_000


class Driver(enum.Enum):
    """Who makes cgroups: the `cgroupDriver` of kubelet and the runtime."""

    SYSTEMD = "systemd"
    CGROUPFS = "cgroupfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container of a pod's manifest. CPU in thousandths, None where the manifest does not say.

    `cpus` is what kubelet's static CPU manager adds, "" without it; `quota` false: kubelet runs with
    `cpuCFSQuota: false`.
    """

    name: str
    limit: int | None = None
    request: int | None = None
    cpus: str = ""
    quota: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """A pod's manifest, as far as it matters here. `handler` is the name of its RuntimeClass's handler."""

    name: str
    uid: str
    namespace: str = "default"
    qos: events.Qos = events.Qos.BURSTABLE
    annotations: Mapping[str, str] = field(default_factory=dict)
    handler: str = "runc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How a node names cgroups. `prefix` is kubelet's `cgroupRoot`, such as kind's `kubelet`, "" for none."""

    driver: Driver = Driver.SYSTEMD
    runtime: str = "containerd"
    prefix: str = ""

    def parent(self, pod: PodSpec) -> str:
        """The `cgroup_parent` that kubelet passes for a pod."""
        pieces = [self.prefix] if self.prefix else []
        pieces.append("kubepods")
        if pod.qos is not events.Qos.GUARANTEED:
            pieces.append(pod.qos.value)
        if self.driver is Driver.SYSTEMD:
            return "-".join([*pieces, "pod" + pod.uid.replace("-", "_")]) + ".slice"
        return "/" + "/".join([*pieces, "pod" + pod.uid])

    def path(self, parent: str, id_: str) -> str:
        """The OCI `cgroupsPath` that the runtime gives a container, or a pause container, under `parent`."""
        crio = self.runtime == "cri-o"
        if self.driver is Driver.SYSTEMD:
            return f"{parent}:{'crio' if crio else 'cri-containerd'}:{id_}"
        return f"{parent}/crio-{id_}" if crio else f"{parent}/{id_}"


def make_id(what: str, number: int) -> str:
    """An id of 64 hexadecimal digits, the same for the same arguments."""
    return hashlib.sha256(f"{what}-{number}".encode()).hexdigest()


def pod_message(spec: PodSpec, sandbox: str, naming: Naming) -> nri_pb2.PodSandbox:
    """The sandbox as NRI shows it. CRI-O has no pause container by default, so it gives no path."""
    parent = naming.parent(spec)
    path = "" if naming.runtime == "cri-o" else naming.path(parent, sandbox)
    return nri_pb2.PodSandbox(
        id=sandbox,
        name=spec.name,
        uid=spec.uid,
        namespace=spec.namespace,
        annotations=spec.annotations,
        runtime_handler=spec.handler,
        linux=nri_pb2.LinuxPodSandbox(cgroup_parent=parent, cgroups_path=path),
    )


def container_message(
    spec: ContainerSpec, pod: nri_pb2.PodSandbox, id_: str, naming: Naming
) -> nri_pb2.Container:
    """The container as NRI shows it in CreateContainer."""
    return nri_pb2.Container(
        id=id_,
        pod_sandbox_id=pod.id,
        name=spec.name,
        state=nri_pb2.CONTAINER_CREATED,
        linux=nri_pb2.LinuxContainer(
            resources=nri_pb2.LinuxResources(cpu=cpu_message(spec)),
            cgroups_path=naming.path(pod.linux.cgroup_parent, id_),
        ),
    )


def cpu_message(spec: ContainerSpec) -> nri_pb2.LinuxCPU:
    """The CPU resources that kubelet derives (kuberuntime_container_linux.go, cm/helpers_linux.go): shares of
    the request, else of the limit; a quota only with a limit, the period always."""
    cpu = nri_pb2.LinuxCPU(cpus=spec.cpus)
    asked = spec.limit if spec.request is None else spec.request
    cpu.shares.value = min(max(2, (asked or 0) * 1024 // 1000), _MAX_SHARES)
    cpu.period.value = _PERIOD
    if spec.limit and spec.quota:
        cpu.quota.value = max(spec.limit * _PERIOD // 1000, _MIN_QUOTA)
    return cpu


def quota(cpu: nri_pb2.LinuxCPU) -> str:
    """The text of `cpu.max` that a runtime writes for these resources, "" where they say nothing of it."""
    if not cpu.quota.value:
        return ""
    limit = bandwidth.limit(cpu.quota.value, cpu.period.value)
    return str(bandwidth.Bandwidth() if limit is None else limit)


def directory(message: nri_pb2.Container | nri_pb2.PodSandbox) -> str | None:
    """The cgroup of a container or of a pod's pause container, None where it has none."""
    path = message.linux.cgroups_path
    return cgroup_path.directory(path) if path else None
