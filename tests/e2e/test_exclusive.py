"""An exclusive container is alone on its CPUs, from before its first instruction until after its end."""

from __future__ import annotations

from reconciler.sim import runtime_pods
from tests.e2e import agent as agents
from tests.e2e import cgroups, node, place, pods, settle, witness

pytestmark = place.needs_nri

_SHARED_PODS = 4
_CONTAINERS_EACH = 5
_ROUNDS = 10
_LISTS = ("4-5", "2,6")


async def test_nobody_else_has_its_cpus_while_it_lives(machine: node.Node, agent: agents.Agent) -> None:
    shared = await _run_shared(machine)
    for round_ in range(_ROUNDS):
        listed = _LISTS[round_ // 2 % len(_LISTS)] if round_ % 2 else None
        name = f"alone-{round_}"
        pod = await machine.run_pod(pods.guaranteed(name, listed))
        id_ = await machine.run(pod, pods.WHOLE_TWO, witness.command(name), witness.mounts())
        await settle.settle(machine, agent)
        own = cgroups.cpus(machine.cgroup(pod, id_).cpus)
        assert len(own) == 2
        assert listed is None or own == cgroups.cpus(listed)
        assert machine.cgroup(pod, id_).allowed() == {str(own)}
        await witness.until_it_has_looked(name)
        await machine.cri.stop_container(id_, grace=30)
        told = witness.testimony(name)
        assert (told.of(id_), told.allowed) == ({own}, own)
        assert told.intruders(id_) == []
        for moment in ("first", "meanwhile", "last"):
            assert {cgroups.scope(other) for other in shared} < told.seen(moment)
        await machine.delete(name)
        await settle.settle(machine, agent)
        assert set(cgroups.scopes().values()) == {"0-7"}
    status = await agent.status()
    assert status["drift"] == {"found": 0, "repaired": 0, "unrepaired": 0}


async def _run_shared(machine: node.Node) -> list[str]:
    found = []
    for number in range(_SHARED_PODS):
        pod = await machine.run_pod(pods.shared(f"shared-{number}"))
        specs = [runtime_pods.ContainerSpec(name=f"c{index}") for index in range(_CONTAINERS_EACH)]
        found += [await machine.run(pod, spec) for spec in specs]
    return found


async def test_every_thread_and_child_of_a_container_is_on_its_cpus(
    machine: node.Node, agent: agents.Agent
) -> None:
    forks = ["/bin/sh", "-c", "for i in 1 2 3 4 5; do sleep 1000000 & done; wait"]
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED, forks)
    alone = await machine.run_pod(pods.guaranteed("alone"))
    stays = await machine.run(alone, pods.WHOLE_TWO, forks)
    await settle.settle(machine, agent)
    own = cgroups.cpus(machine.cgroup(alone, stays).cpus)
    assert machine.cgroup(alone, stays).allowed() == {str(own)}
    assert machine.cgroup(web, follows).allowed() == {str(cgroups.cpus("0-7") - own)}
    assert len(machine.cgroup(web, follows).pids()) == 6
