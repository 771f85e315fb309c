"""When systemd is told that the node is served."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import socket
from collections.abc import AsyncIterator

import pytest

from reconciler import events
from reconciler.daemon import logs, readiness
from reconciler.host import notify
from reconciler.runtime.nri import instance
from reconciler.sim import runtime_pods
from tests.daemon import node, pods, process

# covers: PRD-8.16
WEB = runtime_pods.PodSpec(name="web", uid="5b8a3f10-0000-4000-8000-000000000001")
DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
SHARED = runtime_pods.ContainerSpec(name="main", request=100)
INTEGER = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


class Manager:
    """Listens as systemd does for its services."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(path)

    async def told(self) -> str:
        """The next status with which the service says that it is ready."""
        async with asyncio.timeout(process.PATIENCE):
            said = (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()
        assert said.startswith("READY=1\nSTATUS=")
        return said.removeprefix("READY=1\nSTATUS=").rstrip("\n")

    def was_told(self) -> bool:
        """Whether there is something that `told` has not given."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


@pytest.fixture
async def manager(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Manager]:
    """Whoever starts the agent in this test."""
    path = str(tmp_path / "notify")
    monkeypatch.setitem(process.ENVIRONMENT, "NOTIFY_SOCKET", path)
    made = Manager(path)
    yield made
    made.close()


@pytest.fixture
async def its(tmp_path: pathlib.Path) -> AsyncIterator[process.Machine]:
    """A machine whose runtime does not listen yet."""
    made = process.Machine(tmp_path)
    yield made
    made.kernel.close()


async def run(its: process.Machine, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec) -> str:
    """Run a pod with one container; the container's id."""
    container = await its.runtime.create_container(await its.runtime.run_pod(pod), spec)
    await its.runtime.start_container(container)
    return container


async def test_not_before_what_runs_is_taken_over_and_a_pass_has_placed_it(
    its: process.Machine, manager: Manager
) -> None:
    shared, exclusive = await run(its, WEB, SHARED), await run(its, DB, INTEGER)
    agent = process.Agent(its)
    async with process.running(agent):
        await agent.told("nri.retry")
        assert not manager.was_told()
        async with its.runtime:
            assert (await manager.told()).startswith("serving by nri: containerd v2.1.9")
            assert (its.cpus(shared), its.cpus(exclusive)) == ("0-1,4-7", "2-3")
            assert (await agent.told("agent.ready"))["mode"] == "nri"


async def test_not_while_the_pass_that_places_what_runs_is_under_way(
    tmp_path: pathlib.Path, manager: Manager
) -> None:
    db = pods.guaranteed("db")
    runs = pods.container(db, whole=2, phase=events.Phase.RUNNING)
    async with node.running(tmp_path, ready=False) as made:
        made.make(runs)

        def hold_what_follows_the_adoption() -> None:
            if made.agent.state.ledger.intents:
                made.kernel.hold()

        made.agent.current.on_change = hold_what_follows_the_adoption
        ready = readiness.Readiness(
            notify.Notifier(str(tmp_path / "notify")), logs.configure("json", made.log)
        )
        serving = asyncio.create_task(ready.serve(made.agent, made.passes))
        made.agent.connected(node.PEER)
        made.agent.synchronized(node.listed((db, runs)), node.PEER)
        await node.until(lambda: bool(made.passes._passed))
        assert not manager.was_told()
        assert made.cpus(runs) == ""
        made.kernel.release()
        assert (await manager.told()).startswith("serving by nri: ")
        assert made.cpus(runs) == "2-3"
        serving.cancel()
        await asyncio.wait([serving])


async def test_one_that_stands_by_is_waited_for_by_nobody(its: process.Machine, manager: Manager) -> None:
    agent = process.Agent(its)
    os.makedirs(its.folder / "state")
    async with its.runtime:
        stack = contextlib.AsyncExitStack()
        await stack.enter_async_context(instance.alone(str(its.folder / "state/instance.lock")))
        async with stack, process.running(agent):
            assert (await manager.told()).startswith("standing by: another instance holds")
            assert agent.records("agent.started", "agent.ready") == []
            await stack.aclose()
            assert (await manager.told()).startswith("serving by nri: ")


async def test_a_manager_that_does_not_listen_costs_a_warning_and_nothing_else(
    its: process.Machine, manager: Manager
) -> None:
    manager.close()
    agent = process.Agent(its)
    async with its.runtime, process.running(agent):
        await agent.told("agent.ready")
        said = await agent.told("host.limited")
        assert "Connection refused" in said["reason"]
        await agent.status(lambda status: status["converged"])
