"""What kubelet makes of a pod's manifest: volumes on the node's disk, and requests to the runtime.

One thing is the emulated node's and not the manifest's: pods have the host's network, for want of CNI.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.sim import runtime_pods
from tests.e2e import node, systemd
from tests.e2e.manifest import Manifest

_MASKED = (
    *("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"),
)
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""As kubelet says it of every container that is not to see these whole (pkg/securitycontext/util.go)."""
_PROPAGATION = {
    "None": cri.PROPAGATION_PRIVATE,
    "HostToContainer": cri.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": cri.PROPAGATION_BIDIRECTIONAL,
}
_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_CRITICAL = -997
"""`oom_score_adj` of a pod that is critical to its node (pkg/kubelet/qos/policy.go)."""


class Volumes:
    """A pod's volumes, made below a folder of its own. `remove` takes them away."""

    def __init__(self, its: Manifest, folder: pathlib.Path) -> None:
        self._mounted: list[str] = []
        self.paths = {volume["name"]: self._made(its, volume, folder) for volume in its.spec["volumes"]}
        """By the volume's name, where it is on the host."""

    def remove(self) -> None:
        """Take away what was mounted for the pod."""
        while self._mounted:
            systemd.run("umount", self._mounted.pop())

    def _made(self, its: Manifest, volume: Mapping[str, Any], folder: pathlib.Path) -> str:
        ((kind, says),) = ((key, value) for key, value in volume.items() if key != "name")
        where = folder / volume["name"]
        match kind:
            case "hostPath":
                return _host_path(says)
            case "configMap":
                where.mkdir(parents=True, exist_ok=True)
                for name, text in its.configs[says["name"]].items():
                    (where / name).write_text(text)
            case "emptyDir":
                where.mkdir(parents=True, exist_ok=True)
                where.chmod(0o777)
                if says.get("medium") == "Memory":
                    size = f"size={_bytes(says['sizeLimit'])},mode=0777"
                    systemd.run("mount", "-t", "tmpfs", "-o", size, "tmpfs", str(where))
                    self._mounted.append(str(where))
            case _:
                raise AssertionError(f"a volume of kind {kind} is not known here")
        return str(where)


def _host_path(says: Mapping[str, str]) -> str:
    """kubelet does not start a pod whose path is not what its type says."""
    path = pathlib.Path(says["path"])
    match says["type"]:
        case "Directory":
            assert path.is_dir(), path
        case "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        case "File":
            assert path.is_file(), path
        case kind:
            raise AssertionError(f"{path}: type {kind!r} is not known here")
    return str(path)


def sandbox(its: Manifest, pod: runtime_pods.PodSpec, logs: pathlib.Path) -> cri.PodSandboxConfig:
    """The request for the pod's sandbox; its containers' logs go into a folder."""
    security = its.spec["securityContext"]
    config = node.sandbox_config(pod)
    config.log_directory = str(logs)
    _namespaces(its, config.linux.security_context.namespace_options)
    config.linux.security_context.run_as_user.value = security["runAsUser"]
    config.linux.security_context.run_as_group.value = security["runAsGroup"]
    config.linux.security_context.seccomp.CopyFrom(_seccomp(security))
    return config


def container(
    its: Manifest, pod: runtime_pods.PodSpec, image: str, volumes: Volumes, attempt: int
) -> cri.ContainerConfig:
    """The request for an attempt of the pod's container, from an image."""
    wanted = its.container
    cpu = wanted["resources"]["requests"]["cpu"]
    assert "cpu" not in wanted["resources"]["limits"]
    spec = runtime_pods.ContainerSpec(name=wanted["name"], request=int(cpu.removesuffix("m")))
    config = node.container_config(pod, spec, attempt, wanted["command"], ())
    config.args.extend(wanted["args"])
    config.image.image = image
    config.log_path = f"{wanted['name']}.{attempt}.log"
    config.envs.extend(cri.KeyValue(key=env["name"], value=env["value"]) for env in wanted.get("env", []))
    config.mounts.extend(_mount(mount, volumes) for mount in wanted["volumeMounts"])
    config.linux.resources.memory_limit_in_bytes = _bytes(wanted["resources"]["limits"]["memory"])
    config.linux.resources.oom_score_adj = _CRITICAL
    _secure(its, config.linux.security_context)
    return config


def _secure(its: Manifest, context: cri.LinuxContainerSecurityContext) -> None:
    of_pod, own = its.spec["securityContext"], its.container["securityContext"]
    _namespaces(its, context.namespace_options)
    context.privileged = own["privileged"]
    context.readonly_rootfs = own["readOnlyRootFilesystem"]
    context.no_new_privs = not own["allowPrivilegeEscalation"]
    context.capabilities.add_capabilities.extend(own["capabilities"].get("add", []))
    context.capabilities.drop_capabilities.extend(own["capabilities"].get("drop", []))
    context.run_as_user.value = of_pod["runAsUser"]
    context.run_as_group.value = of_pod["runAsGroup"]
    context.seccomp.CopyFrom(_seccomp(of_pod))
    context.masked_paths.extend(_MASKED)
    context.readonly_paths.extend(_READONLY)


def _namespaces(its: Manifest, options: cri.NamespaceOption) -> None:
    options.pid = cri.NODE if its.spec.get("hostPID") else cri.CONTAINER


def _seccomp(security: Mapping[str, Any]) -> cri.SecurityProfile:
    return cri.SecurityProfile(profile_type=security["seccompProfile"]["type"])


def _mount(mount: Mapping[str, Any], volumes: Volumes) -> cri.Mount:
    return cri.Mount(
        container_path=mount["mountPath"],
        host_path=volumes.paths[mount["name"]],
        readonly=mount.get("readOnly", False),
        propagation=_PROPAGATION[mount.get("mountPropagation", "None")],
    )


def _bytes(text: str) -> int:
    """A quantity of memory, such as `256Mi`."""
    found = re.fullmatch(r"([0-9]+)([KMG]i)?", text)
    assert found is not None, text
    return int(found[1]) * _UNITS[found[2] or ""]
