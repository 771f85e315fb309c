"""Integer containers that run make room, and resizes take effect, without a restart of anything."""

from __future__ import annotations

import asyncio
import time

import pytest

from reconciler import errors
from tests.e2e import agent as agents
from tests.e2e import cgroups, node, place, pods, settle

pytestmark = place.needs_nri

SPIN = ("/bin/sh", "-c", "while :; do :; done")
_PATIENCE = 60.0


@pytest.mark.parametrize("agent", [{"integerMemory": "pin"}], ids=["memory is pinned"], indirect=True)
async def test_a_spinning_container_moves_without_a_restart_when_an_annotated_pod_takes_its_cpus(
    machine: node.Node, agent: agents.Agent
) -> None:
    busy = await machine.run_pod(pods.guaranteed("busy"))
    spins = await machine.run(busy, pods.WHOLE_TWO, SPIN)
    await settle.settle(machine, agent)
    spinner = machine.cgroup(busy, spins)
    pids = spinner.pids()
    assert (spinner.cpus, spinner.mems) == ("2-3", "0")
    listed = await machine.run_pod(pods.guaranteed("listed", "2-3"))
    takes = await machine.run(listed, pods.WHOLE_TWO, SPIN)
    taker = machine.cgroup(listed, takes)
    assert (taker.cpus, taker.mems, taker.allowed()) == ("2-3", "0", {"2-3"})
    assert (spinner.cpus, spinner.mems, spinner.allowed()) == ("4-5", "1", {"4-5"})
    assert spinner.pids() == pids
    await _until_on(spinner, {4, 5})
    assert taker.running_on() <= {2, 3}
    moved = await agent.until_logged("placement.moved", pod="busy")
    assert (moved["container"], moved["cpus_before"], moved["cpus"]) == ("main", "2-3", "4-5")
    status = await settle.settle(machine, agent)
    assert status["drift"] == {"found": 0, "repaired": 0, "unrepaired": 0}


async def _until_on(cgroup: cgroups.Cgroup, cpus: set[int]) -> None:
    """Wait until its processes were put onto these CPUs: the kernel moves one when it runs next."""
    until = time.monotonic() + _PATIENCE
    while not cgroup.running_on() <= cpus:
        assert time.monotonic() < until, f"{cgroup.path} runs on {cgroup.running_on()}"
        await asyncio.sleep(0.1)


async def test_an_annotated_pod_that_nobody_can_make_room_for_is_refused_and_nothing_moves(
    machine: node.Node, agent: agents.Agent
) -> None:
    busy = await machine.run_pod(pods.guaranteed("busy"))
    spins = await machine.run(busy, pods.whole(6))
    await settle.settle(machine, agent)
    before = machine.cgroup(busy, spins).cpus
    listed = await machine.run_pod(pods.guaranteed("listed", "4-5"))
    with pytest.raises(errors.Refused, match="would leave 0 CPUs in the shared pool"):
        await machine.run(listed, pods.WHOLE_TWO)
    assert machine.cgroup(busy, spins).cpus == before
    assert agent.records("placement.moved") == []


async def test_a_running_container_grows_and_shrinks_in_place(
    machine: node.Node, agent: agents.Agent
) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    busy = await machine.run_pod(pods.guaranteed("busy"))
    spins = await machine.run(busy, pods.WHOLE_TWO, SPIN)
    await settle.settle(machine, agent)
    spinner, shared = machine.cgroup(busy, spins), machine.cgroup(web, follows)
    pids = spinner.pids()
    for count, own, pool in ((4, "0-3", "4-7"), (2, "2-3", "0-1,4-7")):
        await machine.update(spins, **pods.resources(count))
        status = await settle.settle(machine, agent)
        assert (spinner.cpus, spinner.allowed(), shared.cpus) == (own, {own}, pool)
        assert spinner.read("cpu.max") == f"{count}00000 100000"
        assert status["drift"] == {"found": 0, "repaired": 0, "unrepaired": 0}
    with pytest.raises(errors.Refused, match="9 exclusive CPUs wanted"):
        await machine.update(spins, **pods.resources(9))
    assert (spinner.cpus, spinner.pids()) == ("2-3", pids)
