"""Whoever changes a placement is named: a shell, systemd, the runtime, and who has gone since."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler.host import culprits
from tests.e2e import agent as agents
from tests.e2e import cgroups, node, place, pods, settle, systemd

# covers: PRD-7.10
CONFIG: dict[str, object] = {"attribution": "fanotify", "fights": {"drifts": 100}}
"""Nothing that is done here is a fight, of which the drifts would not be told one by one."""
RUNC = ("runc", "--root", "/run/containerd/runc/k8s.io")
_SHELLS = 5
_PATIENCE = 60.0
"""Seconds: systemd answers before it has written."""
attributing = pytest.mark.parametrize("agent", [CONFIG], indirect=True, ids=["attributing"])


@pytest.fixture
async def polling(request: pytest.FixtureRequest, machine: node.Node) -> AsyncIterator[agents.Agent]:
    """A fresh agent that polls: under NRI the runtime is told the right cpuset with each update."""
    async with agents.running(agents.Agent(CONFIG, source="cri"), machine, request.node.name) as it:
        yield it


def drifts(agent: agents.Agent, id_: str) -> list[dict[str, Any]]:
    """What was told of wrong CPUs of a container, oldest first."""
    return agent.records("drift.found", id=id_, file="cpuset.cpus")


async def found(machine: node.Node, agent: agents.Agent, id_: str, before: int) -> dict[str, Any]:
    """The drift of a container that came after so many of its, once it is repaired; its repair names the same
    process."""
    until = time.monotonic() + _PATIENCE
    while len(drifts(agent, id_)) <= before:
        assert time.monotonic() < until, f"nothing has drifted; log ends: {agent.tail()}"
        await asyncio.sleep(0.1)
    await settle.settle(machine, agent)
    drift = drifts(agent, id_)[before]
    repairs = agent.records("drift.repaired", id=id_)
    repaired = next(each for each in repairs if each["pass_id"] >= drift["pass_id"])
    assert repaired["writer"]["pid"] == drift["writer"]["pid"]
    return drift


def our_unit() -> str:
    """The unit that these tests, and what they start, run in."""
    its = culprits.process("/proc", os.getpid())
    assert its is not None
    return culprits.unit(its.cgroup)


def write(cgroup: cgroups.Cgroup, text: str, then: str = "") -> int:
    """Have a shell write `cpuset.cpus` and do something more; its pid."""
    script = f"echo {text} > {cgroup.path / 'cpuset.cpus'}; {then}"
    shell = subprocess.Popen(["/bin/sh", "-c", script])
    assert shell.wait() == 0
    return shell.pid


@attributing
async def test_a_shell_is_named_with_its_unit_also_after_its_end(
    machine: node.Node, agent: agents.Agent
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    cgroup = machine.cgroup(pod, id_)
    pid = write(cgroup, "0-7", "sleep 0.2; :")  # the last command would take the shell's place
    writer = (await found(machine, agent, id_, 0))["writer"]
    assert (writer["pid"], writer["command"], writer["unit"]) == (pid, "sh", our_unit())
    assert str(cgroup.path) in writer["cmdline"]
    names = []
    for number in range(1, _SHELLS + 1):
        pid = write(cgroup, "0-7")
        writer = (await found(machine, agent, id_, number))["writer"]
        assert writer["pid"] == pid
        names.append(writer["command"])
    assert set(names) <= {"sh", ""}
    status = (await agent.status())["attribution"]
    assert (status["active"], status["lost"]) == (True, 0)
    print(f"{names.count('sh')} of {_SHELLS} shells that ended at once were named, all had their pids")


@attributing
@place.needs_systemd
async def test_systemd_is_named_for_a_property_a_reload_and_a_narrowed_parent(
    machine: node.Node, agent: agents.Agent
) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    cgroup = machine.cgroup(pod, id_)
    systemd.systemctl("set-property", "--runtime", cgroups.scope(id_), "AllowedCPUs=0-7")
    seen = [await found(machine, agent, id_, 0)]
    if systemd.reload_rewrites():
        before = len(drifts(agent, id_))
        systemd.systemctl("daemon-reload")
        seen.append(await found(machine, agent, id_, before))
    for drift in seen:
        writer = drift["writer"]
        assert (writer["pid"], writer["command"], writer["unit"]) == (1, "systemd", "init.scope")
        assert drift["observed"] == "0-7"
    narrow = ("set-property", "--runtime", cgroup.path.parent.name)
    systemd.systemctl(*narrow, "AllowedCPUs=2")
    await cgroup.until_effective("2")
    granted = await agent.until_logged("drift.found", id=id_, file="cpuset.cpus.effective")
    assert (granted["observed"], granted["writer"]["command"]) == ("2", "systemd")
    systemd.systemctl(*narrow, "AllowedCPUs=0-7")
    await cgroup.until_effective("2-3")
    await settle.settle(machine, agent)
    systemd.systemctl(*narrow, "AllowedCPUs=")


async def test_the_runtime_is_named_by_who_writes_for_it(machine: node.Node, polling: agents.Agent) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, polling)
    # With the systemd driver systemd writes too, before runc does; either may be seen last. Of a runc that
    # was gone by the time its event was read the pid alone is known.
    commands = {"runc", "systemd", ""} if place.HAS_SYSTEMD else {"runc", ""}
    systemd.run(*RUNC, "update", "--cpuset-cpus", "0-7", id_)
    by_hand = (await found(machine, polling, id_, 0))["writer"]
    assert by_hand["pid"]
    assert by_hand["command"] in commands
    if by_hand["command"] == "runc":
        assert by_hand["unit"] in (our_unit(), "")
        assert not by_hand["cmdline"] or "update --cpuset-cpus 0-7" in by_hand["cmdline"]
    before = len(drifts(polling, id_))
    await machine.update(id_, cpuset_cpus="0-6")
    through_cri = (await found(machine, polling, id_, before))["writer"]
    assert through_cri["command"] in commands
    assert through_cri["pid"]
    assert through_cri["unit"] in ("containerd.service", "init.scope", "")
    print(f"runc update by {by_hand}, UpdateContainerResources by {through_cri}")
