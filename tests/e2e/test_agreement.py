"""Others who write the same files: a shell that does not stop, a kubelet, a runtime that comes to agree."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pathlib
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e import agent as agents
from tests.e2e import node, place, pods, settle, systemd

# covers: PRD-7.13, PRD-7.14, PRD-7.15
STATE = pathlib.Path("/var/lib/kubelet/cpu_manager_state")
_WRITES = 100
"""Of the shell, twenty a second."""


@pytest.fixture
async def polling(request: pytest.FixtureRequest, machine: node.Node) -> AsyncIterator[agents.Agent]:
    """A fresh agent that polls, though the node may have NRI."""
    async with agents.running(agents.Agent(source="cri"), machine, request.node.name) as it:
        yield it


@pytest.fixture
def kubelet_state() -> Iterator[pathlib.Path]:
    """Where kubelet's CPU manager keeps its state; as it was, afterwards."""
    before = STATE.read_bytes() if STATE.exists() else None
    STATE.parent.mkdir(parents=True, exist_ok=True)
    yield STATE
    if before is None:
        STATE.unlink(missing_ok=True)
    else:
        STATE.write_bytes(before)


async def test_a_fight_is_counted_and_named_and_ends_with_the_container_in_its_place(
    machine: node.Node, agent: agents.Agent
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    file = machine.cgroup(pod, id_).path / "cpuset.cpus"
    loop = f"for i in $(seq {_WRITES}); do echo 0-7 > {file}; sleep 0.05; done"
    shell = await asyncio.create_subprocess_exec("/bin/sh", "-c", loop)
    assert await shell.wait() == 0
    raised = await agent.until_logged("conflict.raised", id=id_)
    assert raised["opponent"] == "a second agent"
    status = await settle.settle(machine, agent, patience=10)
    assert machine.cgroup(pod, id_).allowed() == {"2-3"}
    [entry] = [entry for entry in status["containers"] if entry["id"] == id_]
    times = entry["conflict"]["times"]
    assert times >= 3
    assert [opponent["kind"] for opponent in status["opponents"]] == ["agent"]
    told = [record for event in ("drift.found", "drift.repaired") for record in agent.records(event, id=id_)]
    told += agent.records("conflict.goes-on", id=id_)
    assert len(told) <= 2 * 2 + times.bit_length()
    print(f"{_WRITES} writes were {times} drifts, and {len(told) + 1} lines in the log")


async def test_a_kubelet_with_a_static_cpu_manager_is_named_until_it_is_gone(
    agent: agents.Agent, kubelet_state: pathlib.Path
) -> None:
    state = {"policyName": "static", "defaultCpuSet": "0-7", "entries": {}, "checksum": 0}
    kubelet_state.write_text(json.dumps(state))
    found = await agent.until_logged("opponent.found", kind="kubelet")
    assert found["evidence"] == "/var/lib/kubelet/cpu_manager_state says so"
    assert [entry["kind"] for entry in (await agent.status())["opponents"]] == ["kubelet"]
    kubelet_state.write_text(json.dumps({"policyName": "none", "defaultCpuSet": "", "checksum": 0}))
    await agent.until_logged("opponent.gone", kind="kubelet")
    assert (await agent.status())["opponents"] == []


async def test_a_stale_record_is_written_back_once_and_then_the_runtime_agrees(
    machine: node.Node, polling: agents.Agent
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    id_ = await machine.run(pod, dataclasses.replace(pods.WHOLE_TWO, cpus="0-3"))
    await settle.settle(machine, polling)
    await machine.update(id_, cpu_quota=150_000)
    made = await polling.until_logged("agreement.made", id=id_)
    assert (made["record_before"], made["cpus"]) == ("0-3", "2-3")
    assert polling.records("drift.found", id=id_, observed="0-3")
    await settle.settle(machine, polling)
    before = len(polling.records("drift.found", id=id_))
    await machine.update(id_, cpu_quota=160_000)
    cgroup = machine.cgroup(pod, id_)
    assert cgroup.read("cpu.max").startswith("160000 ")
    if place.HAS_SYSTEMD:
        systemd.systemctl("daemon-reload")
    # The pause container, of which nobody was made to agree, may drift.
    await settle.settle(machine, polling)
    found = polling.records("drift.found", id=id_)
    assert (cgroup.cpus, cgroup.allowed(), len(found)) == ("2-3", {"2-3"}, before), found
    print(f"told the runtime in {made['ms']} ms")
