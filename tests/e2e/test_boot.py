"""A node that boots with the agent in the runtime's plugin directory: nothing here starts it."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import psutil

from hack import node as nodes
from tests.e2e import cgroups, launched, node, pods, settle, systemd

# covers: PRD-8.12
INSTALLED = nodes.Node("", nodes.PREFIX)


async def test_the_first_pod_after_the_boot_is_placed(machine: node.Node) -> None:
    assert await machine.alive() == set(), "this is for the first pod of a node"
    db = await machine.run_pod(pods.guaranteed("db"))
    first = await machine.run(db, pods.WHOLE_TWO)
    own = cgroups.cpus(machine.cgroup(db, first).cpus)
    assert len(own) == 2
    assert machine.cgroup(db, first).allowed() == {str(own)}
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    assert machine.cgroup(web, follows).allowed() == {str(cgroups.cpus("0-7") - own)}

    plugin = launched.Launched(since=psutil.boot_time())
    process = plugin.process()
    parent = process.parent()
    assert parent is not None
    assert parent.name() == "containerd"
    assert process.create_time() - parent.create_time() < 60  # with it, and not by anything that came later
    print(f"registered {plugin.seconds_to_register():.1f} s after the start of its process")
    status = await settle.settle(machine, plugin)
    assert status["mode"] == "nri"
    # Placed at its creation: there was nothing to repair.
    assert plugin.records("drift.found") == []


async def test_it_is_uninstalled_with_everything_given_back(machine: node.Node) -> None:
    web, db = await machine.run_pod(pods.shared("web")), await machine.run_pod(pods.guaranteed("db"))
    groups = [
        machine.cgroup(db, await machine.run(db, pods.WHOLE_TWO)),
        machine.cgroup(web, await machine.run(web, pods.SHARED)),
    ]
    assert [len(cgroups.cpus(group.cpus)) for group in groups] == [2, 6]
    refused = uninstall()
    assert refused.returncode == 1
    assert "restart the runtime first" in refused.stderr
    assert pathlib.Path(INSTALLED.program).exists()
    systemd.systemctl("restart", "containerd.service")
    await machine.until_answered()
    systemd.run(INSTALLED.program, "restore", "--cpus", "all")
    assert [group.allowed() for group in groups] == [{"0-7"}, {"0-7"}]
    done = uninstall("--keep-placements")
    assert (done.returncode, done.stderr) == (0, "")
    for path in (nodes.PREFIX, nodes.CONFIG, nodes.STATE, "/opt/nri", f"/run/{nodes.NAME}"):
        assert not pathlib.Path(path).exists(), f"{path} is still there"
    assert not INSTALLED.unit.exists()
    assert [group.allowed() for group in groups] == [{"0-7"}, {"0-7"}]


def uninstall(*options: str) -> subprocess.CompletedProcess[str]:
    """`make uninstall-node`, which has no make on this node."""
    command = [sys.executable, "-m", "hack.node", "uninstall", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)
