"""A runtime that insists on the agent: nothing starts without it, but the DaemonSet that brings it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.live import kubernetes, shells

# covers: PRD-8.20
CONFIG = "/etc/containerd/config.toml"


@pytest.fixture
def insists(shell: shells.Shell) -> Iterator[None]:
    """A runtime with the delivered option; afterwards, the one that was before."""
    before = shell.run("cat", CONFIG)
    option = shells.REQUIRED.read_text().replace("version = 3\n", "")
    try:
        shell.run("tee", CONFIG, text=f"{before}\n{option}")
        shell.restart("containerd.service")
        yield
    finally:
        shell.run("tee", CONFIG, text=before)
        shell.restart("containerd.service")


def refused(pod: str) -> bool:
    """Whether kubelet says of a pod that the runtime misses the agent."""
    fields = f"involvedObject.name={pod},type=Warning"
    events = kubernetes.get("events", "--namespace", kubernetes.NAMESPACE, "--field-selector", fields)[
        "items"
    ]
    return any('required plugin "cpuset-reconciler" not present' in event["message"] for event in events)


def test_nothing_starts_without_the_agent_and_the_agent_does(
    insists: None, pods: kubernetes.Pods, taken_away: None, tmp_path: pathlib.Path
) -> None:
    pods.run("web")
    kubernetes.until("the pod is refused", lambda: refused("web"))
    kubernetes.kubectl("apply", "-k", kubernetes.kustomization(tmp_path, "base"))
    kubernetes.until_rolled_out()
    pods.run("db", cpus=2)
    kubernetes.placed(pods)
    kubernetes.kubectl("delete", "-k", str(tmp_path), "--cascade=foreground", kubernetes.LIMIT)
    pods.run("late")
    kubernetes.until("the late pod is refused", lambda: refused("late"))
    assert len(pods.allowed("db")) == 2
