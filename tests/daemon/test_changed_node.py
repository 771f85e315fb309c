"""A node that comes back as another one: the agent adapts, says so once, and goes on."""

from __future__ import annotations

import json
import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler import events
from reconciler.sim import machine, runtime_pods
from tests.daemon import process

# covers: PRD-6.7

DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
LATE = runtime_pods.PodSpec(
    name="late", uid="5b8a3f10-0000-4000-8000-000000000003", qos=events.Qos.GUARANTEED
)
WEB = runtime_pods.PodSpec(name="web", uid="5b8a3f10-0000-4000-8000-000000000004")
TWO = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)
FOUR = runtime_pods.ContainerSpec(name="main", limit=4000, request=4000)
SHARED = runtime_pods.ContainerSpec(name="main", request=100)
BOOT, MACHINE = "proc/sys/kernel/random/boot_id", "etc/machine-id"


@pytest.fixture
async def its() -> AsyncIterator[process.Machine]:
    """A machine of 8 CPUs whose runtime listens."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        made = process.Machine(pathlib.Path(name))
        for file, text in ((BOOT, "b-1\n"), (MACHINE, "m-1\n")):
            path = pathlib.Path(made.root, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        async with made.runtime:
            yield made
        made.kernel.close()


def become(its: process.Machine, shape: machine.Shape) -> None:
    """From now on it is this machine."""
    shutil.rmtree(pathlib.Path(its.root, "sys/devices"))
    machine.write(its.root, machine.build(shape))


async def run(its: process.Machine, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec) -> str:
    container = await its.runtime.create_container(await its.runtime.run_pod(pod), spec)
    await its.runtime.start_container(container)
    return container


def claims(document: dict[str, Any]) -> dict[str, str]:
    return {entry["pod"]: entry["claim"] for entry in document["containers"] if entry["claim"]}


def is_settled(status: dict[str, Any]) -> bool:
    return bool(status["converged"] and status["checkpoint"]["saved"])


async def before(its: process.Machine) -> dict[str, Any]:
    """The claims of an agent that has run and been stopped; two pods with CPUs of their own, one without."""
    first = process.Agent(its, name="first")
    async with process.running(first):
        await its.runtime.plugins.wait_for(1)
        await run(its, DB, TWO)
        await run(its, LATE, FOUR)
        await run(its, WEB, SHARED)
        document = await first.status(lambda status: len(claims(status)) == 2 and is_settled(status))
        assert await first.stop() == 0
    return claims(document)


@pytest.mark.parametrize(
    ("shape", "online", "nodes", "kept", "dropped"),
    [
        pytest.param(
            machine.Shape(sockets=2, cores=4, adjacent=True), "0-15", 2, {"db", "late"}, set(), id="more CPUs"
        ),
        pytest.param(
            machine.Shape(sockets=1, cores=2, adjacent=True), "0-3", 1, {"db"}, {"late"}, id="fewer CPUs"
        ),
        pytest.param(
            machine.Shape(sockets=1, nodes=4, cores=1, adjacent=True),
            "0-7",
            4,
            {"db", "late"},
            set(),
            id="other NUMA nodes",
        ),
    ],
)
async def test_a_node_with_other_cpus_is_adapted_to_and_that_is_told_once(
    its: process.Machine,
    *,
    shape: machine.Shape,
    online: str,
    nodes: int,
    kept: set[str],
    dropped: set[str],
) -> None:
    had = await before(its)
    assert had == {"db": "2-3", "late": "4-7"}
    become(its, shape)
    second = process.Agent(its, name="second")
    async with process.running(second):
        document = await second.status(is_settled)
        now = claims(document)
        assert {pod: now[pod] for pod in kept} == {pod: had[pod] for pod in kept}
        [started] = second.records("agent.started")
        assert started["online"] == online
        [restored] = second.records("checkpoint.restored")
        assert restored["online_before"] == "0-7"
        assert restored["nodes_before"] == {"0": "0-3", "1": "4-7"}
        assert {record["pod"] for record in second.records("checkpoint.misfit")} == dropped
        assert {
            entry["pod"] for entry in document["containers"] if entry["state"] == "unsatisfied"
        } == dropped
        assert second.records("agent.failed", "checkpoint.set-aside") == []
        assert await second.stop() == 0
    saved = json.loads((its.folder / "state" / "checkpoint.json").read_text())
    assert (saved["online"], len(saved["nodes"])) == (online, nodes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda saved: {**saved, "machine": "m-0"}, "foreign", id="another machine's"),
        pytest.param(lambda saved: {**saved, "version": 99, "more": {}}, "newer", id="a newer agent's"),
    ],
)
async def test_a_checkpoint_that_is_not_its_own_is_set_aside_whole_and_what_runs_stays(
    its: process.Machine, change: Any, reason: str
) -> None:
    had = await before(its)
    file = its.folder / "state" / "checkpoint.json"
    file.write_text(text := json.dumps(change(json.loads(file.read_text()))))
    second = process.Agent(its, name="second")
    async with process.running(second):
        document = await second.status(lambda status: len(claims(status)) == 2 and is_settled(status))
        assert claims(document) == had
        [record] = second.records("checkpoint.set-aside")
        kept = pathlib.Path(record["kept"])
        assert kept.name == f"checkpoint.json.{reason}"
        assert kept.read_text() == text
        assert second.records("agent.failed", "drift.found") == []
        assert await second.stop() == 0


async def test_an_agent_that_is_started_again_and_again_says_the_same_each_time(its: process.Machine) -> None:
    had = await before(its)
    become(its, machine.Shape(sockets=1, cores=2, adjacent=True))
    for attempt in range(3):
        agent = process.Agent(its, name=f"again-{attempt}")
        async with process.running(agent):
            document = await agent.status(is_settled)
            assert claims(document) == {"db": had["db"]}
            assert len(agent.records("checkpoint.misfit")) == (attempt == 0)
            assert await agent.stop() == 0
