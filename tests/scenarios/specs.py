"""Pods of scenarios as kubelet would ask for them."""

from __future__ import annotations

import uuid

from reconciler import events
from reconciler.sim import runtime_pods
from tests.scenarios import model


def pod(pod_: model.Pod, run: int) -> runtime_pods.PodSpec:
    """The sandbox. A pod that is deleted and made anew, which is another `run`, has another UID."""
    return runtime_pods.PodSpec(
        name=pod_.pod,
        uid=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{run}.{pod_.namespace}.{pod_.pod}")),
        namespace=pod_.namespace,
        qos=events.Qos(pod_.qos),
        annotations=pod_.annotations,
    )


def container(name: str, container_: model.Container) -> runtime_pods.ContainerSpec:
    """A container, in thousandths of a CPU."""
    return runtime_pods.ContainerSpec(
        name=name,
        limit=_milli(container_.limit),
        request=_milli(container_.request),
        quota=container_.quota,
    )


def quota(pod_: model.Pod) -> str:
    """What kubelet writes into `cpu.max` of the pod's cgroup: all limits together; "" where one lacks."""
    first = [container(name, pod_.containers[name]) for name in pod_.first]
    limits = [runtime_pods.cpu_message(its).quota.value for its in first]
    return f"{sum(limits)} 100000" if all(limits) else ""


def _milli(cpus: float | None) -> int | None:
    return None if cpus is None else round(cpus * 1000)
