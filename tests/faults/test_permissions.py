"""What may not be written or read is told with its file and what to do; nobody starts on CPUs of others."""

# covers: PRD-11.5

from __future__ import annotations

import os
import pathlib

import pytest

from reconciler import errors
from reconciler.cpu import topology as topologies
from reconciler.host import cgroupmount
from reconciler.sim import runtime_plugins
from tests.daemon import process
from tests.faults import confined, ground

READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"'


def test_a_mount_that_may_be_written_is_no_complaint(tmp_path: pathlib.Path) -> None:
    cgroupmount.check_writable(str(tmp_path))
    with pytest.raises(errors.HostFileError, match="read-only here; mount it read-write"):
        cgroupmount.check_writable(_read_only())


def _read_only() -> str:
    """A mount of this machine that is read-only; skips where there is none."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, path, _, options, *_ = line.split()
            if "ro" in options.split(",") and os.path.isdir(path):
                return path
    pytest.skip("nothing is mounted read-only here")


async def test_a_read_only_cgroup_mount_is_told_at_the_start_and_keeps_who_needs_a_write_from_starting() -> (
    None
):
    async with ground.machine() as its:
        agent = ground.Agent(its, before=confined.mounting(READ_ONLY, its.cgroups))
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            limited = await agent.told("host.limited")
            assert "the cgroup2 mount is read-only here; mount it read-write (errno 30)" in limited["reason"]
            shared = await ground.run(its, ground.WEB, ground.SHARED)
            with pytest.raises(runtime_plugins.RequestFailedError, match="still used by default/web"):
                await ground.run(its, ground.DB)
            told = await agent.told("placement.failed")
            assert told["pod"] == "web"
            assert "the cgroup2 mount is read-only here" in told["reason"]
            assert its.cpus(shared) == "0-7"
            confined.inside(agent.pid, "mount", "-o", "remount,rw,bind", its.cgroups)
            own = await ground.until_started(its)
            assert (its.cpus(own), its.cpus(shared)) == ("2-3", "0-1,4-7")
            await agent.status(lambda status: status["converged"])
            assert its.runtime.plugins.dropped == []
            assert await agent.stop() == 0


@pytest.mark.parametrize("mode", [0o444, 0o000], ids=["not to be written", "not to be read"])
async def test_a_file_that_may_not_be_used_is_named_and_costs_its_container_only(mode: int) -> None:
    async with ground.machine() as its:
        agent = ground.Agent(its, before=confined.unprivileged())
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            shared = await ground.run(its, ground.WEB, ground.SHARED)
            other = await ground.run(its, ground.WEB, ground.SHARED)
            await agent.status(lambda status: status["converged"])
            file = pathlib.Path(its.cgroups, str(its.runtime.containers[shared].cgroup), "cpuset.cpus")
            file.chmod(mode)
            with pytest.raises(runtime_plugins.RequestFailedError, match="still used by default/web"):
                await ground.run(its, ground.DB)
            told = await agent.told("placement.failed")
            assert told["id"] == shared
            assert str(its.runtime.containers[shared].cgroup) in told["reason"]
            assert "not permitted (errno 13)" in told["reason"]
            assert (its.cpus(other), mode or its.cpus(shared)) == ("0-1,4-7", mode or "0-7")
            file.chmod(0o644)
            own = await ground.until_started(its)
            assert (its.cpus(own), its.cpus(shared)) == ("2-3", "0-1,4-7")
            assert await agent.stop() == 0


async def test_a_sysfs_that_may_not_be_read_any_more_keeps_the_topology_and_is_told_once() -> None:
    async with ground.machine() as its:
        agent = ground.Agent(its, before=confined.unprivileged())
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            file = pathlib.Path(its.root, topologies.ISOLATED)
            file.chmod(0)
            told = await agent.told("topology.unreadable")
            assert f"{file}: Permission denied" in told["reason"]
            own = await ground.run(its, ground.DB)
            assert its.cpus(own) == "2-3"
            file.chmod(0o644)
            assert await agent.stop() == 0
        assert len(agent.records("topology.unreadable")) == 1


async def test_a_sysfs_that_may_not_be_read_at_the_start_ends_it_with_one_sentence() -> None:
    async with ground.machine() as its:
        file = pathlib.Path(its.root, topologies.ONLINE)
        file.chmod(0)
        agent = ground.Agent(its, before=confined.unprivileged())
        async with process.running(agent):
            assert await agent.ended() == 1
        [line] = agent.said().splitlines()
        assert line.startswith(f"cpuset-reconciler: read {file}: Permission denied")


async def test_a_socket_of_the_runtime_that_may_not_be_used_is_told_and_tried_again() -> None:
    async with ground.machine() as its:
        socket = pathlib.Path(its.runtime.socket_path)
        socket.chmod(0)
        agent = ground.Agent(its, before=confined.unprivileged())
        async with process.running(agent):
            told = await agent.told("nri.retry")
            assert f"connecting to {socket}: Permission denied; next attempt in " in told["reason"]
            socket.chmod(0o600)
            await its.runtime.plugins.wait_for(1)
            assert its.cpus(await ground.run(its, ground.DB)) == "2-3"
            assert await agent.stop() == 0
