"""A runtime that insists on the agent: nothing starts without it, but the DaemonSet that brings it."""

from __future__ import annotations

import json
import pathlib
import tomllib
from collections.abc import Iterator

import pytest

from tests.live import kubernetes

# covers: PRD-8.20
DELIVERED = kubernetes.ROOT / "deploy/containerd/required-plugin.toml"
SHELL = "node-shell"
CONFIG = "/etc/containerd/config.toml"


class Shell:
    """A pod that may do everything on the node, whose root it has."""

    def start(self) -> None:
        """Make it: with the annotation without which it would need the agent itself."""
        its = kubernetes.pod(SHELL, namespace="default", annotations={tolerated(): "true"})
        (container,) = its["spec"]["containers"]
        container["securityContext"] = {"privileged": True, "runAsUser": 0}
        container["volumeMounts"] = [{"name": "root", "mountPath": "/node"}]
        its["spec"]["volumes"] = [{"name": "root", "hostPath": {"path": "/"}}]
        kubernetes.kubectl("create", "--filename=-", text=json.dumps(its))
        kubernetes.kubectl("wait", "--for=condition=Ready", "--timeout=300s", f"pod/{SHELL}")

    def run(self, *command: str, text: str = "") -> str:
        """Run a command in the node's root; its output."""
        return kubernetes.kubectl("exec", "--stdin", SHELL, "--", "chroot", "/node", *command, text=text)

    def configure(self, text: str) -> None:
        """Give the runtime a configuration, and wait until it has been started again with it."""
        self.run("tee", CONFIG, text=text)
        before = self._invocation()
        # The command is run by way of the runtime, too.
        self.run("systemctl", "--no-block", "restart", "containerd.service")
        kubernetes.until("the runtime has restarted", lambda: self._invocation() not in ("", before))

    def _invocation(self) -> str:
        """What systemd calls this run of the runtime, or "" where it does not answer."""
        shown = ("systemctl", "show", "--property=InvocationID", "containerd.service")
        command = ("kubectl", "exec", SHELL, "--", "chroot", "/node", *shown)
        return kubernetes.attempt(*command).stdout.strip()


def tolerated() -> str:
    """The annotation's key, as the delivered option has it."""
    options = tomllib.loads(DELIVERED.read_text())["plugins"]["io.containerd.nri.v1.nri"]["default_validator"]
    return str(options["tolerate_missing_plugins_annotation"])


@pytest.fixture
def insists() -> Iterator[Shell]:
    """A runtime with the delivered option; afterwards, the one that was before."""
    shell = Shell()
    shell.start()
    before = shell.run("cat", CONFIG)
    option = DELIVERED.read_text().replace("version = 3\n", "")
    try:
        shell.configure(f"{before}\n{option}")
        yield shell
    finally:
        shell.configure(before)
        kubernetes.kubectl("delete", "pod", SHELL, "--timeout=300s")


def refused(pod: str) -> bool:
    """Whether kubelet says of a pod that the runtime misses the agent."""
    fields = f"involvedObject.name={pod},type=Warning"
    events = kubernetes.get("events", "--namespace", kubernetes.NAMESPACE, "--field-selector", fields)[
        "items"
    ]
    return any('required plugin "cpuset-reconciler" not present' in event["message"] for event in events)


def test_nothing_starts_without_the_agent_and_the_agent_does(
    insists: Shell, pods: kubernetes.Pods, taken_away: None, tmp_path: pathlib.Path
) -> None:
    pods.run("web")
    kubernetes.until("the pod is refused", lambda: refused("web"))
    kubernetes.kubectl("apply", "-k", kubernetes.kustomization(tmp_path, "base"))
    kubernetes.until_rolled_out()
    pods.run("db", cpus=2)
    kubernetes.placed(pods)
    kubernetes.kubectl("delete", "-k", str(tmp_path), "--cascade=foreground", "--timeout=300s")
    pods.run("late")
    kubernetes.until("the late pod is refused", lambda: refused("late"))
    assert len(pods.allowed("db")) == 2
