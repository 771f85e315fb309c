"""The agent as a process: its start, its end, and what it follows in between."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest

from reconciler import errors, events
from reconciler.daemon import supervisor
from reconciler.sim import runtime_pods
from tests.daemon import process

WEB = runtime_pods.PodSpec(name="web", uid="5b8a3f10-0000-4000-8000-000000000001")
DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
SHARED = runtime_pods.ContainerSpec(name="main", request=100)
INTEGER = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        yield pathlib.Path(name)


@pytest.fixture
async def its(folder: pathlib.Path) -> AsyncIterator[process.Machine]:
    """A machine whose runtime listens."""
    made = process.Machine(folder)
    async with made.runtime:
        yield made
    made.kernel.close()


async def run(its: process.Machine, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec) -> str:
    """Run a pod with one container; the container's id."""
    container = await its.runtime.create_container(await its.runtime.run_pod(pod), spec)
    await its.runtime.start_container(container)
    return container


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_signal_ends_it_well_and_leaves_placements_as_they_are(
    its: process.Machine, number: signal.Signals
) -> None:
    agent = process.Agent(its)
    async with process.running(agent):
        await its.runtime.plugins.wait_for(1)
        shared, exclusive = await run(its, WEB, SHARED), await run(its, DB, INTEGER)
        its.put(shared, "0-7")
        await agent.told("drift.repaired")
        await agent.status(lambda status: status["converged"])
        # A client that says nothing must neither keep it nor cost a word.
        _, silent = await asyncio.open_unix_connection(agent.api)
        assert await agent.stop(number) == 0
        silent.close()
    assert (its.cpus(shared), its.cpus(exclusive)) == ("0-1,4-7", "2-3")
    assert not os.path.exists(agent.api)
    # asyncio in its development mode tells of every slow step, of which a busy machine has some.
    told = [record for record in agent.records() if "Executing" not in record.get("reason", "")]
    told = [record for record in told if record["event"] != "pass.done"]
    names = [record["event"] for record in told]
    assert (names[0], names[-3:]) == ("agent.started", ["agent.stopping", "mode.changed", "agent.stopped"])
    assert {"agent.failed", "library.said", "nri.handler-failed"}.isdisjoint(names)


async def test_a_second_instance_waits_and_takes_over(its: process.Machine) -> None:
    first, second = process.Agent(its, name="first"), process.Agent(its, name="second")
    async with process.running(first, second):
        await its.runtime.plugins.wait_for(1)
        waiting = second if await waits(first, second) == "second" else first
        serving = first if waiting is second else second
        exclusive = await run(its, DB, INTEGER)
        assert len(its.runtime.plugins.active) == 1
        assert not os.path.exists(waiting.api)
        assert await serving.stop() == 0
        document = await waiting.status(lambda status: status["mode"] == "nri" and status["converged"])
        claims = {f"{entry['pod']}/{entry['container']}": entry["claim"] for entry in document["containers"]}
        assert claims["db/main"] == its.cpus(exclusive) == "2-3"
        assert await waiting.stop() == 0
    assert len(waiting.records("instance.waits")) == 1
    assert "another instance holds" in waiting.records("instance.waits")[0]["reason"]


async def waits(first: process.Agent, second: process.Agent) -> str:
    """Which of two waits for the other."""
    await process.until(lambda: bool(first.records("instance.waits") or second.records("instance.waits")))
    return "second" if second.records("instance.waits") else "first"


async def test_an_instance_that_waits_can_be_told_to_stop(its: process.Machine) -> None:
    first, second = process.Agent(its, name="first"), process.Agent(its, name="second")
    async with process.running(first):
        await first.told("agent.started")
        async with process.running(second):
            await second.told("instance.waits")
            assert await second.stop() == 0
        assert {"instance.waits", "agent.stopping"} <= {record["event"] for record in second.records()}
        assert second.records("agent.started") == []
        assert await first.stop() == 0


async def test_without_a_runtime_it_says_so_and_keeps_trying(folder: pathlib.Path) -> None:
    made = process.Machine(folder)
    agent = process.Agent(made)
    async with process.running(agent):
        document = await agent.status(lambda _: True)
        assert (document["mode"], document["converged"], document["containers"]) == ("none", False, [])
        retry = await agent.told("nri.retry")
        assert f"connecting to {made.runtime.socket_path}: No such file or directory" in retry["reason"]
        async with made.runtime:
            document = await agent.status(lambda status: status["mode"] == "nri" and status["converged"])
            assert document["reason"] == "containerd v2.1.9, NRI 0.8.0"
        document = await agent.status(lambda status: status["mode"] == "none")
        assert document["reason"] == "the runtime closed the connection"
        assert await agent.stop() == 0
    made.kernel.close()


async def test_a_change_of_the_configuration_is_followed(its: process.Machine) -> None:
    agent = process.Agent(its)
    async with process.running(agent):
        await its.runtime.plugins.wait_for(1)
        its.config.write_text("reservedCPUs: 0-1\n")
        rejected = await agent.told("config.rejected")
        assert "reservedCPUs" in rejected["reason"]
        fresh = its.config.with_suffix(".new")
        fresh.write_text("reservedCpus: 0-3\n")
        fresh.replace(its.config)
        await agent.told("config.reloaded")
        exclusive = await run(its, DB, INTEGER)
        assert its.cpus(exclusive) == "4-5"
        document = await agent.status(lambda status: status["converged"])
        assert document["pools"]["reserved"] == "0-3"
        assert await agent.stop() == 0


async def test_a_dry_run_writes_nothing_and_refuses_nothing(its: process.Machine) -> None:
    agent = process.Agent(its, "--dry-run")
    async with process.running(agent):
        await its.runtime.plugins.wait_for(1)
        shared, exclusive = await run(its, WEB, SHARED), await run(its, DB, INTEGER)
        greedy = runtime_pods.ContainerSpec(name="greedy", limit=16_000, request=16_000)
        pod = next(id_ for id_, sandbox in its.runtime.pods.items() if sandbox.spec is DB)
        await its.runtime.create_container(pod, greedy)
        await agent.told("placement.refused")
        await agent.told("plan.write")
        assert (its.cpus(shared), its.cpus(exclusive)) == ("", "")
        assert await agent.stop() == 0
    assert agent.records("agent.started")[0]["dry"] is True
    assert agent.records("pass.done") == []


async def test_the_first_part_that_fails_ends_all() -> None:
    ended: list[str] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise errors.Usage("a descriptor that is no socket")

    async def go_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("the other part")

    stop = asyncio.create_task(asyncio.Event().wait())
    with pytest.raises(errors.Usage, match="no socket"):
        await supervisor._serve(stop, go_on(), fail())
    assert ended == ["the other part"]
    assert not stop.done()
    stop.cancel()
