"""What is said to systemd arrives as it is meant, and what it answers is understood."""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections.abc import AsyncIterator

import pytest

from reconciler import errors
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.host import sysfs, systemd
from reconciler.sim import kernel
from reconciler.sim import machine as machines
from tests.systemd import stand_in

# covers: PRD-7.11

SCOPE = "cri-containerd-0a1b.scope"
PATH = f"kubepods.slice/kubepods-pod1.slice/{SCOPE}"


@pytest.fixture
async def its(tmp_path: pathlib.Path) -> AsyncIterator[stand_in.Systemd]:
    """A systemd below `tmp_path` that has one unit."""
    machines.write(str(tmp_path), machines.vm())
    host = kernel.SimulatedCgroupfs(str(tmp_path / "sys/fs/cgroup"), sysfs.topology(str(tmp_path)))
    host.make(PATH, "0-7", "")
    async with stand_in.serving(str(tmp_path), host) as made:
        made.units[SCOPE] = stand_in.Unit(PATH)
        yield made
    host.close()


def cpuset(its: stand_in.Systemd, file: str = "cpuset.cpus") -> str:
    """What a file of the unit's cgroup says."""
    return pathlib.Path(its.host.root, PATH, file).read_text().strip()


@pytest.mark.parametrize(
    ("cpus", "wire"),
    [("", b""), ("0", b"\x01"), ("0,2-3", b"\x0d"), ("8", b"\x00\x01"), ("8191", b"\0" * 1023 + b"\x80")],
)
def test_a_set_is_a_bit_mask_with_the_lowest_byte_first(cpus: str, wire: bytes) -> None:
    assert systemd.mask(CpuSet.parse(cpus, what="cpus")) == wire


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (PATH, SCOPE),
        ("system.slice", "system.slice"),
        ("system.slice/containerd.service", "containerd.service"),
        ("kubepods/pod1/0a1b", None),
        ("", None),
        (None, None),
    ],
)
def test_a_cgroup_is_a_unit_by_its_name(cgroup: str | None, unit: str | None) -> None:
    assert systemd.unit(cgroup) == unit


async def test_what_is_set_is_had_and_stays_through_a_daemon_reload(
    its: stand_in.Systemd, tmp_path: pathlib.Path
) -> None:
    async with systemd.connected(str(tmp_path)) as bus:
        assert await bus.allowed(SCOPE) == systemd.Allowed(cpus=CpuSet(), mems=NodeSet())
        await bus.allow(SCOPE, CpuSet([2, 3]), NodeSet([1]))
        assert await bus.allowed(SCOPE) == systemd.Allowed(cpus=CpuSet([2, 3]), mems=NodeSet([1]))
    assert (cpuset(its), cpuset(its, "cpuset.mems")) == ("2-3", "1")
    its.daemon_reload()
    assert (cpuset(its), cpuset(its, "cpuset.mems")) == ("2-3", "1")


async def test_memory_that_is_left_alone_is_not_set(its: stand_in.Systemd, tmp_path: pathlib.Path) -> None:
    its.units[SCOPE].mems = NodeSet([0])
    async with systemd.connected(str(tmp_path)) as bus:
        await bus.allow(SCOPE, CpuSet([2]), None)
    assert its.units[SCOPE].mems == NodeSet([0])


async def test_a_unit_that_is_gone_is_gone(its: stand_in.Systemd, tmp_path: pathlib.Path) -> None:
    async with systemd.connected(str(tmp_path)) as bus:
        with pytest.raises(errors.Gone):
            await bus.allow("other.scope", CpuSet([2]), None)
        with pytest.raises(errors.Gone):
            await bus.allowed("other.scope")


async def test_what_is_refused_is_said_in_systemds_words(
    its: stand_in.Systemd, tmp_path: pathlib.Path
) -> None:
    its.error = "Interactive authentication required."
    async with systemd.connected(str(tmp_path)) as bus:
        with pytest.raises(errors.Refused, match="SetUnitProperties: Interactive authentication required"):
            await bus.allow(SCOPE, CpuSet([2]), None)


async def test_a_bus_that_does_not_answer_may_do_so_later(
    its: stand_in.Systemd, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "CALL_SECONDS", 0.05)
    its.released.clear()
    with pytest.raises(errors.Retryable):
        async with systemd.connected(str(tmp_path)):
            pytest.fail("it has not even said hello")


async def test_a_bus_that_ends_in_the_middle_may_be_there_again_later(tmp_path: pathlib.Path) -> None:
    path = tmp_path / systemd.SOCKET
    path.parent.mkdir(parents=True)

    async def end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(end, str(path)):
        with pytest.raises(errors.Retryable):
            async with systemd.connected(str(tmp_path)):
                pytest.fail("there is nobody")
    os.unlink(path)
    with pytest.raises(errors.Retryable):
        async with systemd.connected(str(tmp_path)):
            pytest.fail("there is nobody")


async def test_it_is_there_where_a_socket_is(its: stand_in.Systemd, tmp_path: pathlib.Path) -> None:
    assert systemd.is_there(str(tmp_path))
    assert not systemd.is_there(str(tmp_path / "sys"))
