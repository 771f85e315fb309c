"""A node of a cluster in one process, behind the words of kubectl: the API server, kubelet and the agent as
far as the player of scenarios asks them. The agent is the pure pipeline; its node is not the scenarios'."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from subprocess import CompletedProcess
from typing import Any

from hack.e2e import cluster
from reconciler import events, intent
from reconciler.cpu import topology as topologies
from tests.scenarios import ground, model, pure

NODE = "worker"
NAMESPACE = "wekaplugin-e2e"
NAMES = cluster.Names(namespace=NAMESPACE, agent_namespace=f"{NAMESPACE}-agent", node=NODE, image="agent:1")
STRANGER = model.Pod(
    pod="stranger",
    namespace="others",
    qos="guaranteed",
    annotations={intent.CORES: "14-15"},
    containers={"main": model.Container(limit=2)},
)
"""Whose CPUs are held before any scenario."""
_VALUED = ("--namespace", "--filename", "--field-selector", "--selector", "--output", "--container")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What kubectl is called with: `words` are the arguments that are no options, without the verb."""

    words: list[str]
    arguments: list[str]
    text: str


class Standin:
    """Called as `cluster.Kubectl` is. `machine` is one of `fixtures/machines`."""

    def __init__(self, machine: str = "two-socket") -> None:
        steps = (model.Step(run=STRANGER),)
        scenario = model.Scenario(name="a cluster", covers=("PRD-1.1",), machine=machine, steps=steps)
        self.node = pure.PureGround(scenario)
        self.calls: list[list[str]] = []
        self.uids: dict[str, str] = {}
        self._manifests: dict[str, dict[str, Any]] = {}
        self._waiting: dict[str, list[str]] = {}
        self._events: list[tuple[str, str]] = []
        asyncio.run(self.node.run_pod(STRANGER))

    def __call__(self, arguments: list[str], text: str) -> CompletedProcess[str]:
        """Answer as kubectl would."""
        self.calls.append(arguments)
        verb, *words = _words(arguments)
        answer = getattr(self, f"_{verb}")
        try:
            out = answer(Call(words=words, arguments=arguments, text=text))
        except LookupError as error:
            return CompletedProcess(arguments, 1, "", f"Error from server (NotFound): {error}\n")
        except TimeoutError as error:
            return CompletedProcess(arguments, 1, "", f"error: {error}\n")
        return CompletedProcess(arguments, 0, out, "")

    def _create(self, call: Call) -> str:
        manifest = json.loads(call.text)
        pod = read(manifest)
        self.uids[pod.pod] = f"uid-{len(self.calls)}"
        self._manifests[pod.pod] = manifest
        try:
            asyncio.run(self.node.run_pod(pod))
        except ground.RefusedError as refused:
            self._tell(pod.pod, str(refused))
        made = self.node.pods[pod.pod].attempts
        self._waiting[pod.pod] = [name for name in pod.first if name not in made]
        self._retry()
        return self.uids[pod.pod]

    def _retry(self) -> None:
        """Kubelet tries every container that was refused again."""
        for pod, names in self._waiting.items():
            for name in tuple(names):
                try:
                    asyncio.run(self.node.create(f"{pod}/{name}"))
                    names.remove(name)
                except ground.RefusedError as refused:
                    self._tell(pod, str(refused))

    def _tell(self, pod: str, refusal: str) -> None:
        message = f"Error: failed to create containerd container: {refusal}"
        self._events.append((self.uids[pod], message))

    def _told(self, uid: str) -> list[dict[str, str]]:
        """Events outlive their pods, as those of the API server do."""
        return [{"message": message} for whose, message in self._events if whose == uid]

    def _wait(self, call: Call) -> str:
        pod = call.words[0].removeprefix("pod/")
        self._retry()
        if pod not in self._manifests:
            raise KeyError(pod)
        if self._waiting[pod]:
            raise TimeoutError(f"timed out waiting for the condition on pods/{pod}")
        return f"pod/{pod} condition met\n"

    def _delete(self, call: Call) -> str:
        chosen = call.words[1:] or list(self._manifests)
        for pod in chosen:
            if self._manifests.pop(pod, None) is not None:
                asyncio.run(self.node.delete_pod(pod))
                del self._waiting[pod]
        return "".join(f'pod "{pod}" deleted\n' for pod in chosen)

    def _get(self, call: Call) -> str:
        if call.words[0] == "node":
            cpus = len(self.node.now.terms.topology.online)
            return json.dumps({"status": {"allocatable": {"cpu": str(cpus)}}})
        if call.words[0] == "events":
            found = re.search(r"involvedObject.uid=([^,]+),type=Warning", " ".join(call.arguments))
            assert found is not None
            return json.dumps({"items": self._told(found[1])})
        if "--selector" in call.arguments:
            return "pod/cpuset-reconciler-abcde\n"
        return json.dumps({"items": list(self._manifests.values())})

    def _exec(self, call: Call) -> str:
        command = call.arguments[call.arguments.index("--") + 1 :]
        if command[1:2] == ["status"]:
            return json.dumps(self.status())
        if command[0] == "sh":
            asyncio.run(self.node.write(self._key(command[-2]), "cpuset.cpus", command[-1]))
            return ""
        if command == ["cat", "/proc/1/status"]:
            container = call.arguments[call.arguments.index("--container") + 1]
            return f"Name:\tsleep\nCpus_allowed_list:\t{self.allowed(f'{call.words[0]}/{container}')}\n"
        return self.node.files[topologies.ONLINE]

    def status(self) -> dict[str, Any]:
        """What the agent says."""
        asyncio.run(self.node.settle())
        return asyncio.run(self.node.status())

    def allowed(self, key: str) -> str:
        """What the kernel lets a container's first process run on."""
        return asyncio.run(self.node.seen(key)).effective

    def _key(self, id_: str) -> str:
        container = self.node.now.inventory.containers[events.ContainerId(id_)]
        return f"{self.node.now.pod_of(container).name}/{container.name}"


def _words(arguments: list[str]) -> list[str]:
    """Without the options, and without what comes after `--`."""
    words = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        if word == "--":
            break
        if not word.startswith("-") and before not in _VALUED:
            words.append(word)
    return words


def read(manifest: dict[str, Any]) -> model.Pod:
    """A pod's manifest as the scenarios' pods. The QoS class is by the rule of Kubernetes."""
    containers = {its["name"]: its["resources"] for its in manifest["spec"]["containers"]}
    return model.Pod(
        pod=manifest["metadata"]["name"],
        namespace=manifest["metadata"]["namespace"],
        qos=_qos(list(containers.values())),
        annotations=manifest["metadata"]["annotations"],
        containers={
            name: model.Container(limit=_cpus(its, "limits"), request=_cpus(its, "requests"))
            for name, its in containers.items()
        },
    )


def _qos(resources: list[dict[str, dict[str, str]]]) -> Any:
    if not any(resources):
        return "besteffort"
    for its in resources:
        limits = its.get("limits", {})
        if {"cpu", "memory"} - limits.keys() or {**limits, **its.get("requests", {})} != limits:
            return "burstable"
    return "guaranteed"


def _cpus(resources: dict[str, dict[str, str]], which: str) -> float | None:
    quantity = resources.get(which, {}).get("cpu")
    return None if quantity is None else cluster.milli(quantity) / 1000
