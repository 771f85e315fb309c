"""Polling a runtime over its socket: what each generation shows, and what becomes of calls that fail."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import AsyncIterator

import pytest
from grpclib import const

from reconciler import errors, events
from reconciler.runtime import cgroup_path
from reconciler.runtime.cri import client, poller, view
from reconciler.sim import runtime, runtime_cri, runtime_cri_messages, runtime_pods

GUARANTEED = runtime_pods.PodSpec(
    name="db", uid="5b8a-1", qos=events.Qos.GUARANTEED, annotations={"weka.io/cores-ids": "2-3", "other": "x"}
)
BURSTABLE = runtime_pods.PodSpec(name="web", uid="5b8a-2")
TWO = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)
SMALL = runtime_pods.ContainerSpec(name="main", request=100)
SECONDS = 0.5
"""For the answers that do not come; those that do have all the time that a slow machine takes."""
PATIENCE = 30.0


class Polled:
    """A runtime, its CRI side, and who polls it."""

    def __init__(
        self, its_runtime: runtime.StandInRuntime, side: runtime_cri.CriSide, path: str, seconds: float
    ) -> None:
        """`seconds` is the deadline of each call."""
        self.runtime = its_runtime
        self.side = side
        self.path = path
        self.client = client.Client(path, list_seconds=seconds)
        self.complaints: list[str] = []
        self.poller = poller.Poller(
            self.client, lambda error: self.complaints.append(str(error)), its_runtime.profile.runtime
        )

    async def run(self, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec) -> str:
        """Run a pod with one container; the container's id."""
        id_ = await self.runtime.create_container(await self.runtime.run_pod(pod), spec)
        await self.runtime.start_container(id_)
        return id_


@contextlib.asynccontextmanager
async def polling(name: str = "containerd-2.1", *, seconds: float = PATIENCE) -> AsyncIterator[Polled]:
    """A runtime of this kind without pods."""
    with tempfile.TemporaryDirectory(prefix="cri-") as folder:
        path = str(pathlib.Path(folder, "cri.sock"))
        its = runtime.StandInRuntime("", runtime_cri_messages.PROFILES[name])
        async with runtime_cri.serving(path, its) as side:
            made = Polled(its, side, path, seconds)
            async with made.client:
                yield made


@pytest.mark.parametrize("name", runtime_cri_messages.PROFILES)
async def test_every_generation_is_understood(name: str) -> None:
    async with polling(name) as its:
        container = await its.run(GUARANTEED, TWO)
        (event,) = await its.poller.poll()
        assert isinstance(event, events.Synchronized)
        (pod,), (found,) = event.pods, event.containers
        assert (pod.uid, pod.namespace, pod.name) == ("5b8a-1", "default", "db")
        assert pod.qos is events.Qos.GUARANTEED
        assert pod.annotations == {"weka.io/cores-ids": "2-3"}
        assert (pod.cgroup is None) == name.startswith("cri-o")
        assert (found.id, found.name, found.phase) == (container, "main", events.Phase.RUNNING)
        assert found.limits == events.CpuLimits(shares=2048, quota=200_000, period=100_000)
        message = its.runtime.containers[container].message
        assert found.cgroup == cgroup_path.directory(message.linux.cgroups_path)
        assert its.complaints == []


@pytest.mark.parametrize("name", runtime_cri_messages.PROFILES)
async def test_a_resize_is_seen_in_every_generation(name: str) -> None:
    async with polling(name) as its:
        container = await its.run(GUARANTEED, TWO)
        await its.poller.poll()
        bigger = runtime_pods.cpu_message(runtime_pods.ContainerSpec(name="main", limit=3000, request=3000))
        await its.runtime.update_container(container, bigger)
        (event,) = await its.poller.poll([container])
        assert isinstance(event, events.ContainerUpdating)
        assert event.limits == events.CpuLimits(shares=3072, quota=300_000)


async def test_a_life_is_told_from_its_beginning_to_its_end() -> None:
    async with polling() as its:
        await its.poller.poll()
        pod = await its.runtime.run_pod(BURSTABLE)
        container = await its.runtime.create_container(pod, SMALL)
        seen = [await its.poller.poll()]
        await its.runtime.start_container(container)
        seen.append(await its.poller.poll())
        await its.runtime.exit_container(container)
        seen.append(await its.poller.poll())
        await its.runtime.remove_container(container)
        seen.append(await its.poller.poll())
        await its.runtime.stop_pod(pod)
        seen.append(await its.poller.poll())
        await its.runtime.remove_pod(pod)
        seen.append(await its.poller.poll())
    assert [[type(event).__name__ for event in news] for news in seen] == [
        ["PodStarted", "ContainerCreating"],
        ["ContainerStarting"],
        ["ContainerStopped"],
        ["ContainerRemoved"],
        ["PodStopped"],
        [],
    ]


STATUSES = [status for status in const.Status if status is not const.Status.OK]


@pytest.mark.parametrize("status", STATUSES, ids=[status.name for status in STATUSES])
@pytest.mark.parametrize("call", ["ListContainers", "ListPodSandbox"])
async def test_a_list_that_fails_is_tried_again_without_a_loss(call: str, status: const.Status) -> None:
    async with polling() as its:
        await its.poller.poll()
        await its.run(BURSTABLE, SMALL)
        its.side.faults[call] = status
        with pytest.raises(errors.ReconcilerError, match=call):
            await its.poller.poll()
        del its.side.faults[call]
        assert [type(event).__name__ for event in await its.poller.poll()] == [
            "PodStarted",
            "ContainerStarting",
        ]


@pytest.mark.parametrize("status", STATUSES, ids=[status.name for status in STATUSES])
async def test_a_status_that_fails_costs_one_container_or_one_poll(status: const.Status) -> None:
    async with polling() as its:
        await its.poller.poll()
        await its.run(BURSTABLE, SMALL)
        its.side.faults["ContainerStatus"] = status
        with contextlib.suppress(errors.Retryable):
            assert [type(event).__name__ for event in await its.poller.poll()] == ["PodStarted"]
        del its.side.faults["ContainerStatus"]
        assert "ContainerStarting" in [type(event).__name__ for event in await its.poller.poll()]


async def test_a_pods_claims_do_not_depend_on_its_status() -> None:
    async with polling() as its:
        await its.run(GUARANTEED, TWO)
        its.side.faults["PodSandboxStatus"] = const.Status.INTERNAL
        (event,) = await its.poller.poll()
        assert isinstance(event, events.Synchronized)
        assert [pod.qos for pod in event.pods] == [events.Qos.GUARANTEED]


async def test_what_vanishes_between_list_and_status_never_was() -> None:
    async with polling() as its:
        await its.poller.poll()
        await its.run(BURSTABLE, SMALL)
        its.side.faults |= {
            "ContainerStatus": const.Status.NOT_FOUND,
            "PodSandboxStatus": const.Status.NOT_FOUND,
        }
        assert await its.poller.poll() == []


@pytest.mark.parametrize("call", ["ListContainers", "ListPodSandbox", "PodSandboxStatus", "ContainerStatus"])
async def test_a_runtime_that_hangs_is_left_after_the_deadline(call: str) -> None:
    async with polling(seconds=SECONDS) as its:
        await its.run(BURSTABLE, SMALL)
        its.side.hanging.add(call)
        async with asyncio.timeout(20 * SECONDS):
            told = f"{call}: (no answer from .* in 0.5 s|DEADLINE_EXCEEDED)"  # whoever is first to give up
            with pytest.raises(errors.Retryable, match=told):
                await its.poller.poll()
        its.side.hanging.clear()
        (event,) = await its.poller.poll()
        assert isinstance(event, events.Synchronized)
        assert len(event.containers) == 1


async def test_a_restart_of_the_runtime_is_no_news() -> None:
    with tempfile.TemporaryDirectory(prefix="cri-") as folder:
        path = str(pathlib.Path(folder, "cri.sock"))
        its = runtime.StandInRuntime("", runtime_cri_messages.PROFILES["containerd-1.6"])
        side = runtime_cri.CriSide(its)
        async with client.Client(path, list_seconds=SECONDS) as calls:
            polls = poller.Poller(calls, lambda _: None)
            async with runtime_cri.listening(path, side):
                id_ = await its.create_container(await its.run_pod(BURSTABLE), SMALL)
                await its.start_container(id_)
                await polls.poll()
            with pytest.raises(errors.Retryable):
                await polls.poll()
            side.released.clear()
            async with runtime_cri.listening(path, side):
                assert await polls.poll() == []


async def test_two_thousand_containers_are_asked_for_once() -> None:
    async with polling() as its:
        pod = await its.runtime.run_pod(BURSTABLE)
        for number in range(2000):
            spec = runtime_pods.ContainerSpec(name=f"c{number}", request=100)
            await its.runtime.start_container(await its.runtime.create_container(pod, spec))
        (event,) = await its.poller.poll()
        assert isinstance(event, events.Synchronized)
        assert len(event.containers) == 2000
        assert its.side.calls["ContainerStatus"] == 2000
        its.side.calls.clear()
        assert await its.poller.poll() == []
        assert its.side.calls == {
            "ListContainers": 1,
            "ListPodSandbox": 1,
            "ContainerStatus": view.AGAIN_AT_ONCE,
        }


async def test_a_peer_that_is_no_runtime_is_left() -> None:
    async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        await writer.drain()
        writer.close()

    with tempfile.TemporaryDirectory(prefix="cri-") as folder:
        path = str(pathlib.Path(folder, "cri.sock"))
        async with (
            await asyncio.start_unix_server(chatter, path),
            client.Client(path, list_seconds=SECONDS) as calls,
        ):
            with pytest.raises(errors.Retryable):
                await poller.Poller(calls, lambda _: None).poll()
