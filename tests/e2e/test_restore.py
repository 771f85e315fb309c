"""Uninstalling: what ran before the agent runs as before it, and what came since on all CPUs if asked for."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from tests.e2e import agent as agents
from tests.e2e import cgroups, node, pods, settle

# covers: PRD-10.8
FILES = ("cpuset.cpus.effective", "cpuset.mems.effective", "cpu.max", "cpuset.cpus.partition")
NOTHING = {"", "0-7"}
"""Up to Linux 6.12 what was cleared before is the whole list afterwards."""


def said(cgroup: cgroups.Cgroup) -> dict[str, str]:
    """What its files say, of those that this kernel has."""
    return {file: cgroup.read(file) for file in FILES if os.path.exists(cgroup.path / file)}


def command(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    program = [sys.executable, "-m", "reconciler.cli.main", "restore", "--output", "json", *options]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def restore(*options: str) -> dict[str, Any]:
    """Run the command, which must succeed; its document."""
    done = command(*options)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


async def test_what_was_there_before_the_agent_is_back_after_it(machine: node.Node) -> None:
    web, db = await machine.run_pod(pods.shared("web")), await machine.run_pod(pods.guaranteed("db", "2-3"))
    groups = [
        machine.cgroup(web, await machine.run(web, pods.SHARED)),
        machine.cgroup(db, await machine.run(db, pods.WHOLE_TWO)),
    ]
    before = [said(group) for group in groups]
    config: dict[str, object] = {"cfsQuota": "lift", "isolation": "partition", "integerMemory": "pin"}
    async with agents.running(agents.Agent(config), machine, "restored") as agent:
        await settle.settle(machine, agent)
        assert [group.cpus for group in groups] == ["0-1,4-7", "2-3"]
        assert groups[1].read("cpu.max").startswith("max")
        refused = command()
        assert (refused.returncode, "stop it first" in refused.stderr) == (1, True)
        under = await machine.run_pod(pods.guaranteed("under"))
        groups.append(machine.cgroup(under, await machine.run(under, pods.WHOLE_TWO)))
        await settle.settle(machine, agent)
        agent.stop()
        restore()
        assert [said(group) for group in groups[:2]] == before
        assert {group.cpus for group in groups[:2]} <= NOTHING
        assert [group.allowed() for group in groups[:2]] == [{"0-7"}, {"0-7"}]
        restore("--cpus", "all")
        assert groups[2].cpus in NOTHING
        assert groups[2].allowed() == {"0-7"}
        assert restore("--cpus", "all")["writes"] == []
        for top in ("kubepods.slice", "kubepods"):
            exclusive = pathlib.Path("/sys/fs/cgroup", top, "cpuset.cpus.exclusive")
            assert not exclusive.exists() or exclusive.read_text().strip() == ""
