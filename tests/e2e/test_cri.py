"""Without NRI: the agent sees the runtime's lists, and writes cgroups after the fact."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest

from tests.e2e import agent as agents
from tests.e2e import cgroups, node, place, pods, settle, systemd, witness

# covers: PRD-8.11
_CONFIG = pathlib.Path("/etc/containerd/config.toml")
_ON, _OFF = "  disable = false\n", "  disable = true\n"
_ROUNDS = 5


@pytest.fixture
async def polling(request: pytest.FixtureRequest, machine: node.Node) -> AsyncIterator[agents.Agent]:
    """A fresh agent that polls, though the node may have NRI."""
    async with agents.running(agents.Agent(source="cri"), machine, request.node.name) as it:
        yield it


async def test_shared_pods_follow_an_exclusive_one(machine: node.Node, polling: agents.Agent) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    alone = await machine.run_pod(pods.guaranteed("db"))
    stays = await machine.run(alone, pods.WHOLE_TWO)
    await settle.settle(machine, polling)
    own = cgroups.cpus(machine.cgroup(alone, stays).cpus)
    assert len(own) == 2
    assert machine.cgroup(alone, stays).allowed() == {str(own)}
    assert machine.cgroup(web, follows).allowed() == {str(cgroups.cpus("0-7") - own)}
    await machine.delete("db")
    await settle.settle(machine, polling)
    assert machine.cgroup(web, follows).allowed() == {"0-7"}


async def test_a_wrong_write_is_repaired(machine: node.Node, polling: agents.Agent) -> None:
    pod = await machine.run_pod(pods.guaranteed("db", "2-3"))
    cgroup = machine.cgroup(pod, await machine.run(pod, pods.WHOLE_TWO))
    # The runtime may have undone at the start what was written between creation and start.
    before = (await settle.settle(machine, polling))["drift"]
    cgroup.write_as_shell("cpuset.cpus", "0-7")
    drift = (await settle.settle(machine, polling))["drift"]
    assert (cgroup.cpus, cgroup.allowed()) == ("2-3", {"2-3"})
    assert drift == {"found": before["found"] + 1, "repaired": before["repaired"] + 1, "unrepaired": 0}


async def test_a_resize_is_followed(machine: node.Node, polling: agents.Agent) -> None:
    pod = await machine.run_pod(pods.guaranteed("db"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, polling)
    before = cgroups.cpus(machine.cgroup(pod, id_).cpus)
    await machine.update(id_, **pods.resources(3))
    await polling.until_logged("placement.resized", id=id_)
    await settle.settle(machine, polling)
    after = cgroups.cpus(machine.cgroup(pod, id_).cpus)
    assert (len(before), len(after)) == (2, 3)
    assert before <= after


async def test_restarts_of_the_agent_and_of_the_runtime_move_nobody(
    machine: node.Node, polling: agents.Agent
) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    alone = await machine.run_pod(pods.guaranteed("db"))
    stays = await machine.run(alone, pods.WHOLE_TWO)
    await settle.settle(machine, polling)
    before = machine.cgroup(web, follows).cpus, machine.cgroup(alone, stays).cpus
    polling.kill()
    await polling.start()
    await settle.settle(machine, polling)
    assert (machine.cgroup(web, follows).cpus, machine.cgroup(alone, stays).cpus) == before
    systemd.systemctl("restart", "containerd.service")
    await machine.until_answered()
    await settle.settle(machine, polling)
    assert (machine.cgroup(web, follows).cpus, machine.cgroup(alone, stays).cpus) == before


async def test_how_long_a_container_runs_before_it_is_placed(
    machine: node.Node, polling: agents.Agent
) -> None:
    """Prints what the first look of each container found; the end state is what must hold."""
    web = await machine.run_pod(pods.shared("web"))
    await machine.run(web, pods.SHARED)
    born_right = born_alone = 0
    for round_ in range(_ROUNDS):
        name = f"alone-{round_}"
        pod = await machine.run_pod(pods.guaranteed(name))
        id_ = await machine.run(pod, pods.WHOLE_TWO, witness.command(name), witness.mounts())
        await settle.settle(machine, polling)
        own = cgroups.cpus(machine.cgroup(pod, id_).cpus)
        assert machine.cgroup(pod, id_).allowed() == {str(own)}
        await witness.until_it_has_looked(name)
        await machine.cri.stop_container(id_, grace=30)
        told = witness.testimony(name)
        last = [line for line in told.lines if line.moment == "last"]
        assert {line.cpus for line in last if line.scope == cgroups.scope(id_)} == {own}
        assert [line for line in last if line.scope != cgroups.scope(id_) and line.cpus & own] == []
        born_right += told.allowed == own
        first = [line for line in told.lines if line.moment == "first"]
        others = [line for line in first if line.scope != cgroups.scope(id_)]
        born_alone += all(line.cpus and not line.cpus & own for line in others)
        await machine.delete(name)
        await settle.settle(machine, polling)
    print(f"{born_right} of {_ROUNDS} had their CPUs at their first look, {born_alone} had them alone")


@place.needs_nri
async def test_when_nri_is_switched_off_the_agent_polls_and_when_it_is_back_it_does_not(
    machine: node.Node, agent: agents.Agent
) -> None:
    alone = await machine.run_pod(pods.guaranteed("db"))
    stays = await machine.run(alone, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    before = machine.cgroup(alone, stays).cpus
    try:
        await _switch(machine, _ON, _OFF)
        agent.mode = "cri"
        web = await machine.run_pod(pods.guaranteed("db2"))
        newer = await machine.run(web, pods.WHOLE_TWO)
        status = await settle.settle(machine, agent)
        assert "; no NRI: " in status["reason"]
        placed = machine.cgroup(web, newer).cpus
        assert machine.cgroup(alone, stays).cpus == before
        assert not cgroups.cpus(before) & cgroups.cpus(placed)
    finally:
        await _switch(machine, _OFF, _ON)
    agent.mode = "nri"
    # The next attempt to connect may be a minute away by now.
    await settle.settle(machine, agent, patience=180)
    assert (machine.cgroup(alone, stays).cpus, machine.cgroup(web, newer).cpus) == (before, placed)


async def _switch(machine: node.Node, before: str, after: str) -> None:
    """Change NRI's switch in the runtime's configuration, and restart the runtime."""
    _CONFIG.write_text(_CONFIG.read_text().replace(before, after))
    systemd.systemctl("restart", "containerd.service")
    await machine.until_answered()
