"""The agent as a process that the runtime starts, with exactly what a runtime gives to its plugins."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler import events
from reconciler.daemon import api
from reconciler.runtime.nri import instance
from reconciler.sim import runtime, runtime_launching, runtime_pods
from reconciler.sim.runtime_profile import PROFILES
from tests.daemon import process

# covers: PRD-8.12
SOURCE = pathlib.Path(__file__).resolve().parents[2]
WHOLE = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)
POD = runtime_pods.PodSpec(name="db", uid="0b3c5a1e-0000-4000-8000-000000000001", qos=events.Qos.GUARANTEED)
PROGRAM = """#!{python} -Werror
import os, sys
sys.path.insert(0, {source!r})
from reconciler.cli import launched, main
from reconciler.daemon import options
from reconciler.host import journal
defaults = options.Options(
    host_root={folder!r} + "/host",
    state_dir={folder!r} + "/state",
    api_socket={folder!r} + "/run/api.sock",
    simulated=True,
)
to = journal.Journal(launched.IDENTIFIER, journal={folder!r} + "/journal", syslog="/nowhere")
config = {folder!r} + "/config.yaml"
sys.exit(main.exit_code(lambda: launched.run(os.environ, defaults, config=config, to=to)))
"""
"""The program, with other defaults: a directory that stands for a machine."""


class Journal:
    """Takes what is sent to the journal's socket."""

    def __init__(self, path: str) -> None:
        self._records: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(path)
        asyncio.get_running_loop().add_reader(self._socket, self._take)

    def records(self, *names: str) -> list[dict[str, Any]]:
        """The records so far, of these names."""
        self._take()
        return [record for record in self._records if record["event"] in names]

    async def told(self, name: str, count: int = 1) -> dict[str, Any]:
        """The latest record of that name, once there are so many."""
        await process.until(lambda: len(self.records(name)) >= count)
        return self.records(name)[-1]

    def close(self) -> None:
        """Give the socket back."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                _, _, text = self._socket.recv(1 << 16).partition(b"MESSAGE\n")
                self._records.append(json.loads(text[8:]))


class Node:
    """A machine whose runtime has the agent in its plugin directory."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.machine = process.Machine(folder)
        self.folder = folder
        self.journal = Journal(str(folder / "journal"))
        self.executable = folder / "plugins" / "90-cpuset-reconciler"
        self.executable.parent.mkdir()
        text = PROGRAM.format(python=sys.executable, source=str(SOURCE), folder=str(folder))
        self.executable.write_text(text)
        self.executable.chmod(0o755)
        self._launched: list[runtime_launching.Launched] = []

    async def launch(self, stand_in: runtime.StandInRuntime, config: str = "") -> runtime_launching.Launched:
        """The runtime starts its plugin."""
        launched = await runtime_launching.launch(str(self.executable), stand_in.wire, config)
        self._launched.append(launched)
        return launched

    async def serving(self, stand_in: runtime.StandInRuntime) -> runtime_launching.Launched:
        """The runtime starts its plugin, and waits until it is registered."""
        launched = await self.launch(stand_in)
        async with asyncio.timeout(process.PATIENCE):
            await stand_in.plugins.wait_for(1)
        return launched

    async def status(self) -> dict[str, Any]:
        """The status document of whoever has the socket."""
        return await api.ask(str(self.folder / "run/api.sock"), {"request": "status"})

    async def close(self) -> None:
        """End everything."""
        for launched in self._launched:
            await launched.kill()
        self.journal.close()
        self.machine.kernel.close()


@pytest.fixture
async def node(tmp_path: pathlib.Path) -> AsyncIterator[Node]:
    """A node, of which nothing outlives the test."""
    made = Node(tmp_path)
    try:
        yield made
    finally:
        await made.close()


async def run(stand_in: runtime.StandInRuntime) -> str:
    """A container with two CPUs of its own; its id."""
    id_ = await stand_in.create_container(await stand_in.run_pod(POD), WHOLE)
    await stand_in.start_container(id_)
    return id_


async def ended(launched: runtime_launching.Launched) -> int:
    """The exit code of a process that ends by itself."""
    async with asyncio.timeout(process.PATIENCE):
        return await launched.ended()


async def test_the_first_pod_of_the_node_is_placed(node: Node) -> None:
    async with node.machine.runtime as stand_in:
        await node.serving(stand_in)
        [plugin] = stand_in.plugins.active
        assert plugin.label == "90-cpuset-reconciler"
        id_ = await run(stand_in)
        assert node.machine.cpus(id_) == "2-3"
        status = await node.status()
        assert (status["mode"], status["pools"]["exclusive"]) == ("nri", "2-3")
        assert (await node.journal.told("agent.ready"))["mode"] == "nri"


async def test_it_ends_with_its_connection_and_the_next_one_takes_over_what_runs(node: Node) -> None:
    async with node.machine.runtime as stand_in:
        first = await node.serving(stand_in)
        id_ = await run(stand_in)
        before = node.machine.cpus(id_)
        stand_in.plugins.disconnect("the runtime stops")
        assert await ended(first) == 0
        assert node.journal.records("nri.ended", "agent.stopped")[-1]["event"] == "agent.stopped"
        async with instance.alone(str(node.folder / "state/instance.lock"), within=1):
            pass
        await node.serving(stand_in)
        await node.journal.told("node.adopted", 2)
        assert node.machine.cpus(id_) == before
        assert (await node.status())["pools"]["exclusive"] == before


async def test_one_that_the_runtime_kills_leaves_nothing_in_the_way_of_the_next(node: Node) -> None:
    async with node.machine.runtime as stand_in:
        first = await node.serving(stand_in)
        id_ = await run(stand_in)
        before = node.machine.cpus(id_)
        assert await first.kill() == -9
        await process.until(first.wire.closed.is_set)
        stand_in.plugins.disconnect("the runtime stops")
        await node.serving(stand_in)
        await node.journal.told("node.adopted", 2)
        assert node.machine.cpus(id_) == before


async def test_a_service_beside_it_waits_and_takes_over_at_its_end(node: Node) -> None:
    async with node.machine.runtime as stand_in:
        first = await node.serving(stand_in)
        service = process.Agent(node.machine, name="service")
        async with process.running(service):
            await service.told("instance.waits")
            id_ = await run(stand_in)
            assert [plugin.wire for plugin in stand_in.plugins.active] == [first.wire]
            assert service.records("agent.started") == []
            stand_in.plugins.disconnect("the runtime stops")
            await service.told("node.adopted")
            [second] = stand_in.plugins.active
            assert second.wire is not first.wire
            assert node.machine.cpus(id_) == "2-3"
            assert await ended(first) == 0


async def test_beside_one_that_serves_it_gives_up_in_time_and_does_not_register(node: Node) -> None:
    async with node.machine.runtime as stand_in:
        service = process.Agent(node.machine, name="service")
        async with process.running(service):
            await service.told("node.adopted")
            [before] = stand_in.plugins.active
            launched = await node.launch(stand_in)
            assert await ended(launched) == 1
            assert stand_in.plugins.active == [before]
            assert not launched.wire.registration.done() or launched.wire.registration.exception()
    [waits] = node.journal.records("instance.waits")
    assert "another instance holds" in waits["reason"]
    [end] = node.journal.records("agent.ended")
    assert "did not end within 2 s: it serves this node" in end["reason"]


async def test_what_the_runtime_has_as_its_configuration_is_not_read_and_that_is_said(node: Node) -> None:
    async with node.machine.runtime as stand_in:
        await node.launch(stand_in, config="reservedCpus: 0-3\n")
        said = await node.journal.told("nri.config-ignored")
        await stand_in.plugins.wait_for(1)
    assert said["reason"].startswith("the plugin's own file counts")


async def test_its_own_file_is_read(node: Node) -> None:
    node.machine.config.write_text("reservedCpus: 2-3\n")
    async with node.machine.runtime as stand_in:
        await node.serving(stand_in)
        assert node.machine.cpus(await run(stand_in)) == "4-5"


async def test_a_file_that_cannot_be_used_ends_it_with_2_and_the_journal_says_why(node: Node) -> None:
    node.machine.config.write_text("reservedCpus: many\n")
    async with node.machine.runtime as stand_in:
        launched = await node.launch(stand_in)
        assert await ended(launched) == 2
    [end] = node.journal.records("agent.ended")
    assert (end["level"], "reservedCpus" in end["reason"]) == ("error", True)


async def test_a_runtime_that_would_give_it_no_list_is_left_alone(node: Node) -> None:
    old = runtime.StandInRuntime(
        str(node.folder / "old.sock"), PROFILES["containerd-1.7.24"], node.machine.kernel
    )
    async with old as stand_in:
        launched = await node.launch(stand_in)
        assert await ended(launched) == 0
        assert await run(stand_in)
    [end] = node.journal.records("nri.ended")
    assert end["reason"] == "this runtime gives a plugin that it starts itself no list of what runs"


def test_a_link_to_the_installed_program_is_enough(tmp_path: pathlib.Path) -> None:
    """Nothing that it needs is looked for on a PATH. The descriptor is none, so that it ends at once."""
    link = tmp_path / "90-cpuset-reconciler"
    link.symlink_to(os.path.join(sysconfig.get_path("scripts"), "cpuset-reconciler"))
    environment = {
        "NRI_PLUGIN_NAME": "cpuset-reconciler",
        "NRI_PLUGIN_IDX": "90",
        "NRI_PLUGIN_SOCKET": "none",
    }
    error = tmp_path / "error"
    streams = [(os.POSIX_SPAWN_OPEN, 2, str(error), os.O_WRONLY | os.O_CREAT, 0o600)]
    pid = os.posix_spawn(str(link), [str(link)], environment, file_actions=streams)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 2
    assert error.read_text() == (
        "cpuset-reconciler: NRI_PLUGIN_SOCKET=none: the number of a descriptor is expected\n"
    )
