"""The agent as a process where no runtime answers: what it remembers, and the whole ladder, up and down."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import signal
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler import intent
from reconciler.sim import runtime_cri, runtime_pods
from tests.cgroup.ground import DB, SHARED, TWO, WEB
from tests.daemon import process

# covers: PRD-8.13, PRD-6.7

DB2 = dataclasses.replace(DB, name="db2", uid="5b8a3f10-0000-4000-8000-000000000006")
JOB = dataclasses.replace(DB, name="job", uid="5b8a3f10-0000-4000-8000-000000000009")
LISTED = dataclasses.replace(
    DB, name="listed", uid="5b8a3f10-0000-4000-8000-000000000003", annotations={intent.CORES: "6-7"}
)


@pytest.fixture
async def its() -> AsyncIterator[process.Machine]:
    """A machine whose runtime does not listen, in a folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        made = process.Machine(pathlib.Path(name))
        made.kernel.make("kubepods.slice")
        for file, text in (("proc/sys/kernel/random/boot_id", "b-1\n"), ("etc/machine-id", "m-1\n")):
            path = pathlib.Path(made.root, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        yield made
        made.kernel.close()


async def run(its: process.Machine, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec = TWO) -> str:
    """Run a pod with one container; the container's id."""
    container = await its.runtime.create_container(await its.runtime.run_pod(pod), spec)
    await its.runtime.start_container(container)
    return container


def claims(document: dict[str, Any]) -> dict[str, str]:
    """The claims in a status, by pod and container."""
    return {
        f"{entry['pod']}/{entry['container']}": entry["claim"]
        for entry in document["containers"]
        if entry["claim"]
    }


async def settled(agent: process.Agent, mode: str, count: int) -> dict[str, str]:
    """So many claims, once the agent is converged at this door and has saved them."""

    def is_settled(status: dict[str, Any]) -> bool:
        return bool(
            status["mode"] == mode
            and status["converged"]
            and status["checkpoint"]["saved"]
            and len(claims(status)) == count
        )

    return claims(await agent.status(is_settled))


async def test_after_a_restart_without_a_runtime_names_and_annotations_are_remembered(
    its: process.Machine,
) -> None:
    first = process.Agent(its, name="first")
    async with its.runtime, process.running(first):
        await its.runtime.plugins.wait_for(1)
        shared, exclusive = await run(its, WEB, SHARED), await run(its, DB)
        listed = await run(its, LISTED)
        before = await settled(first, "nri", 2)
        assert before == {"db/main": "2-3", "listed/main": "6-7"}
        await first.stop(signal.SIGKILL)
    second = process.Agent(its, "--source", "cgroup", name="second")
    async with process.running(second):
        assert await settled(second, "cgroup", 2) == before
        new = await run(its, DB2)
        now = await settled(second, "cgroup", 3)
        assert now == {**before, f"{DB2.uid}/{new}": "4-5"}
        assert [its.cpus(id_) for id_ in (shared, exclusive, listed, new)] == ["0-1", "2-3", "6-7", "4-5"]
        assert second.records("drift.found", "agent.failed", "placement.unsatisfied") == []
        await second.stop(signal.SIGKILL)
    third = process.Agent(its, name="third")
    async with its.runtime, process.running(third):
        assert await settled(third, "nri", 3) == {**before, "db2/main": "4-5"}
        assert [its.cpus(id_) for id_ in (shared, exclusive, listed, new)] == ["0-1", "2-3", "6-7", "4-5"]
        assert third.records("drift.found", "agent.failed", "placement.unsatisfied") == []
        assert await third.stop() == 0


async def test_a_checkpoint_of_version_1_moves_nobody_though_it_knows_no_names(its: process.Machine) -> None:
    first = process.Agent(its, name="first")
    async with its.runtime, process.running(first):
        await its.runtime.plugins.wait_for(1)
        exclusive, other = await run(its, DB), await run(its, DB2)
        assert await settled(first, "nri", 2) == {"db/main": "2-3", "db2/main": "4-5"}
        assert await first.stop() == 0
    file = its.folder / "state" / "checkpoint.json"
    document = json.loads(file.read_text())
    old = {key: its for key, its in document.items() if key not in ("pods", "nodes")}
    names = ("sandbox", "name", "quota", "period")
    old["containers"] = {
        id_: {key: text for key, text in entry.items() if key not in names}
        for id_, entry in document["containers"].items()
    }
    file.write_text(json.dumps({**old, "version": 1}))
    second = process.Agent(its, "--source", "cgroup", name="second")
    async with process.running(second):
        assert await settled(second, "cgroup", 2) == {f"{DB.uid}/main": "2-3", f"{DB2.uid}/main": "4-5"}
        assert [its.cpus(exclusive), its.cpus(other)] == ["2-3", "4-5"]
        assert second.records("drift.found", "agent.failed", "placement.unsatisfied") == []
        assert await second.stop() == 0
    assert json.loads(file.read_text())["version"] == 2


async def test_after_a_boot_the_same_pods_have_their_cpus_again(its: process.Machine) -> None:
    first = process.Agent(its, name="first")
    async with its.runtime, process.running(first):
        await its.runtime.plugins.wait_for(1)
        await run(its, DB2)
        await run(its, DB)
        assert await settled(first, "nri", 2) == {"db2/main": "2-3", "db/main": "4-5"}
        assert await first.stop() == 0
    for pod in list(its.runtime.pods):
        await its.runtime.remove_pod(pod)
    pathlib.Path(its.root, "proc/sys/kernel/random/boot_id").write_text("b-2\n")
    second = process.Agent(its, "--source", "cgroup", name="second")
    async with process.running(second):
        assert await settled(second, "cgroup", 0) == {}
        [restored] = second.records("checkpoint.restored")
        assert (restored["rebooted"], restored["claims"]) == (True, 2)
        assert await second.stop() == 0
    third = process.Agent(its, name="third")
    async with its.runtime, process.running(third):
        await its.runtime.plugins.wait_for(1)
        await run(its, DB)
        await run(its, DB2)
        assert await settled(third, "nri", 2) == {"db2/main": "2-3", "db/main": "4-5"}
        assert await third.stop() == 0


async def test_up_and_down_the_whole_ladder_nobody_moves_and_nothing_is_lost(its: process.Machine) -> None:
    path = str(its.folder / "cri.sock")
    side = runtime_cri.CriSide(its.runtime)
    agent = process.Agent(its, "--source", "auto", "--cri-socket", path)
    async with process.running(agent):
        async with its.runtime:
            await its.runtime.plugins.wait_for(1)
            shared, exclusive = await run(its, WEB, SHARED), await run(its, DB)
            down, listed = await run(its, JOB), await run(its, LISTED)
            before = await settled(agent, "nri", 3)
            assert before == {"db/main": "2-3", "job/main": "4-5", "listed/main": "6-7"}
            sets = [its.cpus(id_) for id_ in (shared, exclusive, listed)]
            await its.runtime.exit_container(down)
        held = {name: cpus for name, cpus in before.items() if name != "job/main"}
        async with runtime_cri.listening(path, side):
            assert await settled(agent, "cri", 2) == held
        document = await agent.status(lambda status: status["mode"] == "cgroup" and status["converged"])
        assert claims(document) == held
        assert "no CRI: " in document["reason"]
        assert "no NRI: " in document["reason"]
        assert document["pools"]["exclusive"] == "2-7", "the one that is down holds its CPUs"
        sandbox = its.runtime.containers[down].pod.message.id
        again = await its.runtime.create_container(sandbox, TWO)
        await its.runtime.start_container(again)
        assert await settled(agent, "cgroup", 3) == before
        side.released.clear()
        async with runtime_cri.listening(path, side):
            assert await settled(agent, "cri", 3) == before
            async with its.runtime:
                assert await settled(agent, "nri", 3) == before
                assert [its.cpus(id_) for id_ in (shared, exclusive, listed)] == sets
                assert its.cpus(again) == "4-5"
                modes = [record["mode"] for record in agent.records("mode.changed")]
                doors = [mode for mode in modes if mode != "none"]
                assert [mode for at, mode in enumerate(doors) if doors[at - 1 : at] != [mode]] == [
                    "nri",
                    "cri",
                    "cgroup",
                    "cri",
                    "nri",
                ]
                said = ("placement.moved", "placement.unsatisfied", "agent.failed", "nri.handler-failed")
                assert agent.records(*said) == []
                assert await agent.stop() == 0


async def test_without_any_runtime_from_the_start_the_tree_has_to_do(its: process.Machine) -> None:
    exclusive = await run(its, DB)
    agent = process.Agent(its, "--source", "auto", "--cri-socket", str(its.folder / "none.sock"))
    async with process.running(agent):
        document = await agent.status(lambda status: status["mode"] == "cgroup" and status["converged"])
        assert its.cpus(exclusive) == claims(document)[f"{DB.uid}/{exclusive}"] == "2-3"
        assert await agent.stop() == 0


async def test_a_dry_run_over_the_tree_writes_nothing(its: process.Machine) -> None:
    shared, exclusive = await run(its, WEB, SHARED), await run(its, DB)
    dry = process.Agent(its, "--source", "cgroup", "--dry-run")
    async with process.running(dry):
        await dry.status(lambda status: list(claims(status).values()) == ["2-3"])
        await dry.told("plan.write")
        assert (its.cpus(shared), its.cpus(exclusive)) == ("", "")
        assert await dry.stop() == 0


async def test_without_pods_cgroups_the_reason_says_so_until_there_are_some(its: process.Machine) -> None:
    its.kernel.remove("kubepods.slice")
    agent = process.Agent(its, "--source", "cgroup")
    async with process.running(agent):
        document = await agent.status(lambda status: "kubepods" in status["reason"])
        assert document["mode"] == "none"
        its.kernel.make("kubepods.slice")
        exclusive = await run(its, DB)
        await settled(agent, "cgroup", 1)
        assert its.cpus(exclusive) == "2-3"
        assert await agent.stop() == 0
