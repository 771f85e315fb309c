"""One instance per host, and the two ways to come by a socket."""

from __future__ import annotations

import asyncio
import errno
import os
import pathlib
import socket

import pytest

from reconciler import errors
from reconciler.runtime.nri import dial, instance, plugin, session
from reconciler.sim import runtime
from reconciler.sim.runtime_profile import PROFILES
from tests.nri import recorder


async def test_a_second_instance_waits_and_does_not_register_beside_the_first(tmp_path: pathlib.Path) -> None:
    lock = str(tmp_path / "lock")
    waiting: list[str] = []
    first, second = recorder.Recorder(), recorder.Recorder()

    async def run(heard: recorder.Recorder) -> None:
        async with instance.alone(lock, on_wait=waiting.append, poll=0.01):
            await plugin.Plugin(
                identity=dial.identity("test", "90"),
                via=dial.UnixDial(str(tmp_path / "s")),
                handler=heard,
                report=heard.notices.append,
            ).run()

    async with runtime.StandInRuntime(str(tmp_path / "s"), PROFILES["containerd-2.1.9"]) as stand_in:
        running = asyncio.create_task(run(first))
        await stand_in.plugins.wait_for(1)
        behind = asyncio.create_task(run(second))
        await asyncio.sleep(0.05)
        assert waiting == [f"another instance holds {lock}; waiting for it to end"]
        assert (first.heard[0], second.heard) == ("connected", [])
        running.cancel()
        await asyncio.wait([running])
        await recorder.until(lambda: second.heard == ["connected", "synchronized"])
        behind.cancel()
        await asyncio.wait([behind])


async def test_one_that_cannot_wait_for_ever_gives_up_and_says_who_is_in_its_way(
    tmp_path: pathlib.Path,
) -> None:
    lock = str(tmp_path / "lock")
    async with instance.alone(lock):
        with pytest.raises(
            errors.Retryable, match=r"another instance holds .*lock and did not end within 0\.05 s"
        ):
            async with instance.alone(lock, poll=0.01, within=0.05):
                pytest.fail("two hold it")
    async with instance.alone(lock, within=0):
        pass


async def test_a_lock_that_cannot_be_made_is_a_usage_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.Usage, match="cannot be opened: No such file or directory"):
        async with instance.alone(str(tmp_path / "nowhere" / "lock")):
            pass


async def test_a_lock_that_can_only_be_read_is_held_as_well(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = str(tmp_path / "lock")
    really = os.open

    def read_only(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return really(path, flags, mode)

    async with instance.alone(lock):
        pass
    monkeypatch.setattr(os, "open", read_only)
    waiting: list[str] = []
    async with instance.alone(lock):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), instance.alone(lock, on_wait=waiting.append, poll=0.01):
                pass
    assert len(waiting) == 1
    os.unlink(lock)
    with pytest.raises(errors.Usage, match="cannot be opened: Read-only file system"):
        async with instance.alone(lock):
            pass


async def test_a_missing_socket_is_worth_another_try(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.Retryable, match="No such file or directory"):
        await dial.UnixDial(str(tmp_path / "s")).connect()


def test_a_plugin_that_the_runtime_started_has_its_name_and_socket_from_the_environment() -> None:
    environment = {"NRI_PLUGIN_NAME": "cpus", "NRI_PLUGIN_IDX": "42", "NRI_PLUGIN_SOCKET": "3"}
    found = dial.inherited(environment)
    assert found is not None
    assert found[0] == session.Identity("cpus", "42")
    assert found[1].once
    found = dial.inherited(environment | {"NRI_PLUGIN_NAME": "42-cpus"})
    assert found is not None
    assert found[0] == session.Identity("cpus", "42")
    assert dial.inherited({}) is None


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"NRI_PLUGIN_SOCKET": "x"}, "the number of a descriptor"),
        ({"NRI_PLUGIN_SOCKET": "3", "NRI_PLUGIN_IDX": "7", "NRI_PLUGIN_NAME": "n"}, "two digits"),
        ({"NRI_PLUGIN_SOCKET": "3", "NRI_PLUGIN_IDX": "07"}, "letters, digits"),
    ],
)
def test_an_odd_environment_is_a_usage_error(environment: dict[str, str], why: str) -> None:
    with pytest.raises(errors.Usage, match=why):
        dial.inherited(environment)


async def test_an_inherited_socket_is_served_until_it_closes() -> None:
    ours, theirs = socket.socketpair()
    heard = recorder.Recorder()
    running = asyncio.create_task(
        plugin.Plugin(
            identity=dial.identity("test", "90"),
            via=dial.InheritedDial(ours.detach()),
            handler=heard,
            report=heard.notices.append,
        ).run()
    )
    theirs.setblocking(False)
    assert b"RegisterPlugin" in await asyncio.get_running_loop().sock_recv(theirs, 4096)
    theirs.close()
    await asyncio.wait_for(running, 5)
    assert [notice.event for notice in heard.notices] == ["nri.ended"]


async def test_an_inherited_descriptor_that_is_no_socket_is_a_usage_error(tmp_path: pathlib.Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(errors.Usage, match=r"NRI_PLUGIN_SOCKET=\d+: "):
        await dial.InheritedDial(descriptor).connect()
    os.close(descriptor)
