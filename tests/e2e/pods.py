"""The pods that the tests run."""

from __future__ import annotations

import dataclasses
import uuid

from reconciler import events
from reconciler.sim import runtime_pods

SHARED = runtime_pods.ContainerSpec(name="main")
WHOLE_TWO = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)
LIST = "weka.io/cores-ids"


def shared(name: str) -> runtime_pods.PodSpec:
    """A burstable pod."""
    return runtime_pods.PodSpec(name=name, uid=_uid(name))


def guaranteed(name: str, cpus: str | None = None) -> runtime_pods.PodSpec:
    """A guaranteed pod, annotated with a CPU list where one is given."""
    annotations = {} if cpus is None else {LIST: cpus}
    return runtime_pods.PodSpec(name=name, uid=_uid(name), qos=events.Qos.GUARANTEED, annotations=annotations)


def whole(count: int) -> runtime_pods.ContainerSpec:
    """A container with so many whole CPUs."""
    return runtime_pods.ContainerSpec(name="main", limit=1000 * count, request=1000 * count)


def with_cpus(spec: runtime_pods.ContainerSpec, cpus: str) -> runtime_pods.ContainerSpec:
    """The same, with the list that kubelet's static CPU manager would add."""
    return dataclasses.replace(spec, cpus=cpus)


def resources(count: int) -> dict[str, object]:
    """What kubelet tells the runtime when it resizes a container to so many whole CPUs."""
    return {"cpu_shares": 1024 * count, "cpu_quota": 100_000 * count, "cpu_period": 100_000}


def _uid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"default.{name}"))
