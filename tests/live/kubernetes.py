"""The cluster as its administrator sees it: kubectl, helm, and what the agent's pods are asked. Blocks."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from hack.e2e import cluster
from reconciler.cpu.idset import CpuSet

NAMED = "LIVE_NODE"
"""In the environment: the node's name."""
ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/cpuset-reconciler"
NAMESPACE = "live"
AGENTS = "kube-system"
AGENT = "daemonset/cpuset-reconciler"
REPOSITORY = "localhost/cpuset-reconciler"
BUILT, REBUILT = "built", "rebuilt"
"""Tags of two builds of the image, which the node has."""
ONLINE = CpuSet.parse("0-7", what="the emulated node")
RESTORER = "app.kubernetes.io/name=cpuset-reconciler-restore"
TAINT = "weka.io/cpus-not-ready"
PATIENCE = 300.0
LIMIT = f"--timeout={PATIENCE:.0f}s"
"""The same for what kubectl waits for."""

Object = dict[str, Any]


def node() -> str:
    """The node's name."""
    return os.environ[NAMED]


def attempt(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command, however it ends."""
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def run(*command: str, text: str = "") -> str:
    """Run a command that must succeed; its output."""
    done = attempt(*command, text=text)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def kubectl(*arguments: str, text: str = "") -> str:
    """Run kubectl, which must succeed; its output."""
    return run("kubectl", *arguments, text=text)


def get(*arguments: str) -> Object:
    """What `kubectl get` finds."""
    found: Object = json.loads(kubectl("get", *arguments, "--output=json"))
    return found


def until(what: str, is_so: Callable[[], bool]) -> None:
    """Wait for something. Raises AssertionError after `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"not within {PATIENCE:g} s: {what}; {told()}"
        time.sleep(0.5)


def told() -> str:
    """The end of the agent's log, and the newest warnings of the cluster, for a message."""
    said = attempt("kubectl", "--namespace", AGENTS, "logs", AGENT, "--tail=5").stdout
    events = attempt("kubectl", "get", "events", "--all-namespaces", "--field-selector=type=Warning")
    return f"agent: {said}; warnings: {events.stdout[-2000:]}"


def until_rolled_out(name: str = AGENT) -> None:
    """Wait until every pod of a DaemonSet of the agent's namespace is new and ready."""
    done = attempt("kubectl", "--namespace", AGENTS, "rollout", "status", name, LIMIT)
    assert done.returncode == 0, f"{name}: {done.stderr}; {told()}"


def kustomization(folder: pathlib.Path, deployed: str) -> str:
    """A kustomization in `folder`, as the guide has it, of what is in deploy/kustomize/DEPLOYED; its path."""
    resource = os.path.relpath(ROOT / "deploy/kustomize" / deployed, folder)
    image = {"name": "cpuset-reconciler", "newName": REPOSITORY, "newTag": BUILT}
    text = {"resources": [resource], "images": [image], "namespace": AGENTS}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(text))
    return str(folder)


def helm(*arguments: str, tag: str = BUILT, values: Iterable[str] = ()) -> str:
    """Run helm on the chart with an image that the node has: `install` or `upgrade`, and further options."""
    verb, *others = arguments
    settings = [f"--set=image.repository={REPOSITORY}", f"--set=image.tag={tag}", *values]
    return run("helm", verb, "cpuset-reconciler", str(CHART), f"--namespace={AGENTS}", *settings, *others)


def ask(*command: str) -> str:
    """Run a command in the agent's container."""
    return kubectl("--namespace", AGENTS, "exec", AGENT, "--", *command)


def status() -> Object:
    """The agent's document."""
    found: Object = json.loads(ask("cpuset-reconciler", "status", "--output", "json"))
    return found


def records(event: str) -> list[Object]:
    """The agent's log records of a kind."""
    lines = kubectl("--namespace", AGENTS, "logs", AGENT).splitlines()
    its = [json.loads(line) for line in lines if line.startswith("{")]
    return [record for record in its if record["event"] == event]


class Pods:
    """Pods of one sleeping container, in a namespace of their own."""

    def run(self, name: str, *, cpus: int = 0) -> None:
        """Make one: `cpus` whole CPUs make it guaranteed, 0 burstable."""
        kubectl("create", "--filename=-", text=json.dumps(pod(name, cpus=cpus)))

    def until_ready(self, *names: str) -> None:
        """Wait until they run."""
        named = [f"pod/{name}" for name in names]
        own = ("kubectl", "--namespace", NAMESPACE)
        done = attempt(*own, "wait", "--for=condition=Ready", LIMIT, *named)
        assert done.returncode == 0, f"{done.stderr}; {told()}"

    def resize(self, name: str, *, cpus: int) -> None:
        """Give a guaranteed one another number of CPUs, in place."""
        asked = {kind: {"cpu": str(cpus)} for kind in ("requests", "limits")}
        patch = {"spec": {"containers": [{"name": "main", "resources": asked}]}}
        own = ("--namespace", NAMESPACE)
        kubectl(*own, "patch", "pod", name, "--subresource=resize", f"--patch={json.dumps(patch)}")

    def allowed(self, name: str) -> CpuSet:
        """The kernel's word for the container's first process."""
        own = ("--namespace", NAMESPACE, "exec", name, "--")
        cpus = cluster.allowed(kubectl(*own, "cat", "/proc/1/status"), what=name)
        assert cpus
        return cpus

    def delete(self, *names: str) -> None:
        """Delete some, and wait until they are gone."""
        kubectl("--namespace", NAMESPACE, "delete", "pod", *names, LIMIT)


def pod(
    name: str,
    *,
    namespace: str = NAMESPACE,
    cpus: int = 0,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """A pod of one container that sleeps, in the agent's own image."""
    asked = {"requests": {"memory": "16Mi"}}
    if cpus:
        asked = {kind: {"cpu": str(cpus), "memory": "16Mi"} for kind in ("requests", "limits")}
    container = {
        "name": "main",
        "image": f"{REPOSITORY}:{BUILT}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "resources": asked,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": dict(annotations or {})},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
        },
    }


def placed(pods: Pods) -> None:
    """A pod with two CPUs of its own, and one that has all others, those of former pods included."""
    pods.until_ready("web", "db")
    until("the agent has converged", lambda: bool(status()["converged"]))
    own = pods.allowed("db")
    assert len(own) == 2, f"db may run on {own}; {told()}"
    until(f"web has all but {own}", lambda: pods.allowed("web") == ONLINE - own)
