"""What must hold when an agent was killed: at once, after the next one's start, and in the end."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from reconciler import observed
from reconciler.cpu.idset import CpuSet
from reconciler.policy import checkpoint
from tests.killed import agents, ground, script

Claims = Mapping[str, CpuSet]
"""Claims by `pod/container`, of containers that are down, too; the container is "" for a pod's list."""
_BAD = (
    *("agent.failed", "nri.handler-failed", "library.said", "host.limited", "drift.unrepairable"),
    *("checkpoint.set-aside", "checkpoint.misfit", "checkpoint.failed", "placement.unsatisfied"),
)
_HALF_MADE = "no such file; the cpuset controller"
"""What can be said of a group that the stand-in is about to make: unlike the kernel, it makes the files after
the directory."""


def saved(node: ground.Node) -> Claims:
    """What the checkpoint says; nothing where there is none. Raises Unusable for half of one."""
    file = pathlib.Path(node.its.folder, "state/checkpoint.json")
    if not file.exists():
        return {}
    ledger = checkpoint.decode(file.read_bytes()).ledger
    return {f"{claim.pod.partition('/')[2]}/{claim.key.name}": claim.cpus for claim in ledger.claims.values()}


def is_one_of(claims: Claims, before: Claims, after: Claims) -> None:
    """Each claim is as it was before or as it was to be: no one has it who had it not, and none is lost."""
    for name in {*claims, *before, *after}:
        assert claims.get(name) in (before.get(name), after.get(name)), (name, claims, before, after)


def untouched(node: ground.Node, held: Claims, action: script.Action) -> None:
    """At the moment of the death, whom the action does not concern runs on his CPUs, and nobody else does."""
    cpusets = node.cpusets()
    changed = {node.ids.get(name) for name in (*action.concerns, action.writes)}
    written = {id_: cpus for id_, cpus in cpusets.items() if cpus and id_ != node.ids.get(action.writes)}
    for id_, cpus in held.items():
        if id_ in cpusets and id_ not in changed:
            assert cpusets[id_] == cpus, (id_, cpusets[id_], cpus)
            alone({id_: cpus}, written)


def settled(node: ground.Node, status: ground.Status) -> None:
    """Everything is as status says, status says that all is well, and nobody has anyone's CPUs."""
    cpusets = node.cpusets()
    for entry in status["containers"]:
        assert entry["state"] == "in-sync" or entry["id"] not in cpusets, entry
        if entry["id"] in cpusets:
            assert str(cpusets[entry["id"]]) == entry["desired"]["cpus"], entry
    held = ground.claims(status)
    alone(held, {**cpusets, **held})


def alone(held: Mapping[str, CpuSet], cpusets: Mapping[str, CpuSet]) -> None:
    """No CPU that one holds is in the set of another; an empty set has them all."""
    for id_, cpus in held.items():
        for other, others in cpusets.items():
            assert other == id_ or (others and others.isdisjoint(cpus)), (
                f"{other} has {others or 'all CPUs'}, of which {id_} holds {cpus}"
            )


def took_one_pass(agent: agents.Agent) -> None:
    """The agent needed no second pass that writes."""
    writes = [record["writes"] for record in agent.records("pass.done")]
    assert sum(1 for count in writes if count) <= 1, writes


def disturbed_nobody(agent: agents.Agent, cpusets: Claims, held: Claims) -> None:
    """No write of the agent's put anyone on the CPUs of a container that has some to itself at that moment.

    `cpusets` is what every group said before the first of them, `held` what some of these hold, by paths.
    """
    now = dict(cpusets)
    for path, file, text in agent.writes():
        if file != observed.CPUS:
            continue
        cpus = CpuSet.parse(text, what=path)
        came = cpus - now[path] if now[path] else CpuSet()
        for holder in held:
            wrong = CpuSet() if holder == path else came & now[holder]
            assert not wrong, f"{path} was put on CPU {wrong} of {holder}"
        now[path] = cpus


def said_nothing_bad(agent: agents.Agent) -> None:
    """Its log has no complaint."""
    said = [record for record in agent.records(*_BAD) if _HALF_MADE not in record.get("reason", "")]
    assert said == [], said


async def lives_on(node: ground.Node, before: Claims, after: Claims) -> None:
    """Start an agent that goes on after the one that died, and judge; then end all pods.

    `before` and `after` are all claims when the action began in which that died, and at its end.
    """
    cpusets = node.by_path(node.cpusets())
    agent = await node.start("next")
    status = await _quiet(node)
    settled(node, status)
    took_one_pass(agent)
    held = {path: its for path, its in node.by_path(ground.claims(status)).items() if cpusets[path] == its}
    disturbed_nobody(agent, cpusets, held)
    is_one_of(saved(node), before, after)
    await node.go_on()
    settled(node, await _quiet(node))
    is_one_of(saved(node), before, after)
    for pod in list(node.pods):
        await node.remove_pod(pod)
    status = await _quiet(node)
    left = status["containers"], status["pools"]["shared"], saved(node)
    assert left == ([], "0-7", {}), left
    said_nothing_bad(agent)
    assert await agent.stop() == 0


async def _quiet(node: ground.Node) -> ground.Status:
    status = await node.quiet()
    assert status is not None, node.agent.records()[-5:]
    return status
