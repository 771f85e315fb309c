"""The agent as a process whose metrics and probes are asked for over HTTP and over its socket."""

# covers: PRD-12.4
# covers: PRD-12.6

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest

from reconciler import events
from reconciler.daemon import api, listener
from reconciler.sim import runtime_pods
from tests.daemon import process

DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
INTEGER = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="scrape-") as name:
        yield pathlib.Path(name)


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number: int = taken.getsockname()[1]
        return number


@pytest.fixture
async def its(folder: pathlib.Path, port: int) -> AsyncIterator[process.Machine]:
    """A machine whose agent is to listen at the port, and whose runtime does not run yet."""
    made = process.Machine(folder)
    made.config.write_text(f"passIntervalSeconds: 0.5\nmetrics: {{listen: '127.0.0.1:{port}'}}\n")
    yield made
    made.kernel.close()


async def get(port: int, path: str) -> tuple[int, str]:
    """The status code and the body, once anyone listens there."""
    async with asyncio.timeout(process.PATIENCE):
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            await asyncio.sleep(0.02)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
    return int(head.split(" ")[1]), body


def complaints(agent: process.Agent) -> list[str]:
    """What went wrong in it, but for slow steps, of which a busy machine has some in development mode."""
    reasons = [str(record) for record in agent.records("agent.failed", "library.said")]
    return [reason for reason in reasons if "Executing" not in reason]


async def test_probes_follow_the_runtime_and_metrics_say_what_it_asked(
    its: process.Machine, port: int
) -> None:
    agent = process.Agent(its)
    async with process.running(agent):
        code, body = await get(port, "/readyz")
        assert (code, body.partition(":")[0]) == (503, "no runtime is connected")
        assert await get(port, "/healthz") == (200, "alive\n")
        async with its.runtime:
            await agent.status(lambda status: status["ready"])
            assert await get(port, "/readyz") == (200, "ready; mode nri: containerd v2.1.9, NRI 0.8.0\n")
            container = await its.runtime.create_container(await its.runtime.run_pod(DB), INTEGER)
            await its.runtime.start_container(container)
            await agent.status(lambda status: status["converged"] and status["checkpoint"]["saved"])
            code, text = await get(port, "/metrics")
        assert code == 200
        said = {
            line.rsplit(" ", 1)[0].removeprefix("cpuset_reconciler_"): float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if not line.startswith("#")
        }
        for hook in ("CreateContainer", "StartContainer", "RunPodSandbox"):
            assert said[f'hook_seconds_count{{hook="{hook}"}}'] == 1
            assert 0 < said[f'hook_seconds_sum{{hook="{hook}"}}'] < process.PATIENCE
        assert said['containers{class="integer",state="in-sync"}'] == 1
        assert (said["nri_connections_total"], said["checkpoint_writes_total"] > 0) == (1, True)
        await agent.status(lambda status: not status["ready"])
        answer = await api.ask(agent.api, {"request": "metrics"})
        assert "cpuset_reconciler_nri_losses_total 1.0\n" in str(answer["text"])
        assert (await get(port, "/readyz"))[0] == 503
        assert await agent.stop() == 0
    assert complaints(agent) == []


async def test_clients_that_say_nothing_hold_up_no_hook_and_no_end(its: process.Machine, port: int) -> None:
    agent = process.Agent(its)
    async with its.runtime, process.running(agent):
        await agent.status(lambda status: status["ready"])
        await get(port, "/healthz")
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(listener.MOST_CONNECTIONS)]
        container = await its.runtime.create_container(await its.runtime.run_pod(DB), INTEGER)
        await its.runtime.start_container(container)
        assert its.cpus(container) == "2-3"
        assert await agent.stop() == 0
        for _, writer in silent:
            writer.close()
    assert complaints(agent) == []


async def test_an_address_that_is_taken_ends_the_start_with_the_key(its: process.Machine, port: int) -> None:
    agent = process.Agent(its, name="second")
    with socket.create_server(("127.0.0.1", port)):
        await agent.start()
        assert await agent.exit_code() == 2
    assert f"metrics.listen: 127.0.0.1:{port}: " in agent.said()
