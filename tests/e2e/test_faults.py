"""Faults of the host on a real kernel, under systemd: told, and over when they are over."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from reconciler import errors
from reconciler.daemon import options
from tests.e2e import agent as agents
from tests.e2e import node, place, pods, settle

STATE = options.STATE_DIR
FILLER = pathlib.Path(STATE, "filler")
INSTANCES = pathlib.Path("/proc/sys/fs/inotify/max_user_instances")
DESCRIPTORS = 40
"""What the agent may have in one test: some twenty of its own, and half of them for cgroups."""


@contextlib.contextmanager
def mounted(*arguments: str) -> Iterator[None]:
    """A mount over the state directory."""
    os.makedirs(STATE, exist_ok=True)
    subprocess.run(["mount", *arguments, STATE], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", STATE], check=True)


@contextlib.contextmanager
def without_inotify() -> Iterator[None]:
    """No new inotify instance can be had on the node; those that are there stay."""
    before = INSTANCES.read_text()
    INSTANCES.write_text("0")
    try:
        yield
    finally:
        INSTANCES.write_text(before)


class Full(agents.Agent):
    """One whose state directory has no room when it starts."""

    def launch(self) -> None:
        """As `Agent.launch`."""
        with contextlib.suppress(OSError), FILLER.open("wb") as filler:
            while True:
                filler.write(bytes(4096))
                filler.flush()
        super().launch()


@contextlib.asynccontextmanager
async def exclusive(machine: node.Node, agent: agents.Agent) -> AsyncIterator[node.Pod]:
    """A pod with two CPUs of its own, in order, whatever else is not."""
    pod = await machine.run_pod(pods.guaranteed("db"))
    id_ = await machine.run(pod, pods.WHOLE_TWO)
    await settle.settle(machine, agent)
    before = machine.cgroup(pod, id_).cpus
    yield pod
    await settle.settle(machine, agent)
    assert machine.cgroup(pod, id_).cpus == before


async def test_a_full_state_directory_is_told_and_saved_to_when_there_is_room(
    machine: node.Node, request: pytest.FixtureRequest
) -> None:
    with mounted("-t", "tmpfs", "-o", "size=64k", "none"):
        async with (
            agents.running(Full(), machine, request.node.name) as agent,
            exclusive(machine, agent),
        ):
            told = await agent.until_logged("checkpoint.failed")
            assert "No space left on device (errno 28)" in told["reason"]
            assert (await agent.status())["checkpoint"]["saved"] is False
            FILLER.unlink()
            await agent.until_logged("checkpoint.saved")


async def test_a_state_directory_that_becomes_read_only_is_told_and_saved_to_when_it_is_not(
    machine: node.Node, request: pytest.FixtureRequest
) -> None:
    async with agents.running(agents.Agent(), machine, request.node.name) as agent:
        with mounted("--bind", "-o", "ro", STATE):
            async with exclusive(machine, agent):
                told = await agent.until_logged("checkpoint.failed")
                assert "Read-only file system (errno 30)" in told["reason"]
        await agent.until_logged("checkpoint.saved")


@place.needs_nri
async def test_behind_a_read_only_cgroup_mount_nobody_starts_who_needs_a_write(
    machine: node.Node, request: pytest.FixtureRequest
) -> None:
    blind = agents.Agent(properties=["ProtectControlGroups=yes"])
    async with agents.running(blind, machine, request.node.name) as agent:
        limited = await agent.until_logged("host.limited")
        assert "the cgroup2 mount is read-only here; mount it read-write (errno 30)" in limited["reason"]
        web = await machine.run_pod(pods.shared("web"))
        await machine.run(web, pods.SHARED)
        db = await machine.run_pod(pods.guaranteed("db"))
        with pytest.raises(errors.ReconcilerError, match=r"still used by .*default/web"):
            await machine.run(db, pods.WHOLE_TWO)
        assert "read-only here" in (await agent.until_logged("placement.failed", pod="web"))["reason"]
        agent.stop()
        agent.properties = ()
        await agent.start()
        await machine.run(db, pods.WHOLE_TWO)
        await settle.settle(machine, agent)


async def test_more_containers_than_descriptors_are_served(
    machine: node.Node, request: pytest.FixtureRequest
) -> None:
    few = agents.Agent(properties=[f"LimitNOFILE={DESCRIPTORS}"])
    async with agents.running(few, machine, request.node.name) as agent:
        web = await machine.run_pod(pods.shared("web"))
        for number in range(DESCRIPTORS // 2):
            await machine.run(web, dataclasses.replace(pods.SHARED, name=f"c{number}"))
        async with exclusive(machine, agent):
            document = await settle.settle(machine, agent)
            assert {entry["state"] for entry in document["containers"]} == {"in-sync"}
        assert agent.records("placement.failed") == []
        assert agent.records("checkpoint.failed") == []


@pytest.mark.parametrize("config", [{"passIntervalSeconds": 5}], ids=["passes"])
async def test_inotify_is_taken_up_when_there_is_an_instance_again(
    machine: node.Node, request: pytest.FixtureRequest, config: dict[str, object]
) -> None:
    made = agents.Agent(config)
    made.forget()
    with without_inotify():
        await made.start()
    try:
        limited = await made.until_logged("host.limited")
        assert "raise fs.inotify.max_user_instances" in limited["reason"]
        await made.until_logged("host.recovered")
        async with exclusive(machine, made) as pod:
            id_ = pod.containers["main"][0]
            machine.cgroup(pod, id_).write_as_shell("cpuset.cpus", "0-7")
            assert (await made.until_logged("drift.found", id=id_))["found_by"] == "inotify"
            await made.until_logged("drift.repaired", id=id_)
    finally:
        await machine.clear()
        made.stop()
        made.keep_log(request.node.name)
