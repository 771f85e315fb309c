"""The stand-in runtime springs each trap that the Go one has."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib

import pytest

from reconciler.runtime.nri import envelope, nri_pb2
from reconciler.sim import runtime, runtime_plugins, runtime_pods, runtime_wire
from reconciler.sim.runtime_profile import PROFILES
from tests.nri import raw, recorder

POD = runtime_pods.PodSpec(name="web", uid="uid")
CONTAINER = runtime_pods.ContainerSpec(name="main", request=100)
MODERN = PROFILES["containerd-2.1.9"]
CREATE = 1 << (nri_pb2.CREATE_CONTAINER - 1)


def adjustment(cpus: str) -> bytes:
    response = nri_pb2.CreateContainerResponse()
    response.adjust.linux.resources.cpu.cpus = cpus
    return response.SerializeToString()


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[place : place + size] for place in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("cut", "survives"),
    [
        pytest.param(lambda data: [data], False, id="one-frame"),
        pytest.param(lambda data: pieces(data, 8192), False, id="frames-of-8-kB"),
        pytest.param(lambda data: [data[:4096], data[4096:]], True, id="4096-and-the-rest"),
        pytest.param(lambda data: pieces(data, 4096), True, id="frames-of-4096"),
        pytest.param(lambda data: pieces(data, 1), False, id="one-byte-frames"),
        pytest.param(lambda data: [*pieces(data, 4096), b""], True, id="an-empty-frame"),
    ],
)
async def test_a_large_reply_must_be_cut_as_go_cuts_it(
    tmp_path: pathlib.Path, cut: object, survives: bool
) -> None:
    assert callable(cut)
    async with runtime.StandInRuntime(str(tmp_path / "s"), MODERN) as stand_in:
        plugin = await raw.RawPlugin.active(stand_in.socket_path, mask=CREATE)
        await stand_in.plugins.wait_for(1)
        pod = await stand_in.run_pod(POD)
        creating = asyncio.create_task(stand_in.create_container(pod, CONTAINER))
        call = await plugin.call("CreateContainer")
        plugin.send_frames(cut(plugin.message(call, adjustment("1," * 5000 + "1"))))
        container = await creating
        cpus = stand_in.containers[container].message.linux.resources.cpu.cpus
        assert len(cpus) == (10_001 if survives else 0)
        assert bool(stand_in.plugins.active) == survives
        plugin.close()


async def test_a_silent_hook_costs_the_plugin_and_the_container_is_made_unadjusted(
    tmp_path: pathlib.Path,
) -> None:
    profile = dataclasses.replace(MODERN, request_timeout=0.05)
    async with runtime.StandInRuntime(str(tmp_path / "s"), profile) as stand_in:
        plugin = await raw.RawPlugin.active(stand_in.socket_path, mask=CREATE)
        await stand_in.plugins.wait_for(1)
        container = await stand_in.create_container(await stand_in.run_pod(POD), CONTAINER)
        assert stand_in.containers[container].message.linux.resources.cpu.cpus == ""
        assert stand_in.plugins.dropped == ["10-raw: CreateContainer: context deadline exceeded"]
        await plugin.eof()
        plugin.close()


@pytest.mark.parametrize("code", [2, 4, 9])
async def test_a_status_fails_the_request_and_never_the_plugin(tmp_path: pathlib.Path, code: int) -> None:
    async with runtime.StandInRuntime(str(tmp_path / "s"), MODERN) as stand_in:
        plugin = await raw.RawPlugin.active(stand_in.socket_path, mask=CREATE)
        await stand_in.plugins.wait_for(1)
        creating = asyncio.create_task(stand_in.create_container(await stand_in.run_pod(POD), CONTAINER))
        plugin.fail(await plugin.call("CreateContainer"), envelope.Code(code))
        with pytest.raises(runtime_plugins.RequestFailedError, match=r"desc = no$"):
            await creating
        assert len(stand_in.plugins.active) == 1
        plugin.close()


@pytest.mark.parametrize(
    ("name", "mask", "why"),
    [
        pytest.param("containerd-2.1.9", 0x800, "invalid plugin events: 0x800", id="0.8-with-a-newer-bit"),
        pytest.param("containerd-2.2.0", 0x8000, "invalid plugin events: 0x8000", id="0.10-with-nonsense"),
    ],
)
async def test_an_unknown_event_bit_ends_the_connection(
    tmp_path: pathlib.Path, name: str, mask: int, why: str
) -> None:
    async with runtime.StandInRuntime(str(tmp_path / "s"), PROFILES[name]) as stand_in:
        plugin = await raw.RawPlugin.registered(stand_in.socket_path, mask=mask)
        await plugin.eof()
        assert stand_in.plugins.dropped == [why]
        plugin.close()


async def test_no_event_bit_means_all_of_them(tmp_path: pathlib.Path) -> None:
    async with runtime.StandInRuntime(str(tmp_path / "s"), MODERN) as stand_in:
        plugin = await raw.RawPlugin.active(stand_in.socket_path, mask=0)
        await stand_in.plugins.wait_for(1)
        assert stand_in.plugins.active[0].events == 0x7FF
        plugin.close()


async def test_an_event_of_its_own_falls_back_to_state_change_for_good(tmp_path: pathlib.Path) -> None:
    async with runtime.StandInRuntime(str(tmp_path / "s"), PROFILES["containerd-2.3.4"]) as stand_in:
        plugin = await raw.RawPlugin.active(stand_in.socket_path, mask=1)
        await stand_in.plugins.wait_for(1)
        running = asyncio.create_task(stand_in.run_pod(POD))
        plugin.fail(await plugin.call("RunPodSandbox"), envelope.Code.UNIMPLEMENTED)
        plugin.reply(await plugin.call("StateChange"), b"")
        await running
        again = asyncio.create_task(stand_in.run_pod(POD))
        plugin.reply(await plugin.call("StateChange"), b"")
        await again
        plugin.close()


async def test_a_part_of_synchronize_must_be_answered_with_more(tmp_path: pathlib.Path) -> None:
    profile = dataclasses.replace(MODERN, split_above=100)
    async with runtime.StandInRuntime(str(tmp_path / "s"), profile) as stand_in:
        await stand_in.run_pod(POD)
        plugin = await raw.RawPlugin.active(stand_in.socket_path)
        await plugin.eof()
        assert stand_in.plugins.dropped == ["plugin does not handle split sync requests"]
        plugin.close()


@pytest.mark.parametrize(
    ("name", "closes"),
    [pytest.param("containerd-1.7.24", False, id="0.6.1"), pytest.param("containerd-2.1.9", True, id="0.8")],
)
async def test_an_unanswered_synchronize_makes_a_zombie_up_to_0_6_1(
    tmp_path: pathlib.Path, name: str, closes: bool
) -> None:
    profile = dataclasses.replace(PROFILES[name], request_timeout=0.05)
    async with runtime.StandInRuntime(str(tmp_path / "s"), profile) as stand_in:
        plugin = await raw.RawPlugin.registered(stand_in.socket_path)
        await plugin.call("Synchronize")
        await recorder.until(lambda: bool(stand_in.plugins.dropped))
        assert stand_in.plugins.active == []
        if closes:
            await plugin.eof()
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await plugin.eof()
        plugin.close()


async def test_the_cgroup_is_there_from_before_the_start_hook_until_before_the_stop_hook(
    tmp_path: pathlib.Path,
) -> None:
    cgroups = recorder.Cgroups()
    heard = recorder.Recorder()
    heard.on_any = cgroups.diary.append
    for name in ("containerd-2.1.9", "cri-o-1.36"):
        async with (
            runtime.StandInRuntime(str(tmp_path / "s"), PROFILES[name], cgroups) as stand_in,
            recorder.serving(stand_in, heard),
        ):
            pod = await stand_in.run_pod(POD)
            cgroups.diary.clear()
            container = await stand_in.create_container(pod, CONTAINER)
            made_early = len(cgroups.diary) == 2
            await stand_in.start_container(container)
            await stand_in.exit_container(container)
            await stand_in.exit_container(container)
            await stand_in.remove_pod(pod)
        assert made_early == (name == "cri-o-1.36")
        what = [line.split()[0] for line in cgroups.diary]
        assert what[:5] == ["create", "create", "start", "remove", "stopped"]
        assert what.count("stopped") == 1
        assert what[-3:-1] == ["removed", "pod_removed"]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param([b"\0\0\0\2\0\0\0\1\2\0hi"], b"\0\0\0\2\0\0\0\1\2\0hi", id="whole"),
        pytest.param([b"\0\0\0\2", b"\0\0\0\1\2\0h", b"i"], b"\0\0\0\2\0\0\0\1\2\0hi", id="pieces"),
        pytest.param([b"\0\0\0\0\0\0\0\1\2\0" * 2], b"\0\0\0\0\0\0\0\1\2\0" * 2, id="two-in-one"),
        pytest.param([b"\0\0\0\2\0\0\0\1\2\0h"], b"", id="incomplete"),
    ],
)
def test_the_go_reader_reads_messages(frames: list[bytes], expected: bytes) -> None:
    reader = runtime_wire.GoReader()
    for frame in frames:
        reader.queue(frame)
    assert reader.read() == expected


@pytest.mark.parametrize(
    ("limit", "request_", "expected"),
    [
        pytest.param(2000, 2000, (2048, 200_000, 100_000), id="guaranteed"),
        pytest.param(2000, None, (2048, 200_000, 100_000), id="limit-only"),
        pytest.param(None, 250, (256, 0, 100_000), id="request-only"),
        pytest.param(None, None, (2, 0, 100_000), id="besteffort"),
        pytest.param(300_000, 300_000, (262_144, 30_000_000, 100_000), id="above-256-cpus"),
        pytest.param(1, 1, (2, 1000, 100_000), id="smallest"),
    ],
)
def test_kubelet_asks_for_these_limits(
    limit: int | None, request_: int | None, expected: tuple[int, int, int]
) -> None:
    cpu = runtime_pods.cpu_message(runtime_pods.ContainerSpec(name="c", limit=limit, request=request_))
    assert (cpu.shares.value, cpu.quota.value, cpu.period.value) == expected


async def test_a_plugin_that_registers_late_is_closed(tmp_path: pathlib.Path) -> None:
    profile = dataclasses.replace(MODERN, registration_timeout=0.05)
    async with runtime.StandInRuntime(str(tmp_path / "s"), profile) as stand_in:
        plugin = await raw.RawPlugin.connect(stand_in.socket_path)
        await plugin.eof()
        assert stand_in.plugins.dropped == ["plugin registration timed out"]
        plugin.close()


async def test_a_plugin_that_hangs_up_is_forgotten_at_the_next_request(tmp_path: pathlib.Path) -> None:
    async with runtime.StandInRuntime(str(tmp_path / "s"), MODERN) as stand_in:
        plugin = await raw.RawPlugin.active(stand_in.socket_path)
        await stand_in.plugins.wait_for(1)
        plugin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stand_in.plugins.active[0].wire.closed.wait(), 1)
        await stand_in.create_container(await stand_in.run_pod(POD), CONTAINER)
        assert stand_in.plugins.active == []
