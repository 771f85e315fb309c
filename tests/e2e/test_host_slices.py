"""Daemons of the host follow the shared pool, through daemon-reloads too; what cannot be had is explained."""

from __future__ import annotations

import asyncio
import pathlib
import time

import pytest

from tests.e2e import agent as agents
from tests.e2e import cgroups, node, pods, settle, systemd

# covers: PRD-7.17, PRD-7.18, PRD-7.19

ROOT = pathlib.Path("/sys/fs/cgroup")
CONFIG = pathlib.Path("/run/e2e/config.yaml")
ONLINE = pathlib.Path("/sys/devices/system/cpu/cpu7/online")
SYSTEM = cgroups.Cgroup(ROOT / "system.slice")
_PATIENCE = 30.0
_FREE = ("", "0-7")
"""What stands in the file of a slice that was given back: Linux up to 6.12 does not let it be cleared."""


async def until(says: tuple[str, ...]) -> None:
    """Wait until `cpuset.cpus` of system.slice is one of these."""
    end = time.monotonic() + _PATIENCE
    while SYSTEM.cpus not in says:
        assert time.monotonic() < end, f"system.slice is {SYSTEM.cpus!r} and not {says}"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("agent", [{"hostSlices": ["system.slice"]}], indirect=True)
async def test_daemons_leave_the_cpus_of_a_holder_and_have_them_again(
    machine: node.Node, agent: agents.Agent
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    assert SYSTEM.effective == "0-1,4-7"
    await agent.until_logged("agreement.made", owner="system.slice", cpus="0-1,4-7")
    systemd.systemctl("daemon-reload")
    SYSTEM.write_as_shell("cpuset.cpus", "0-7")
    found = await agent.until_logged("drift.found", slice="system.slice")
    assert (found["observed"], found["found_by"]) == ("0-7", "inotify")
    await until(("0-1,4-7",))
    assert len(agent.records("drift.found", slice="system.slice")) == 1
    CONFIG.write_text("{}\n")
    await until(_FREE)
    await agent.until_logged("agreement.made", owner="system.slice", cpus="")
    systemd.systemctl("daemon-reload")
    await asyncio.sleep(1)
    assert SYSTEM.cpus in _FREE


async def test_a_cpu_that_is_offline_is_named_and_comes_back(machine: node.Node, agent: agents.Agent) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "6-7"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    try:
        ONLINE.write_text("0\n")
        what = await unenforceable(agent, id_, wanted=True)
        assert what == {
            "file": "cpuset.cpus.effective",
            "lacks": "7",
            "ancestor": "",
            "because": "CPU 7 is offline",
        }
    finally:
        ONLINE.write_text("1\n")
    assert await unenforceable(agent, id_, wanted=False) is None
    await settle.settle(machine, agent)
    assert machine.cgroup(pod, id_).effective == "6-7"


async def unenforceable(agent: agents.Agent, id_: str, *, wanted: bool) -> object:
    """What the status says of a container, once it says something, or nothing any more."""
    end = time.monotonic() + _PATIENCE
    while True:
        [entry] = [its for its in (await agent.status())["containers"] if its["id"] == id_]
        if (entry["unenforceable"] is not None) == wanted or time.monotonic() >= end:
            return entry["unenforceable"]
        await asyncio.sleep(0.2)
