"""Pods of scenarios as manifests for the API server. Pure."""

from __future__ import annotations

from typing import Any

from tests.scenarios import model

MARK = {"app.kubernetes.io/part-of": "cpuset-reconciler-e2e"}
"""The label of every pod that is made."""
_MEMORY = "32Mi"


def pod(pod_: model.Pod, *, namespace: str, node: str, image: str) -> dict[str, Any]:
    """The manifest of a scenario's pod, for one node. Its containers sleep: the image needs `sleep`."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_.pod,
            "namespace": namespace,
            "labels": MARK,
            "annotations": pod_.annotations,
        },
        "spec": {
            "affinity": _only_on(node),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [{"operator": "Exists"}],
            # `sleep` as a first process ignores SIGTERM. With 0 the API server would forget the pod before
            # kubelet has ended it.
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [_container(pod_, name, image) for name in pod_.first],
        },
    }


def cpu_request(pod_: model.Pod) -> int:
    """What the scheduler counts for the pod, in thousandths of a CPU."""
    return sum(_milli(container) for container in map(pod_.containers.__getitem__, pod_.first))


def _milli(container: model.Container) -> int:
    asked = container.limit if container.request is None else container.request
    return round((asked or 0) * 1000)


def _only_on(node: str) -> dict[str, Any]:
    named = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [named]}}
    }


def _container(pod_: model.Pod, name: str, image: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "resources": _resources(pod_, pod_.containers[name]),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def _resources(pod_: model.Pod, container: model.Container) -> dict[str, dict[str, str]]:
    """The scenario's CPUs, and the memory that makes the pod of its QoS class."""
    limits, requests = {}, {}
    if container.limit is not None:
        limits["cpu"] = f"{round(container.limit * 1000)}m"
    if container.request is not None:
        requests["cpu"] = f"{round(container.request * 1000)}m"
    if pod_.qos == "guaranteed":
        limits["memory"] = _MEMORY
    elif pod_.qos == "burstable":
        requests["memory"] = _MEMORY
    return {key: values for key, values in (("limits", limits), ("requests", requests)) if values}
