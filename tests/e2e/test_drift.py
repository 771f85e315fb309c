"""Whoever changes a placement behind the agent's back, it is put right, and the log says so."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from reconciler import errors
from tests.e2e import agent as agents
from tests.e2e import node, place, pods, settle, systemd

_TRIES = 10


async def test_a_wrong_write_by_a_shell_is_repaired_and_logged(
    machine: node.Node, agent: agents.Agent
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    cgroup = machine.cgroup(pod, id_)
    right = cgroup.cpus
    cgroup.write_as_shell("cpuset.cpus", "0-7")
    status = await settle.settle(machine, agent)
    assert (cgroup.cpus, cgroup.effective, cgroup.allowed()) == (right, right, {right})
    assert status["drift"] == {"found": 1, "repaired": 1, "unrepaired": 0}
    found = await agent.until_logged("drift.found", id=id_)
    assert (found["file"], found["desired"], found["observed"]) == ("cpuset.cpus", right, "0-7")
    assert found["found_by"] == "inotify"
    repaired = await agent.until_logged("drift.repaired", id=id_)
    assert repaired["pass_id"] == found["pass_id"]
    assert repaired["lasted_ms"] > 0


@place.needs_systemd
async def test_a_daemon_reload_after_a_pool_change_is_repaired_with_the_time_it_lasted(
    machine: node.Node, agent: agents.Agent
) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    # systemd keeps the list of the creation; the pool's change goes past it.
    alone = await machine.run_pod(pods.guaranteed("db"))
    await machine.run(alone, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    right = machine.cgroup(web, follows).cpus
    assert right != "0-7"
    systemd.systemctl("daemon-reload")
    if not systemd.reload_rewrites():
        assert (await settle.settle(machine, agent))["drift"]["found"] == 0
        assert machine.cgroup(web, follows).cpus == right
        return
    found = await agent.until_logged("drift.found", id=follows)
    assert (found["observed"], found["desired"]) == ("0-7", right)
    repaired = await agent.until_logged("drift.repaired", id=follows)
    assert repaired["lasted_ms"] > 0
    status = await settle.settle(machine, agent)
    assert machine.cgroup(web, follows).cpus == right
    assert status["drift"]["unrepaired"] == 0
    print(f"daemon-reload undone after {repaired['lasted_ms']} ms")


@place.needs_nri
async def test_an_update_of_the_quota_alone_keeps_the_placement(
    machine: node.Node, agent: agents.Agent
) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    alone = await machine.run_pod(pods.guaranteed("db"))
    await machine.run(alone, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    right = machine.cgroup(web, follows).cpus
    await machine.update(follows, cpu_quota=50_000)
    assert machine.cgroup(web, follows).read("cpu.max").startswith("50000 ")
    assert machine.cgroup(web, follows).cpus == right
    status = await settle.settle(machine, agent)
    assert status["drift"]["found"] == 0


async def test_an_agent_that_was_killed_finds_every_placement_and_mends_what_it_missed(
    machine: node.Node, agent: agents.Agent
) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    storage = await machine.run_pod(pods.guaranteed("storage", "4-5"))
    listed = await machine.run(storage, pods.WHOLE_TWO)
    alone = await machine.run_pod(pods.guaranteed("db"))
    own = await machine.run(alone, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    before = {id_: cgroup.cpus for id_, cgroup in machine.cgroups().items()}
    agent.kill()
    machine.cgroup(web, follows).write_as_shell("cpuset.cpus", "4-5")
    await agent.start()
    status = await settle.settle(machine, agent)
    assert {id_: cgroup.cpus for id_, cgroup in machine.cgroups().items()} == before
    classes = {entry["id"]: entry["class"] for entry in status["containers"]}
    assert (classes[listed], classes[own], classes[follows]) == ("annotated-exclusive", "integer", "shared")


@place.needs_nri
async def test_a_refused_creation_tells_the_pods_owner_why(machine: node.Node, agent: agents.Agent) -> None:
    first = await machine.run_pod(pods.guaranteed("first", "2-3"))
    holds = await machine.run(first, pods.WHOLE_TWO)
    second = await machine.run_pod(pods.guaranteed("second", "3-4"))
    with pytest.raises(errors.Refused, match="CPU 3 by annotated-exclusive default/first"):
        await machine.run(second, pods.WHOLE_TWO)
    assert machine.cgroup(first, holds).cpus == "2-3"
    assert (await agent.until_logged("placement.refused", pod="second"))["container"] == "main"


async def test_an_annotated_pod_has_the_memory_of_its_cpus(machine: node.Node, agent: agents.Agent) -> None:
    pod = await machine.run_pod(pods.guaranteed("storage", "6-7"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    cgroup = machine.cgroup(pod, id_)
    assert (cgroup.cpus, cgroup.mems, cgroup.read("cpuset.mems.effective")) == ("6-7", "1", "1")
    cgroup.write_as_shell("cpuset.mems", "0-1")
    await settle.settle(machine, agent)
    assert cgroup.mems == "1"


@place.needs_systemd
async def test_a_parent_narrowed_by_systemd_is_told_and_ends_by_itself_when_it_is_undone(
    machine: node.Node, agent: agents.Agent
) -> None:
    pod = await machine.run_pod(pods.shared("web"))
    id_ = await machine.run(pod, pods.SHARED)
    await settle.settle(machine, agent)
    cgroup = machine.cgroup(pod, id_)
    narrow = ("set-property", "--runtime", "kubepods-burstable.slice")
    systemd.systemctl(*narrow, "AllowedCPUs=0-3")
    await cgroup.until_effective("0-3")
    assert cgroup.cpus == "0-7"
    found = await agent.until_logged("drift.found", id=id_)
    assert found["effective"] == "0-3"
    told = await agent.until_logged("drift.unrepairable", id=id_)
    assert told["unenforceable"]["ancestor"] == "kubepods.slice/kubepods-burstable.slice"
    systemd.systemctl(*narrow, "AllowedCPUs=0-7")
    await cgroup.until_effective("0-7")
    await settle.settle(machine, agent)
    systemd.systemctl(*narrow, "AllowedCPUs=")


async def test_the_command_line_tells_the_same_as_the_socket(machine: node.Node, agent: agents.Agent) -> None:
    await machine.run_pod(pods.shared("web"))
    await settle.settle(machine, agent)
    by_socket, by_command = await _both_answers(agent)
    assert by_command == by_socket


async def _both_answers(agent: agents.Agent) -> tuple[dict[str, Any], dict[str, Any]]:
    """Taken while nothing changed, such as whether the checkpoint is written."""
    program = (sys.executable, "-m", "reconciler.cli.main")
    for _ in range(_TRIES):
        before = await agent.status()
        told = json.loads(systemd.run(*program, "status", "--output", "json", "--check"))
        if await agent.status() == before:
            return before, told
    raise AssertionError(f"the status was another one each of {_TRIES} times")
