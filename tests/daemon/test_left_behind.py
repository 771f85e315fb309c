"""A process that outlives its pod, seen by the agent as a process, over both doors to the runtime."""

from __future__ import annotations

import pathlib
import signal
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler import events
from reconciler.sim import runtime_cri, runtime_pods
from tests.daemon import process

# covers: PRD-6.8

DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
OTHER = runtime_pods.PodSpec(
    name="other", uid="5b8a3f10-0000-4000-8000-000000000003", qos=events.Qos.GUARANTEED
)
WEB = runtime_pods.PodSpec(name="web", uid="5b8a3f10-0000-4000-8000-000000000004")
SHARED = runtime_pods.ContainerSpec(name="main")
INTEGER = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


@pytest.fixture
async def its() -> AsyncIterator[process.Machine]:
    """A machine whose runtime listens at both doors."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        made = process.Machine(pathlib.Path(name))
        async with made.runtime, runtime_cri.serving(f"{name}/cri.sock", made.runtime):
            yield made
        made.kernel.close()


async def run(its: process.Machine, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec) -> str:
    """Run a pod with one container; that one's id."""
    container = await its.runtime.create_container(await its.runtime.run_pod(pod), spec)
    await its.runtime.start_container(container)
    return container


async def forget(its: process.Machine, container: str, pid: int) -> str:
    """The runtime forgets the container's pod, of which a process lives on in the cgroup that this gives."""
    record = its.runtime.containers[container]
    path = str(record.cgroup)
    its.kernel.stubborn.add(path)
    its.kernel.populate(path, pid)
    await its.runtime.remove_pod(record.pod.message.id)
    return path


def only(pod: str, status: dict[str, Any]) -> dict[str, Any] | None:
    """The entry of the one container of a pod, pause containers apart."""
    found = [its for its in status["containers"] if its["pod"] == pod and its["container"] != "POD"]
    return found[0] if found else None


@pytest.mark.parametrize("source", ["nri", "cri"])
async def test_it_keeps_its_cpus_until_it_ends_though_the_agent_is_killed(
    its: process.Machine, source: str
) -> None:
    options = ("--source", source, "--cri-socket", str(its.folder / "cri.sock"))
    first, second = (process.Agent(its, *options, name=name) for name in ("first", "second"))
    async with process.running(first):
        await first.status(lambda status: status["mode"] == source)
        container = await run(its, DB, INTEGER)
        await first.status(lambda status: status["pools"]["exclusive"] == "2-3")
        path = await forget(its, container, 4711)
        told = await first.told("claim.lingers")
        assert (told["pod"], told["cpus"], told["level"]) == ("db", "2-3", "warning")
        sentence = "the runtime has no record of it any more, but a process of it is alive (pid 4711)"
        document = await first.status(lambda status: status["converged"] and status["checkpoint"]["saved"])
        entry = only("db", document)
        assert entry is not None
        assert entry["reason"].startswith(sentence)
        assert (entry["claim"], entry["state"]) == ("2-3", "in-sync")
        await first.stop(signal.SIGKILL)
    async with process.running(second):
        await second.status(lambda status: status["converged"] and status["mode"] == source)
        assert (await second.told("claim.lingers"))["reason"] == sentence
        other = await run(its, OTHER, INTEGER)
        await second.status(lambda status: status["converged"] and only("other", status) is not None)
        assert its.cpus(other) == "4-5"
        its.kernel.stubborn.clear()
        its.kernel.remove(path)
        await second.told("claim.ended")
        document = await second.status(lambda status: status["converged"] and only("db", status) is None)
        assert document["pools"]["exclusive"] == "4-5"
        assert await second.stop() == 0


async def test_what_is_left_of_a_shared_container_is_found_again_and_leaves_exclusive_cpus(
    its: process.Machine,
) -> None:
    first, second = process.Agent(its, name="first"), process.Agent(its, name="second")
    async with process.running(first):
        await first.status(lambda status: status["mode"] == "nri")
        container = await run(its, WEB, SHARED)
        await first.status(lambda status: only("web", status) is not None and status["checkpoint"]["saved"])
        path = await forget(its, container, 4711)
        document = await first.status(
            lambda status: "(pid 4711)" in str(only("web", status)) and status["checkpoint"]["saved"]
        )
        assert document["converged"]
        await first.stop(signal.SIGKILL)
    async with process.running(second):
        await second.status(lambda status: status["converged"] and status["mode"] == "nri")
        await run(its, DB, INTEGER)
        await second.status(lambda status: status["converged"] and status["pools"]["exclusive"] == "2-3")
        assert pathlib.Path(its.cgroups, path, "cpuset.cpus").read_text().strip() == "0-1,4-7"
        assert await second.stop() == 0
