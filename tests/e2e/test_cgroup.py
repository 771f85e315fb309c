"""Without a runtime that answers: the agent works from the cgroup tree, and the next list moves nobody."""

from __future__ import annotations

from tests.e2e import agent as agents
from tests.e2e import cgroups, node, pods, settle

# covers: PRD-8.13


async def test_the_tree_alone_places_pods_and_the_runtimes_list_moves_nobody(
    machine: node.Node,
) -> None:
    tree, door = agents.Agent(source="cgroup"), agents.Agent()
    async with agents.running(tree, machine, "test_cgroup[tree]"):
        web = await machine.run_pod(pods.shared("web"))
        follows = await machine.run(web, pods.SHARED)
        alone = await machine.run_pod(pods.guaranteed("db"))
        stays = await machine.run(alone, pods.WHOLE_TWO)
        status = await settle.settle(machine, tree)
        own = cgroups.cpus(machine.cgroup(alone, stays).cpus)
        assert len(own) == 2
        assert machine.cgroup(alone, stays).allowed() == {str(own)}
        assert machine.cgroup(web, follows).allowed() == {str(cgroups.cpus("0-7") - own)}
        assert {entry["namespace"] for entry in status["containers"]} == {""}
        await machine.end(alone, stays)
        again = await machine.run(alone, pods.WHOLE_TWO)
        await settle.settle(machine, tree)
        assert machine.cgroup(alone, again).cpus == str(own)
        tree.kill()
        await door.start()
        try:
            status = await settle.settle(machine, door)
            names = {entry["id"]: (entry["pod"], entry["container"]) for entry in status["containers"]}
            assert (names[follows], names[again]) == (("web", "main"), ("db", "main"))
            assert machine.cgroup(alone, again).cpus == str(own)
            assert door.records("placement.moved") == []
        finally:
            door.kill()
        await tree.start()
        await machine.delete("db")
        await tree.until_exclusive("")  # the tree shows its containers' end before its own
        await settle.settle(machine, tree)
        assert machine.cgroup(web, follows).allowed() == {"0-7"}
