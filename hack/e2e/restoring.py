"""The manifest of a pod that gives a node's containers all CPUs back, made from the agent's DaemonSet:
`python -m hack.e2e.restoring NODE <LIST >POD`. I/O: the standard streams."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

_KEPT = ("--config", "--cri-socket", "--host-root", "--state-dir")
"""Options of `run` that `restore` has too."""


def pod(daemonset: dict[str, Any], node: str) -> dict[str, Any]:
    """A pod with the agent's mounts, privileges and paths that runs `restore` once on a node. All CPUs: what
    the runtime has on record of containers that were made meanwhile is what the agent chose.

    Raises ValueError where the agent has no access to CRI, which says what containers there are.
    """
    spec = copy.deepcopy(daemonset["spec"]["template"]["spec"])
    container = spec["containers"][0]
    kept = [word for word in container["args"] if word.partition("=")[0] in _KEPT]
    if not any(word.startswith("--cri-socket=") for word in kept):
        raise ValueError("this overlay keeps CRI from the agent, and CRI says what containers there are")
    container["args"] = ["restore", "--cpus=all", *kept]
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        container.pop(probe, None)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "restore", "namespace": daemonset["metadata"]["namespace"]},
        "spec": {**spec, "nodeName": node, "restartPolicy": "Never"},
    }


def main() -> None:
    """Read the list of one DaemonSet, write the pod."""
    found = json.load(sys.stdin)["items"]
    try:
        json.dump(pod(found[0], sys.argv[1]), sys.stdout)
    except ValueError as error:
        sys.exit(f"restoring: {error}")


if __name__ == "__main__":
    main()
