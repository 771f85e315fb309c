"""The agent as a process at the second door to the runtime, and from one door to the other."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler import events
from reconciler.cpu.idset import CpuSet
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import runtime_cri, runtime_pods
from tests.daemon import process

WEB = runtime_pods.PodSpec(name="web", uid="5b8a3f10-0000-4000-8000-000000000001")
DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
DB2 = runtime_pods.PodSpec(name="db2", uid="5b8a3f10-0000-4000-8000-000000000003", qos=events.Qos.GUARANTEED)
SHARED = runtime_pods.ContainerSpec(name="main", request=100)
TWO = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


class Ground:
    """A machine, its runtime, the CRI side of that, and an agent that is started with `source`."""

    def __init__(self, its: process.Machine, side: runtime_cri.CriSide, cri_socket: str, source: str) -> None:
        self.its = its
        self.runtime = its.runtime
        self.side = side
        self.cri_socket = cri_socket
        self.agent = process.Agent(its, "--source", source, "--cri-socket", cri_socket)

    async def run(self, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec) -> str:
        """Run a pod with one container; the container's id."""
        container = await self.runtime.create_container(await self.runtime.run_pod(pod), spec)
        await self.runtime.start_container(container)
        return container

    async def until(self, **wanted: str) -> None:
        """Return when the cpusets of these containers, by their ids, are these."""
        await process.until(
            lambda: all(self.its.cpus(id_.removeprefix("_")) == cpus for id_, cpus in wanted.items())
        )

    async def settled(self, mode: str) -> dict[str, Any]:
        """The status, once it is converged in this mode."""
        return await self.agent.status(lambda status: status["mode"] == mode and status["converged"])


def claims(document: dict[str, Any]) -> dict[str, str]:
    """The claims in a status, by pod."""
    return {entry["pod"]: entry["claim"] for entry in document["containers"] if entry["claim"]}


@contextlib.asynccontextmanager
async def ground(source: str) -> AsyncIterator[Ground]:
    """A node with an agent that is running; the runtime's CRI side listens, its NRI side does not."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        its = process.Machine(pathlib.Path(name))
        path = str(pathlib.Path(name, "cri.sock"))
        async with runtime_cri.serving(path, its.runtime) as side:
            made = Ground(its, side, path, source)
            async with process.running(made.agent):
                yield made
                said = made.agent.records("agent.failed", "nri.handler-failed", "library.said")
                # asyncio in its development mode tells of every slow step, of which a busy machine has some.
                assert [record for record in said if "Executing" not in record.get("reason", "")] == []
                assert await made.agent.stop() == 0
        its.kernel.close()


async def test_over_cri_alone_containers_are_placed_followed_and_repaired() -> None:
    async with ground("cri") as node:
        document = await node.settled("cri")
        assert document["reason"] == "containerd v2.1.9, CRI"
        shared = await node.run(WEB, SHARED)
        exclusive = await node.run(DB, TWO)
        await node.until(**{f"_{exclusive}": "2-3", f"_{shared}": "0-1,4-7"})
        document = await node.settled("cri")
        assert claims(document) == {"db": "2-3"}
        node.its.put(shared, "0-7")
        await node.agent.told("drift.repaired")
        assert node.its.cpus(shared) == "0-1,4-7"
        await node.runtime.remove_pod(node.runtime.containers[exclusive].pod.message.id)
        await node.until(**{f"_{shared}": "0-7"})
        admitted = [record["pod"] for record in node.agent.records("placement.admitted")]
        assert admitted == ["web", "db"]


async def test_over_cri_what_cannot_be_had_is_unsatisfied_until_it_can() -> None:
    async with ground("cri") as node:
        await node.settled("cri")
        five = runtime_pods.ContainerSpec(name="main", limit=5000, request=5000)
        first, second = await node.run(DB, five), await node.run(DB2, five)
        record = await node.agent.told("placement.unsatisfied")
        assert record["pod"] == "db2"
        document = await node.settled("cri")
        assert {
            entry["pod"]: entry["state"] for entry in document["containers"] if entry["container"] == "main"
        } == {
            "db": "in-sync",
            "db2": "unsatisfied",
        }
        assert node.its.cpus(second) == document["pools"]["shared"]
        await node.runtime.remove_pod(node.runtime.containers[first].pod.message.id)
        document = await node.agent.status(lambda status: "db2" in claims(status) and status["converged"])
        assert node.its.cpus(second) == claims(document)["db2"]


async def test_over_cri_a_resize_is_followed_and_one_that_cannot_be_had_waits() -> None:
    async with ground("cri") as node:
        await node.settled("cri")
        first, second = await node.run(DB, TWO), await node.run(DB2, TWO)
        await node.agent.status(lambda status: claims(status).keys() == {"db", "db2"} and status["converged"])
        await resize(node, first, 3000)
        await node.agent.told("placement.resized")
        assert size(await node.settled("cri"), "db") == 3
        await resize(node, second, 6000)
        await node.agent.told("placement.resize-refused")
        assert size(await node.settled("cri"), "db2") == 2
        await node.runtime.remove_pod(node.runtime.containers[first].pod.message.id)
        record = await node.agent.told("placement.resized", 2)
        assert record["pod"] == "db2"
        document = await node.settled("cri")
        assert size(document, "db2") == 6
        assert node.its.cpus(second) == claims(document)["db2"]


def size(document: dict[str, Any], pod: str) -> int:
    """How many CPUs a pod's claim has."""
    return len(CpuSet.parse(claims(document)[pod], what=pod))


async def resize(node: Ground, container: str, milli: int) -> None:
    """kubelet resizes a container to so many thousandths of a CPU."""
    cpu: nri_pb2.LinuxCPU = runtime_pods.cpu_message(
        runtime_pods.ContainerSpec(name="main", limit=milli, request=milli)
    )
    await node.runtime.update_container(container, cpu)


async def test_claims_hold_while_the_runtime_is_away() -> None:
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        its = process.Machine(pathlib.Path(name))
        path = str(pathlib.Path(name, "cri.sock"))
        side = runtime_cri.CriSide(its.runtime)
        node = Ground(its, side, path, "cri")
        async with process.running(node.agent):
            document = await node.agent.status(lambda status: "cri.sock" in status["reason"])
            assert document["mode"] == "none"
            async with runtime_cri.listening(path, side):
                exclusive = await node.run(DB, TWO)
                await node.agent.status(lambda status: bool(claims(status)) and status["mode"] == "cri")
            await node.agent.status(lambda status: status["mode"] == "none")
            its.put(exclusive, "0-7")
            await node.agent.told("drift.repaired")
            side.released.clear()
            async with runtime_cri.listening(path, side):
                assert claims(await node.settled("cri")) == {"db": its.cpus(exclusive)} == {"db": "2-3"}
            assert await node.agent.stop() == 0
        its.kernel.close()


async def test_without_nri_polls_begin_at_once_and_end_when_it_comes() -> None:
    async with ground("auto") as node:
        document = await node.settled("cri")
        assert document["reason"].startswith("containerd v2.1.9, CRI; no NRI: connecting to ")
        exclusive = await node.run(DB, TWO)
        await node.until(**{f"_{exclusive}": "2-3"})
        async with node.runtime:
            assert claims(await node.settled("nri")) == {"db": "2-3"}
            node.side.calls.clear()
            other = await node.run(DB2, TWO)
            assert claims(await node.settled("nri")) == {"db": "2-3", "db2": node.its.cpus(other)}
            assert node.side.calls == {}
        assert [record["mode"] for record in node.agent.records("mode.changed")][:2] == ["cri", "nri"]


async def test_from_nri_to_cri_and_back_no_claim_is_lost_or_moved() -> None:
    async with ground("auto") as node:
        async with node.runtime:
            await node.settled("nri")
            shared, exclusive = await node.run(WEB, SHARED), await node.run(DB, TWO)
            down = await node.run(
                runtime_pods.PodSpec(name="job", uid="5b8a3f10-0000-4000-8000-000000000009", qos=DB.qos), TWO
            )
            before = claims(await node.settled("nri"))
            await node.runtime.exit_container(down)
        await node.agent.status(lambda status: status["mode"] == "none")
        away = await node.run(DB2, TWO)
        document = await node.settled("cri")
        now = claims(document)
        assert now["db"] == before["db"]
        assert "CRI; no NRI: " in document["reason"]
        held = [before["db"], before["job"], node.its.cpus(away)]
        assert len(set(held)) == 3, "the container that is down keeps its CPUs"
        async with node.runtime:
            again = claims(await node.settled("nri"))
            assert again == now
            await node.until(**{f"_{exclusive}": before["db"], f"_{away}": now["db2"]})
            assert node.its.cpus(shared) == document["pools"]["shared"]
        modes = [record["mode"] for record in node.agent.records("mode.changed")]
        assert [mode for mode in modes if mode != "none"][-3:] == ["nri", "cri", "nri"]
        assert node.agent.records("placement.moved") == []


@pytest.mark.parametrize("source", ["auto", "nri"])
async def test_where_nri_works_nobody_is_polled(source: str) -> None:
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        its = process.Machine(pathlib.Path(name))
        path = str(pathlib.Path(name, "cri.sock"))
        async with its.runtime, runtime_cri.serving(path, its.runtime) as side:
            node = Ground(its, side, path, source)
            async with process.running(node.agent):
                await node.settled("nri")
                await node.run(DB, TWO)
                await its.runtime.restart()
                await node.settled("nri")
                assert side.calls == {}
                assert await node.agent.stop() == 0
        its.kernel.close()


async def test_a_dry_run_over_cri_writes_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        its = process.Machine(pathlib.Path(name))
        path = str(pathlib.Path(name, "cri.sock"))
        async with runtime_cri.serving(path, its.runtime) as side:
            node = Ground(its, side, path, "cri")
            dry = process.Agent(its, "--source", "cri", "--cri-socket", path, "--dry-run")
            async with process.running(dry):
                await dry.status(lambda status: status["mode"] == "cri")
                shared, exclusive = await node.run(WEB, SHARED), await node.run(DB, TWO)
                await dry.status(lambda status: claims(status) == {"db": "2-3"})
                await dry.told("plan.write")
                assert (its.cpus(shared), its.cpus(exclusive)) == ("", "")
                assert await dry.stop() == 0
        its.kernel.close()
