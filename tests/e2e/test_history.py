"""What has drifted is listed by the command, through SIGKILL of the agent and while there is none."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from reconciler.daemon import archiving
from tests.e2e import agent as agents
from tests.e2e import node, pods, settle


def drifts(*options: str) -> list[dict[str, Any]]:
    """What `cpuset-reconciler drifts` lists."""
    command = [sys.executable, "-m", "reconciler.cli.main", "drifts", "--output", "json", *options]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    listed: list[dict[str, Any]] = json.loads(said)["drifts"]
    return listed


async def test_drifts_are_listed_after_a_kill_and_while_there_is_no_agent(
    machine: node.Node, agent: agents.Agent
) -> None:
    begin = time.time()
    db = await machine.run_pod(pods.guaranteed("db"))
    own = await machine.run(db, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    cgroup = machine.cgroup(db, own)
    right = cgroup.cpus
    cgroup.write_as_shell("cpuset.cpus", "0-7")
    await settle.settle(machine, agent)
    [row] = drifts("--since", "1h")
    assert (row["id"], row["pod"], row["result"]) == (own, "db", "repaired")
    assert row["files"] == [{"file": "cpuset.cpus", "desired": right, "observed": "0-7"}]
    assert begin < row["found"] <= row["ended"] < time.time()
    # What is younger than a batch may be lost with the agent.
    await asyncio.sleep(3 * archiving.PAUSE)
    agent.kill()
    assert drifts() == [row]
    cgroup.write_as_shell("cpuset.cpus", "0-6")
    await agent.start()
    await settle.settle(machine, agent)
    before, after = drifts("--pod", "default/db")
    assert before == row
    assert (after["files"][0]["observed"], after["result"]) == ("0-6", "repaired")
    assert drifts("--pod", "default/web") == []
