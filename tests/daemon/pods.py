"""Pods and containers as events carry them. Values; pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler import events

CORES = "weka.io/cores-ids"
FORBID = "weka.io/forbid-core-ids"
_SLICES = {
    events.Qos.GUARANTEED: "kubepods.slice/",
    events.Qos.BURSTABLE: "kubepods.slice/kubepods-burstable.slice/",
    events.Qos.BEST_EFFORT: "kubepods.slice/kubepods-besteffort.slice/",
}


def pod(
    name: str,
    *,
    qos: events.Qos = events.Qos.BURSTABLE,
    annotations: Mapping[str, str] | None = None,
    pause: bool = False,
) -> events.Pod:
    """A pod; with `pause` its pause container has a cgroup."""
    return events.Pod(
        sandbox=events.SandboxId(f"sandbox-{name}"),
        uid=events.PodUid(f"uid-{name}"),
        namespace="default",
        name=name,
        annotations=annotations or {},
        qos=qos,
        cgroup=f"{_slice(name, qos)}/pause.scope" if pause else None,
    )


def guaranteed(name: str, cores: str = "") -> events.Pod:
    """A Guaranteed pod, with a list of CPUs of its own where `cores` is one."""
    return pod(name, qos=events.Qos.GUARANTEED, annotations={CORES: cores} if cores else {})


def container(
    its_pod: events.Pod,
    name: str = "main",
    *,
    whole: int = 0,
    attempt: int = 1,
    phase: events.Phase = events.Phase.CREATING,
) -> events.Container:
    """A container; `whole` CPUs as its limit, 0 for none."""
    id_ = f"{its_pod.name}-{name}-{attempt}"
    return events.Container(
        id=events.ContainerId(id_),
        sandbox=its_pod.sandbox,
        name=name,
        cgroup=f"{_slice(its_pod.name, its_pod.qos)}/{id_}.scope",
        limits=events.CpuLimits(shares=1024 * whole or 2, quota=100_000 * whole or -1, period=100_000),
        phase=phase,
    )


def _slice(name: str, qos: events.Qos) -> str:
    return f"{_SLICES[qos]}pod-{name}.slice"
