"""Pods that end while the agent is away, and of which the runtime keeps a record: their claims end."""

from __future__ import annotations

import os
import pathlib
import signal
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler import events
from reconciler.sim import runtime_pods
from tests.daemon import process

# covers: PRD-6.12

DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
INTEGER = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)
OWN = "2-3"


@pytest.fixture
async def its() -> AsyncIterator[process.Machine]:
    """A machine with a runtime."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        made = process.Machine(pathlib.Path(name))
        async with made.runtime:
            yield made
        made.kernel.close()


class Left:
    """A pod whose agent was killed: its sandbox, its container, and the cgroup that kubelet made for it."""

    def __init__(self, its: process.Machine, container: str) -> None:
        record = its.runtime.containers[container]
        self.container = container
        self.sandbox = record.pod.message.id
        self.folder = os.path.dirname(str(record.cgroup))


async def left(its: process.Machine) -> Left:
    """Run the pod under an agent that is killed afterwards."""
    agent = process.Agent(its, name="first")
    async with process.running(agent):
        await agent.status(lambda status: status["mode"] == "nri")
        container = await its.runtime.create_container(await its.runtime.run_pod(DB), INTEGER)
        await its.runtime.start_container(container)
        await agent.status(lambda status: status["pools"]["exclusive"] == OWN and saved(status))
        await agent.stop(signal.SIGKILL)
    return Left(its, container)


def saved(status: dict[str, Any]) -> bool:
    """Whether it has converged, and the checkpoint says what is so."""
    return bool(status["converged"] and status["checkpoint"]["saved"])


async def test_its_cpus_are_everybodys_at_the_agents_start(its: process.Machine) -> None:
    pod = await left(its)
    await its.runtime.stop_pod(pod.sandbox)
    its.kernel.remove(pod.folder)
    agent = process.Agent(its, name="second")
    async with process.running(agent):
        status = await agent.status(lambda status: status["mode"] == "nri" and saved(status))
        assert (status["pools"]["shared"], status["pools"]["exclusive"]) == ("0-7", "")
        assert status["containers"] == []


async def test_they_are_once_kubelet_has_removed_its_cgroup(its: process.Machine) -> None:
    pod = await left(its)
    await its.runtime.stop_pod(pod.sandbox)
    agent = process.Agent(its, name="second")
    async with process.running(agent):
        status = await agent.status(lambda status: status["mode"] == "nri" and saved(status))
        assert status["pools"]["exclusive"] == OWN  # kubelet may be about to start it again
        its.kernel.remove(pod.folder)
        status = await agent.status(lambda status: status["pools"]["exclusive"] == "")
        assert status["pools"]["shared"] == "0-7"


async def test_a_container_that_is_down_keeps_them_though_its_pod_has_no_pause_container(
    its: process.Machine,
) -> None:
    pod = await left(its)
    await its.runtime.exit_container(pod.container)
    its.kernel.remove(str(runtime_pods.directory(its.runtime.pods[pod.sandbox].message)))
    assert os.path.isdir(os.path.join(its.cgroups, pod.folder))
    agent = process.Agent(its, name="second")
    async with process.running(agent):
        await agent.status(lambda status: status["mode"] == "nri" and saved(status))
        container = await its.runtime.create_container(pod.sandbox, INTEGER)
        await its.runtime.start_container(container)
        status = await agent.status(lambda status: len(status["containers"]) == 2 and saved(status))
        assert status["pools"]["exclusive"] == OWN
        assert its.cpus(container) == OWN
