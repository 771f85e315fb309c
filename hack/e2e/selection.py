"""Which scenarios a cluster can play, and why not the others. Pure: a scenario and a node's numbers give a
sentence.

A scenario is written for one machine. What it says of any machine is played: classes, numbers of CPUs, lists,
who shares nothing with whom, and refusals for what an annotation says. What hangs on the machine's size, or
on who starts and stops containers, is not.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import operator
from collections.abc import Iterable, Iterator

from hack.e2e import manifests
from reconciler import errors, intent
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from tests.scenarios import ground, model, pure

_ACTIONS = {
    "create": "kubelet itself says when a container is created again",
    "exit": "kubelet starts a container that ended at once",
    "remove": "kubelet removes the records of containers when it likes",
    "update": "kubelet asks for no change of a quota alone",
    "resize": "not every cluster resizes pods in place, so none is asked to",
    "agent": "its DaemonSet starts the agent again at once",
    "runtime": "restarting the runtime reaches beyond the test",
    "offline": "switching CPUs off reaches beyond the test",
    "online": "switching CPUs on reaches beyond the test",
}
"""What is not done on a cluster, and why."""

_MACHINE = "vm"
"""The plain machine: what is written for another one is about what is special of that one."""

_RELATIVE = ("annotation", "held")
"""Grounds of refusals that do not hang on the size of the machine."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node before any scenario.

    `online` are its CPUs, `free` those of the shared pool that are in nobody's list and not reserved, `milli`
    what the scheduler can still give in thousandths of a CPU, `refuses` whether the agent's door can refuse.
    """

    online: CpuSet
    free: CpuSet
    milli: int
    refuses: bool


def why_not(scenario: model.Scenario, node: Node) -> str:
    """Why the node cannot play the scenario, in words, or ""."""
    if scenario.config:
        return f"it has a configuration of its own: {', '.join(sorted(scenario.config))}"
    if scenario.machine != _MACHINE and any(
        its.cpus for step in scenario.steps for its in step.expect.values()
    ):
        return f"it is about which CPUs a machine like {scenario.machine} has"
    for reason in _reasons(scenario):
        return reason
    if any(step.refused for step in scenario.steps):
        if not node.refuses:
            return "without NRI nothing is refused"
        if reason := _why_not_refused(scenario, node):
            return reason
    return _why_no_room(scenario, node)


def _reasons(scenario: model.Scenario) -> Iterator[str]:
    """What speaks against it on every cluster."""
    refused: set[str] = set()
    for step in parts(scenario):
        if step.run is not None:
            yield from strange(step.run)
            if step.refused is not None:
                refused |= {f"{step.run.pod}/{name}" for name in step.run.first}
        elif step.write is not None:
            if step.write.file != "cpuset.cpus":
                yield f"what {step.write.file} may say hangs on the machine"
        elif not (step.delete or step.together or step.create in refused):
            yield next(why for action, why in _ACTIONS.items() if getattr(step, action) is not None)
        if any(expected.state != "in-sync" for expected in step.expect.values()):
            yield "that a container is unsatisfied hangs on the size of the machine"


def strange(pod: model.Pod) -> Iterator[str]:
    """Why the API server, or a single namespace, cannot have the pod as it is."""
    if pod.namespace != "default":
        yield "it has pods in namespaces of its own"
    for container in pod.containers.values():
        if not container.quota:
            yield "kubelet sets a quota for every limit"
        if pod.qos == "guaranteed" and container.limit is None:
            yield "the API server makes no pod Guaranteed that has a container without a limit"


def _why_not_refused(scenario: model.Scenario, node: Node) -> str:
    """Plays it on its own machine, to see what each refusal is for."""
    rehearsal = pure.PureGround(scenario)
    same = CpuSet.parse(rehearsal.files[topologies.ONLINE], what=topologies.ONLINE) == node.online
    for step in scenario.steps:
        try:
            asyncio.run(ground.act(step, rehearsal))
        except ground.RefusedError as refused:
            why = refused.__cause__
            if isinstance(why, errors.Refused) and why.ground not in _RELATIVE:
                return f"that it is refused ({why.ground}) hangs on the size of the machine"
            if not same and (reason := _why_only_there(step, str(refused), node)):
                return reason
    return ""


def _why_only_there(step: model.Step, refusal: str, node: Node) -> str:
    """Why a refusal is one on machines with just the CPUs of the scenario's, or ""."""
    if "is not online" in refusal:
        return "that a CPU is not online hangs on the machine"
    if intent.FORBID in refusal:
        return "that nothing of the shared pool is left hangs on the size of the machine"
    if step.run is not None and not named_by(step.run) <= node.online:
        return f"it names CPUs {named_by(step.run)}, and the node has {node.online}"
    return ""


def _why_no_room(scenario: model.Scenario, node: Node) -> str:
    """By the most that is there at a time: on the scenario's machine everyone finds room."""
    there: dict[str, model.Pod] = {}
    runs = [step.run for step in parts(scenario) if step.run is not None]
    for step in parts(scenario):
        if step.delete is not None:
            there.pop(step.delete, None)
        elif step.write is not None and not _list(step.write.text) <= node.online:
            return f"it writes CPUs {step.write.text}, and the node has {node.online}"
        elif step.run is not None and step.refused is None:
            there[step.run.pod] = step.run
        elif step.create is not None:
            there |= {pod.pod: pod for pod in runs if pod.pod == step.create.split("/")[0]}
        if reason := _why_they_do_not_fit(list(there.values()), node):
            return reason
    return ""


def _why_they_do_not_fit(pods: list[model.Pod], node: Node) -> str:
    named = union(map(named_by, pods))
    if not named <= node.free:
        return f"it names CPUs {named}, and free are {node.free or 'none'}"
    forbidden = union(map(forbidden_to, pods))
    whole = sum(_whole_cpus(pod) for pod in pods if not named_by(pod))
    # One CPU is left to the shared pool at least.
    if (needed := len(named | forbidden) + whole + 1) > len(node.free):
        return f"it needs {needed} free CPUs, and there are {len(node.free)}"
    if (milli := sum(map(manifests.cpu_request, pods))) > node.milli:
        return f"its pods request {milli}m of CPU at a time, and {node.milli}m are left to be requested"
    return ""


def parts(scenario: model.Scenario) -> Iterator[model.Step]:
    """Every step, and those that are done together."""
    for step in scenario.steps:
        yield step
        yield from step.together or ()


def named_by(pod: model.Pod) -> CpuSet:
    """The CPUs of all its lists."""
    texts = [text for key, text in pod.annotations.items() if key.startswith(intent.CORES)]
    return union(map(_list, texts))


def forbidden_to(pod: model.Pod) -> CpuSet:
    """The CPUs of its forbid list; none where that is malformed."""
    return _list(pod.annotations.get(intent.FORBID, ""))


def union(sets: Iterable[CpuSet]) -> CpuSet:
    """All of them together."""
    return functools.reduce(operator.or_, sets, CpuSet())


def _list(text: str) -> CpuSet:
    try:
        return CpuSet.parse(text, what="list") if text else CpuSet()
    except errors.Malformed:
        return CpuSet()


def _whole_cpus(pod: model.Pod) -> int:
    """How many CPUs its containers with integer semantics take."""
    if pod.qos != "guaranteed":
        return 0
    limits = [pod.containers[name].limit or 0 for name in pod.first]
    return sum(round(limit) for limit in limits if limit >= 1 and limit == round(limit))
