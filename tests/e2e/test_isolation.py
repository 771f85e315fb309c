"""The kernel itself keeps everyone off exclusive CPUs, and has nothing of that left afterwards."""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import agent as agents
from tests.e2e import cgroups, facts, kubelet, node, place, pods, settle, systemd

# covers: PRD-4.10, PRD-4.11, PRD-4.12, PRD-4.13
HAS_PARTITIONS = not facts.why_not({"since": "6.8"})
needs_partitions = pytest.mark.skipif(not HAS_PARTITIONS, reason="the kernel has no remote partitions")
each_level = pytest.mark.parametrize(
    "agent",
    [{"isolation": "partition"}, {"isolation": "isolated"}],
    ids=["partition", "isolated"],
    indirect=True,
)
isolated = pytest.mark.parametrize("agent", [{"isolation": "isolated"}], ids=["isolated"], indirect=True)
ROOT = cgroups.Cgroup(kubelet.ROOT)
KUBEPODS = cgroups.Cgroup(kubelet.KUBEPODS)
KINDS = {"partition": "root", "isolated": "isolated"}


@pytest.fixture
def daemon() -> Iterator[cgroups.Cgroup]:
    """A host daemon: a process in a group of its own below the root, which asks for nothing."""
    group = kubelet.ROOT / "isolation-daemon"
    group.mkdir()
    process = subprocess.Popen(["/bin/sleep", "1000000"])
    (group / "cgroup.procs").write_text(str(process.pid))
    yield cgroups.Cgroup(group)
    process.kill()
    process.wait()
    group.rmdir()


def isolation(status: dict[str, Any], id_: str) -> dict[str, str]:
    """What the status says of a container."""
    [entry] = [entry for entry in status["containers"] if entry["id"] == id_]
    found: dict[str, str] = entry["isolation"]
    return found


def exclusive(cgroup: cgroups.Cgroup) -> list[str]:
    """The exclusive CPUs of a group and of all above it, the nearest first."""
    path, found = cgroup.path, []
    while path != kubelet.ROOT:
        found.append((path / "cpuset.cpus.exclusive").read_text().strip())
        path = path.parent
    return found


@needs_partitions
@each_level
async def test_host_daemons_leave_the_cpus_before_the_first_instruction_and_have_them_again(
    machine: node.Node, agent: agents.Agent, daemon: cgroups.Cgroup
) -> None:
    level = (await agent.status())["isolation"]["configured"]
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    # The container's first act is to look who may still run on its CPUs.
    look = "cat /host/cpuset.cpus.effective > /out/first; exec sleep 1000000"
    out = pathlib.Path("/run/isolation")
    out.mkdir(exist_ok=True)
    mounts = [
        node.Mount(host=str(kubelet.ROOT), inside="/host", readonly=True),
        node.Mount(host=str(out), inside="/out"),
    ]
    id_ = await machine.run(pod, pods.WHOLE_TWO, ["/bin/sh", "-c", look], mounts)
    status = await settle.settle(machine, agent)
    cgroup = machine.cgroup(pod, id_)
    assert (out / "first").read_text().strip() == "0-1,4-7"
    assert (cgroup.read("cpuset.cpus.partition"), cgroup.effective) == (KINDS[level], "2-3")
    assert set(exclusive(cgroup)) == {"2-3"}
    assert cgroup.allowed() == {"2-3"}
    assert (ROOT.effective, daemon.effective, daemon.allowed()) == ("0-1,4-7", "0-1,4-7", {"0-1,4-7"})
    assert machine.cgroup(web, follows).allowed() == {"0-1,4-7"}
    assert isolation(status, id_) == {"wanted": level, "has": level, "reason": ""}
    assert ROOT.read("cpuset.cpus.isolated") == ("2-3" if level == "isolated" else "")
    await machine.delete("db")
    status = await settle.settle(machine, agent)
    assert (ROOT.effective, daemon.allowed(), KUBEPODS.read("cpuset.cpus.exclusive")) == ("0-7", {"0-7"}, "")
    assert status["drift"] == {"found": 0, "repaired": 0, "unrepaired": 0}


@needs_partitions
@isolated
async def test_what_is_moved_and_resized_is_a_partition_where_it_is_then(
    machine: node.Node, agent: agents.Agent
) -> None:
    busy = await machine.run_pod(pods.guaranteed("busy"))
    moves = await machine.run(busy, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    mover = machine.cgroup(busy, moves)
    assert (mover.cpus, mover.read("cpuset.cpus.partition")) == ("2-3", "isolated")
    listed = await machine.run_pod(pods.guaranteed("listed", "2-3"))
    takes = await machine.run(listed, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    taker = machine.cgroup(listed, takes)
    for cgroup, cpus in ((mover, "4-5"), (taker, "2-3")):
        assert (cgroup.effective, cgroup.allowed()) == (cpus, {cpus})
        assert cgroup.read("cpuset.cpus.partition") == "isolated"
    assert ROOT.effective == "0-1,6-7"
    if place.DOOR == "nri":
        await machine.update(moves, **pods.resources(3))
        await settle.settle(machine, agent)
        grown = cgroups.cpus(mover.cpus)
        assert (len(grown), mover.effective) == (3, str(grown))
        assert mover.read("cpuset.cpus.partition") == "isolated"
    assert cgroups.cpus(KUBEPODS.read("cpuset.cpus.exclusive")) == cgroups.cpus(mover.cpus) | cgroups.cpus(
        "2-3"
    )


@needs_partitions
@isolated
async def test_who_ends_a_partition_is_found_at_once_and_undone(
    machine: node.Node, agent: agents.Agent
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    cgroup = machine.cgroup(pod, id_)
    cgroup.write_as_shell("cpuset.cpus.partition", "member")
    found = await agent.until_logged("drift.found", id=id_)
    assert (found["file"], found["observed"], found["found_by"]) == (
        "cpuset.cpus.partition",
        "member",
        "inotify",
    )
    await agent.until_logged("drift.repaired", id=id_)
    assert cgroup.read("cpuset.cpus.partition") == "isolated"
    # A group above that loses the CPUs ends it too, and the kernel tells.
    cgroups.Cgroup(cgroup.path.parent).write_as_shell("cpuset.cpus.exclusive", "")
    async with asyncio.timeout(60):
        while cgroup.read("cpuset.cpus.partition") != "isolated" or set(exclusive(cgroup)) != {"2-3"}:  # noqa: ASYNC110  another process is waited for
            await asyncio.sleep(0.1)
    status = await settle.settle(machine, agent)
    again = agent.records("drift.found", id=id_)[1:]
    assert (cgroup.read("cpuset.cpus.partition"), set(exclusive(cgroup))) == ("isolated", {"2-3"})
    print("a group above:", [(its["observed"], its["found_by"]) for its in again], status["drift"])


@needs_partitions
@place.needs_systemd
@isolated
async def test_a_daemon_reload_leaves_the_partition_and_its_processes_where_they_are(
    machine: node.Node, agent: agents.Agent, daemon: cgroups.Cgroup
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    agent.stop()
    cgroup = machine.cgroup(pod, id_)
    systemd.systemctl("daemon-reload")
    print("after a daemon-reload cpuset.cpus is", repr(cgroup.cpus))
    assert (cgroup.read("cpuset.cpus.partition"), cgroup.effective) == ("isolated", "2-3")
    assert (cgroup.allowed(), daemon.allowed()) == ({"2-3"}, {"0-1,4-7"})
    await agent.start()
    status = await settle.settle(machine, agent)
    assert isolation(status, id_)["has"] == "isolated"
    assert cgroup.cpus == "2-3"


@needs_partitions
@isolated
async def test_an_agent_that_was_killed_and_is_configured_otherwise_gives_all_back(
    machine: node.Node, agent: agents.Agent, daemon: cgroups.Cgroup
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    gone = await machine.run_pod(pods.guaranteed("gone", "6-7"))
    await machine.run(gone, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    assert ROOT.effective == "0-1,4-5"
    agent.kill()
    await machine.delete("gone")
    assert KUBEPODS.read("cpuset.cpus.exclusive") == "2-3,6-7"
    await agent.start()
    await settle.settle(machine, agent)
    assert (ROOT.effective, KUBEPODS.read("cpuset.cpus.exclusive")) == ("0-1,4-7", "2-3")
    agent.kill()
    plain = agents.Agent()
    await plain.start()
    await settle.settle(machine, plain)
    cgroup = machine.cgroup(pod, id_)
    assert (cgroup.read("cpuset.cpus.partition"), set(exclusive(cgroup))) == ("member", {""})
    assert (cgroup.allowed(), ROOT.effective, daemon.allowed()) == ({"2-3"}, "0-7", {"0-7"})


@pytest.mark.skipif(HAS_PARTITIONS, reason="the kernel has remote partitions")
@isolated
async def test_a_kernel_without_partitions_is_told_once_and_cpusets_do(
    machine: node.Node, agent: agents.Agent
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    status = await settle.settle(machine, agent)
    assert status["isolation"]["unavailable"].startswith("this kernel has no cpuset.cpus.exclusive")
    assert isolation(status, id_)["has"] == "cpuset"
    assert machine.cgroup(pod, id_).allowed() == {"2-3"}
    assert len(agent.records("isolation.unavailable")) == 1
