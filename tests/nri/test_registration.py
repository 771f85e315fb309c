"""How the plugin gets to be called: registration, Configure, Synchronize, and each way in which they fail."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib

import pytest

from reconciler import events
from reconciler.runtime.nri import dial, levels, session
from reconciler.sim import runtime, runtime_pods, runtime_profile
from reconciler.sim.runtime_profile import PROFILES
from tests.nri import recorder

CONTAINER = runtime_pods.ContainerSpec(name="main", request=100)
MODERN = PROFILES["containerd-2.1.9"]
OLD = PROFILES["containerd-1.7.24"]


def pod(number: int, note: str = "") -> runtime_pods.PodSpec:
    return runtime_pods.PodSpec(name=f"pod-{number}", uid=f"uid-{number}", annotations={"weka.io/note": note})


async def run_containers(stand_in: runtime.StandInRuntime, count: int, note: str = "") -> None:
    for number in range(count):
        container = await stand_in.create_container(await stand_in.run_pod(pod(number, note)), CONTAINER)
        await stand_in.start_container(container)


async def test_the_peer_is_known_by_what_it_says_or_by_its_release(tmp_path: pathlib.Path) -> None:
    found = {}
    for name, profile in PROFILES.items():
        heard = recorder.Recorder()
        async with (
            runtime.StandInRuntime(str(tmp_path / "s"), profile) as stand_in,
            recorder.serving(stand_in, heard),
        ):
            [peer] = heard.peers
            found[name] = str(peer.level)
            assert (peer.request_timeout, peer.registration_timeout) == (2.0, 5.0)
            assert heard.synchronized_by == peer
    assert found == {
        "containerd-1.7.0": "0.3.0",
        "containerd-1.7.24": "0.6.1",
        "containerd-2.1.9": "0.8.0",
        "containerd-2.2.0": "0.10.0",
        "containerd-2.2.7": "0.11.0",
        "containerd-2.3.4": "0.12.0",
        "containerd-2.4.0": "0.12.2",
        "cri-o-1.32": "0.9.0",
        "cri-o-1.36": "0.11.0",
    }


@pytest.mark.parametrize("profile", [MODERN, OLD], ids=["split", "whole"])
async def test_everything_that_runs_is_told_in_one_event_however_it_comes(
    tmp_path: pathlib.Path, profile: runtime_profile.Profile
) -> None:
    heard = recorder.Recorder()
    profile = dataclasses.replace(profile, split_above=20_000)
    async with runtime.StandInRuntime(str(tmp_path / "s"), profile) as stand_in:
        await run_containers(stand_in, 40, "x" * 1000)
        stopped = next(iter(stand_in.containers))
        await stand_in.stop_container(stopped)
        async with recorder.serving(stand_in, heard):
            assert heard.heard == ["connected", "synchronized"]
    [seen] = heard.seen
    assert isinstance(seen, events.Synchronized)
    assert {pod.sandbox for pod in seen.pods} == set(stand_in.pods)
    assert {container.id for container in seen.containers} == set(stand_in.containers) - {stopped}
    assert {container.phase for container in seen.containers} == {events.Phase.RUNNING}


async def test_a_synchronize_above_the_nominal_limit_of_ttrpc_is_taken(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()
    async with runtime.StandInRuntime(str(tmp_path / "s"), OLD) as stand_in:
        await run_containers(stand_in, 60, "x" * 100_000)
        async with recorder.serving(stand_in, heard):
            pass
    [seen] = heard.seen
    assert isinstance(seen, events.Synchronized)
    assert len(seen.pods) == 60


async def test_the_work_of_synchronize_comes_after_its_answer_and_before_any_event(
    tmp_path: pathlib.Path,
) -> None:
    heard = recorder.Recorder()
    profile = dataclasses.replace(MODERN, request_timeout=0.2)

    def slow(what: str) -> None:
        if what == "synchronized":
            begin = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < begin + 0.15:
                pass

    heard.on_any = slow
    async with (
        runtime.StandInRuntime(str(tmp_path / "s"), profile) as stand_in,
        recorder.serving(stand_in, heard),
    ):
        await run_containers(stand_in, 1)
    assert heard.heard[:4] == ["connected", "synchronized", "pod_started", "create"]


async def test_a_stopped_runtime_is_survived_and_found_again(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()
    async with (
        runtime.StandInRuntime(str(tmp_path / "s"), MODERN) as stand_in,
        recorder.serving(stand_in, heard),
    ):
        await run_containers(stand_in, 3)
        await stand_in.restart()
        await stand_in.plugins.wait_for(1)
        await recorder.until(lambda: heard.heard[-1] == "synchronized")
        assert "disconnected: the runtime closed the connection" in heard.heard
        seen = heard.seen[-1]
        assert isinstance(seen, events.Synchronized)
        assert len(seen.containers) == 3


async def test_a_mask_that_is_not_liked_is_narrowed_for_this_runtime_and_remembered(
    tmp_path: pathlib.Path,
) -> None:
    class Picky(runtime_profile.Profile):
        """Knows nothing of pods."""

        @property
        def valid_events(self) -> int:
            return levels.FEWER_EVENTS

    heard = recorder.Recorder()
    profile = Picky(runtime="containerd", version="v2.1.9", nri=levels.Level(0, 8, 0))
    async with (
        runtime.StandInRuntime(str(tmp_path / "s"), profile) as stand_in,
        recorder.serving(stand_in, heard),
    ):
        assert stand_in.plugins.dropped == ["invalid plugin events: 0x7"]
        assert [peer.events for peer in heard.peers] == [levels.EVENTS, levels.FEWER_EVENTS]
        await stand_in.restart()
        await stand_in.plugins.wait_for(1)
        assert heard.peers[-1].events == levels.FEWER_EVENTS
        assert len(heard.of("nri.mask-narrowed")) == 1


async def test_a_refused_name_ends_the_connection_from_our_side(tmp_path: pathlib.Path) -> None:
    """The runtime leaves the socket open and never speaks again."""
    heard = recorder.Recorder()
    odd = session.Identity("test", "9")
    async with (
        runtime.StandInRuntime(str(tmp_path / "s"), MODERN) as stand_in,
        recorder.serving(stand_in, heard, identity=odd, active=False),
    ):
        await recorder.until(lambda: len(heard.of("nri.retry")) > 1)
    why = 'the runtime refused the registration: invalid plugin index: "9"'
    assert heard.of("nri.retry")[0].text.startswith(why)
    assert heard.heard == []


async def test_a_silent_plugin_before_us_delays_but_does_not_lose_us(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()
    profile = dataclasses.replace(MODERN, registration_timeout=0.1)
    async with runtime.StandInRuntime(str(tmp_path / "s"), profile) as stand_in:
        silent = await dial.UnixDial(stand_in.socket_path).connect()
        async with recorder.serving(stand_in, heard):
            assert stand_in.plugins.dropped == ["plugin registration timed out"]
            assert len(heard.peers) == 1
        silent.close()


async def test_a_connection_stays_while_the_runtime_waits_for_a_long_stop(tmp_path: pathlib.Path) -> None:
    """containerd registers nobody while a request is in flight, a container's grace included."""
    heard = recorder.Recorder()
    async with runtime.StandInRuntime(str(tmp_path / "s"), MODERN) as stand_in:
        await run_containers(stand_in, 1)
        [container] = stand_in.containers
        stopping = asyncio.create_task(stand_in.stop_container(container, grace=0.2))
        async with recorder.serving(stand_in, heard, active=False):
            await recorder.until(lambda: heard.heard == ["connected"])
            creating = asyncio.create_task(stand_in.run_pod(pod(7)))
            await asyncio.sleep(0.05)
            assert heard.heard == ["connected"]
            assert not creating.done()
            await stopping
            await creating
            assert heard.heard == ["connected", "synchronized", "pod_started"]
