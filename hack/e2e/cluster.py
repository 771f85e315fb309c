"""A cluster through kubectl: pods of one namespace on one node, and the agent beside them. I/O: processes."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

from hack.e2e import judgement, manifests, selection
from reconciler import errors
from reconciler.cpu.idset import CpuSet
from tests.scenarios import model

AGENT = "app.kubernetes.io/name=cpuset-reconciler"
"""The label of the agent's pods in every way of deploying it."""
PROGRAM = "/usr/bin/cpuset-reconciler"
ONLINE = "/host/sys/devices/system/cpu/online"
_ALLOWED = re.compile(r"^Cpus_allowed_list:\s*(\S*)$", re.MULTILINE)
_PAUSE_SECONDS = 0.5
WRITE = """
text=$2
set -- $(find /host/sys/fs/cgroup -type d -name "*$1*" ! -name "crio-conmon-*")
printf '%s\\n' "$text" >"$1/cpuset.cpus"
"""
"""In the agent's container: writes to the cgroup of a container's id, not to that of its monitor."""


class ClusterError(Exception):
    """The cluster does not do what is asked; the text is a sentence with kubectl's own words."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Where everything is. `image` is one with `sleep` and `cat`, which the agent's own is."""

    namespace: str
    agent_namespace: str
    node: str
    image: str


Kubectl = Callable[[list[str], str], subprocess.CompletedProcess[str]]
"""Runs kubectl with these arguments and this standard input."""


def kubectl(arguments: list[str], text: str) -> subprocess.CompletedProcess[str]:
    """The program, with the cluster of the environment."""
    command = ["kubectl", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


class Cluster:
    """`patience` is how long anything may take that kubelet has to do, in seconds."""

    def __init__(self, names: Names, *, run: Kubectl = kubectl, patience: float = 120) -> None:
        self._names = names
        self._run = run
        self._patience = patience
        self._uids: dict[str, str] = {}

    def create(self, pod: model.Pod) -> None:
        """Have the API server make a pod."""
        names = self._names
        manifest = manifests.pod(pod, namespace=names.namespace, node=names.node, image=names.image)
        uid = "jsonpath={.metadata.uid}"
        self._uids[pod.pod] = self._call(
            "create", "--filename", "-", "--output", uid, text=json.dumps(manifest)
        )

    def until_ready(self, pod: str) -> None:
        """Return when all its containers run. Raises ClusterError with what is told of the pod."""
        limit = f"--timeout={self._patience:.0f}s"
        done = self._run(self._own("wait", "--for=condition=Ready", limit, f"pod/{pod}"), "")
        if done.returncode:
            told = "; ".join(self.told_of(pod)) or _last_line(done.stderr)
            raise ClusterError(f"pod {pod} is not ready within {self._patience:.0f} s: {told}")

    def until_refused(self, pod: str, why: str) -> None:
        """Return when an event of the pod has these words. Raises ClusterError with what it says instead."""
        told: list[str] = []
        if not self._within(lambda: any(why in text for text in self._collect(told, pod))):
            said = "; ".join(told) or "nothing is told of it"
            raise ClusterError(f"pod {pod} is not refused with {why!r}: {said}")

    def _collect(self, told: list[str], pod: str) -> list[str]:
        told[:] = self.told_of(pod)
        return told

    def told_of(self, pod: str) -> list[str]:
        """The warnings among the pod's events, and not those of an earlier pod of its name."""
        field = f"involvedObject.uid={self._uids[pod]},type=Warning"
        events = self._json("get", "events", "--field-selector", field)
        return [str(event["message"]) for event in events["items"]]

    def delete(self, pods: Iterable[str]) -> None:
        """Return when the pods are gone."""
        if named := list(pods):
            limit = f"--timeout={self._patience:.0f}s"
            self._call(*self._own("delete", "pod", "--ignore-not-found", limit, *named))

    def clear(self) -> None:
        """Delete all pods that were made."""
        label = ",".join(f"{key}={value}" for key, value in manifests.MARK.items())
        self._call(*self._own("delete", "pod", "--selector", label, f"--timeout={self._patience:.0f}s"))

    def write(self, key: str, text: str) -> None:
        """Write to a container's `cpuset.cpus` behind the agent's back, and return when it has found that."""
        entry = self._entry(key)
        found = self.status()["drift"]["found"]
        self._in_agent("sh", "-c", WRITE, "sh", str(entry["id"]), text)
        different = CpuSet.parse(text, what="text") != CpuSet.parse(entry["desired"]["cpus"], what=key)
        if different and not self._within(lambda: self.status()["drift"]["found"] > found):
            raise ClusterError(f"{key}: the agent does not find that its CPUs became {text or 'none'}")

    def settle(self, keys: set[str]) -> judgement.Look:
        """What is there once the agent has converged and knows just these containers, or after a time."""
        self._within(lambda: self._is_settled(keys))
        status = self.status()
        look = judgement.Look(namespace=self._names.namespace, status=status, allowed={})
        allowed = {key: self._allowed(key) for key in look.entries() if not key.endswith("/POD")}
        return dataclasses.replace(look, allowed=allowed)

    def _is_settled(self, keys: set[str]) -> bool:
        status = self.status()
        look = judgement.Look(namespace=self._names.namespace, status=status, allowed={})
        return bool(status["converged"]) and look.entries().keys() == keys

    def status(self) -> dict[str, Any]:
        """The agent's document."""
        found: dict[str, Any] = json.loads(self._in_agent(PROGRAM, "status", "--output", "json"))
        return found

    def node(self) -> selection.Node:
        """The node as it is now."""
        status = self.status()
        lists = (its["claim"] or "" for its in status["containers"] if its["class"].startswith("annotated"))
        taken = selection.union(CpuSet.parse(text, what="claim") for text in lists)
        pools = {name: CpuSet.parse(text, what=name) for name, text in status["pools"].items()}
        return selection.Node(
            online=CpuSet.parse(self._in_agent("cat", ONLINE), what=ONLINE),
            free=pools["shared"] - pools["reserved"] - taken,
            milli=self._milli(),
            refuses=status["mode"] == "nri",
        )

    def _milli(self) -> int:
        node = self._json("get", "node", self._names.node)
        field = f"spec.nodeName={self._names.node},status.phase!=Succeeded,status.phase!=Failed"
        pods = self._json("get", "pods", "--all-namespaces", "--field-selector", field)
        asked = (
            container.get("resources", {}).get("requests", {}).get("cpu", "0")
            for pod in pods["items"]
            for container in pod["spec"]["containers"]
        )
        return milli(node["status"]["allocatable"]["cpu"]) - sum(map(milli, asked))

    def _entry(self, key: str) -> judgement.Document:
        look = judgement.Look(namespace=self._names.namespace, status=self.status(), allowed={})
        return look.entries()[key]

    def _allowed(self, key: str) -> CpuSet:
        """The kernel's word for the container's first process, which is not the agent's."""
        pod, _, container = key.partition("/")
        done = self._run(self._own("exec", pod, "--container", container, "--", "cat", "/proc/1/status"), "")
        return allowed(done.stdout, what=key)

    def _in_agent(self, *command: str) -> str:
        where = ["--namespace", self._names.agent_namespace]
        return self._call(*where, "exec", self._agent(), "--", *command)

    def _agent(self) -> str:
        where = ["--namespace", self._names.agent_namespace, "--selector", AGENT]
        on = ["--field-selector", f"spec.nodeName={self._names.node}"]
        found = self._call("get", "pods", *where, *on, "--output", "name").split()
        if not found:
            raise ClusterError(f"node {self._names.node} has no pod of the agent")
        return found[0]

    def _within(self, is_so: Callable[[], bool]) -> bool:
        until = time.monotonic() + self._patience
        while not is_so():
            if time.monotonic() >= until:
                return False
            time.sleep(_PAUSE_SECONDS)
        return True

    def _own(self, *arguments: str) -> list[str]:
        return ["--namespace", self._names.namespace, *arguments]

    def _json(self, *arguments: str) -> dict[str, Any]:
        own = arguments if "--all-namespaces" in arguments else self._own(*arguments)
        found: dict[str, Any] = json.loads(self._call(*own, "--output", "json"))
        return found

    def _call(self, *arguments: str, text: str = "") -> str:
        done = self._run(list(arguments), text)
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments[:6])}: {_last_line(done.stderr)}")
        return done.stdout


def allowed(status: str, *, what: str) -> CpuSet:
    """What a process may run on, of its proc_pid_status(5); empty where it does not say. Raises Malformed."""
    found = _ALLOWED.search(status)
    return CpuSet.parse(found[1], what=what) if found else CpuSet()


def milli(quantity: str) -> int:
    """Thousandths of a CPU that a quantity means. Raises Malformed."""
    try:
        return int(quantity[:-1]) if quantity.endswith("m") else round(float(quantity) * 1000)
    except ValueError as error:
        raise errors.Malformed("quantity", f"{quantity!r} is no number of CPUs") from error


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]
