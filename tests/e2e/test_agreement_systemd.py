"""systemd is made to agree: after that neither a reload nor a change of a property undoes a placement."""

from __future__ import annotations

import pytest

from tests.e2e import agent as agents
from tests.e2e import cgroups, node, place, pods, settle, systemd

# covers: PRD-7.11, PRD-7.16

pytestmark = place.needs_systemd


def unit(cgroup: cgroups.Cgroup) -> str:
    """The unit that a container's cgroup is."""
    return cgroup.path.name


async def test_after_repeated_drift_a_reload_changes_nothing_also_when_the_pool_has_changed_since(
    machine: node.Node, agent: agents.Agent
) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    first = await machine.run_pod(pods.guaranteed("first", "2-3"))
    await machine.run(first, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    cgroup = machine.cgroup(web, follows)
    for cpus in ("0-7", "0-5"):
        systemd.systemctl("set-property", "--runtime", unit(cgroup), f"AllowedCPUs={cpus}")
        await agent.until_logged("drift.found", id=follows, observed=cpus)
        await settle.settle(machine, agent)
    made = await agent.until_logged("agreement.made", id=follows)
    assert (made["owner"], made["record_before"], made["cpus"]) == (unit(cgroup), "0-5", "0-1,4-7")
    await still(machine, agent, cgroup, follows, "0-1,4-7")
    second = await machine.run_pod(pods.guaranteed("second", "6-7"))
    await machine.run(second, pods.WHOLE_TWO)
    await agent.until_logged("agreement.made", id=follows, cpus="0-1,4-5")
    await still(machine, agent, cgroup, follows, "0-1,4-5")
    print(f"told systemd in {made['ms']} ms")


async def still(
    machine: node.Node, agent: agents.Agent, cgroup: cgroups.Cgroup, id_: str, right: str
) -> None:
    """Fails where systemd still changes the container, when it writes its unit anew."""
    status = await settle.settle(machine, agent)
    before = conflicts(status, id_), len(agent.records("drift.found", id=id_))
    systemd.systemctl("daemon-reload")
    systemd.systemctl("set-property", "--runtime", unit(cgroup), "CPUWeight=77")
    # Others, of whom nobody was made to agree, may drift.
    status = await settle.settle(machine, agent)
    assert (conflicts(status, id_), len(agent.records("drift.found", id=id_))) == before
    assert (cgroup.cpus, cgroup.allowed()) == (right, {right})


def conflicts(status: dict[str, object], id_: str) -> int:
    """How many drifts the conflict of a container has had."""
    listed = status["containers"]
    assert isinstance(listed, list)
    [conflict] = [entry["conflict"] for entry in listed if entry["id"] == id_]
    return 0 if conflict is None else int(conflict["times"])


@pytest.mark.parametrize("agent", [{"agreement": "off"}], indirect=True)
async def test_where_it_is_not_wanted_the_unit_stays_as_it_is(
    machine: node.Node, agent: agents.Agent
) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    await settle.settle(machine, agent)
    cgroup = machine.cgroup(web, follows)
    for cpus in ("0-3", "0-5", "0-4"):
        systemd.systemctl("set-property", "--runtime", unit(cgroup), f"AllowedCPUs={cpus}")
        await settle.settle(machine, agent)
    await agent.until_logged("conflict.raised", id=follows)
    assert agent.records("agreement.made") == []
    assert (
        systemd.run("systemctl", "show", "--property=AllowedCPUs", "--value", unit(cgroup)).strip() == "0-4"
    )
