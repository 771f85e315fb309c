"""A whole agent and a systemd that writes its units anew: after a while they agree."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator

import pytest

from reconciler import events
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from tests.daemon import node, pods
from tests.systemd import stand_in

# covers: PRD-7.11, PRD-7.16

WEB, DB = pods.pod("web"), pods.guaranteed("db")
SHARED, INTEGER = pods.container(WEB), pods.container(DB, whole=2)
STORAGE = pods.guaranteed("storage", "6-7")
LISTED = pods.container(STORAGE, whole=2)
RIGHT = "0-1,4-7"


class Scene:
    """A node, its systemd, and what of it agrees."""

    def __init__(self, its_node: node.Node, its_systemd: stand_in.Systemd) -> None:
        self.node = its_node
        self.systemd = its_systemd

    def unit(self, container: events.Container) -> stand_in.Unit:
        """The unit of a container."""
        return self.systemd.units[os.path.basename(str(container.cgroup))]

    async def run(self, pod: events.Pod, container: events.Container) -> None:
        """The whole birth of a container, in a unit to which nobody has said anything."""
        await self.node.run(pod, container)
        assert container.cgroup is not None
        self.systemd.units[os.path.basename(container.cgroup)] = stand_in.Unit(container.cgroup)

    async def reload(self) -> None:
        """A daemon-reload, and all that follows from it."""
        self.systemd.daemon_reload()
        await self.right()

    async def right(self) -> None:
        """Everyone is as is wanted."""
        await node.until(lambda: self.node.status()["converged"])
        await self.node.quiet()

    def drifts(self, container: events.Container) -> int:
        """How often a container was found to have drifted, those that were not told included."""
        conflict = self.node.book.fights.conflict(container.id)
        told = [record for record in self.node.records("drift.found") if record["id"] == container.id]
        return max(len(told), 0 if conflict is None else conflict.times)


@contextlib.asynccontextmanager
async def scene(folder: pathlib.Path, agreement: schema.Agreement = "auto") -> AsyncIterator[Scene]:
    """A node with a shared container and one that has CPUs 2-3 for itself."""
    config = schema.Config(agreement=agreement)
    async with (
        node.running(folder, config, watch=True) as made,
        stand_in.serving(made.root, made.host) as systemd,
    ):
        its = Scene(made, systemd)
        await its.run(WEB, SHARED)
        await its.run(DB, INTEGER)
        await its.right()
        serving = asyncio.create_task(made.opposition.units.serve())
        try:
            yield its
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def test_after_two_reloads_systemd_agrees_and_the_third_changes_nothing(tmp_path: pathlib.Path) -> None:
    async with scene(tmp_path) as its:
        await its.reload()
        assert its.unit(SHARED).cpus == its.unit(INTEGER).cpus == CpuSet()
        await its.reload()
        await node.until(lambda: len(its.node.records("agreement.made")) == 2)
        await its.right()
        before = its.node.book.counters.found
        assert before == 4
        await its.reload()
        assert its.node.book.counters.found == before
        assert (its.node.cpus(SHARED), its.node.cpus(INTEGER)) == (RIGHT, "2-3")
        told = {record["pod"]: record for record in its.node.records("agreement.made")}
        assert (told["db"]["owner"], told["db"]["record_before"], told["db"]["cpus"]) == (
            "db-main-1.scope",
            "",
            "2-3",
        )


async def test_when_the_pool_changes_whoever_agreed_is_told_and_nobody_else(tmp_path: pathlib.Path) -> None:
    async with scene(tmp_path) as its:
        for text in ("0-7", "4"):
            its.node.put(SHARED, text)
            await node.until(lambda: its.node.cpus(SHARED) == RIGHT)
            await its.node.quiet()
        await node.until(lambda: str(its.unit(SHARED).cpus) == RIGHT)
        await its.run(STORAGE, LISTED)
        await node.until(lambda: str(its.unit(SHARED).cpus) == "0-1,4-5")
        await its.right()
        before = its.drifts(SHARED)
        await its.reload()
        assert its.drifts(SHARED) == before
        assert its.unit(INTEGER).cpus == its.unit(LISTED).cpus == CpuSet()
        assert its.node.cpus(SHARED) == "0-1,4-5"


async def test_what_systemd_writes_late_is_put_right_and_counts_as_no_drift(tmp_path: pathlib.Path) -> None:
    async with scene(tmp_path) as its:
        its.systemd.released.clear()
        for text in ("0-7", "4"):
            its.node.put(SHARED, text)
            await node.until(lambda: its.node.cpus(SHARED) == RIGHT)
            await its.node.quiet()
        await node.until(lambda: bool(its.node.book.fights.conflict(SHARED.id)))
        its.systemd.released.set()
        await node.until(lambda: ("SetUnitProperties", "web-main-1.scope") in its.systemd.log)
        await its.run(STORAGE, LISTED)
        await node.until(lambda: str(its.unit(SHARED).cpus) == "0-1,4-5")
        await its.right()
        assert its.drifts(SHARED) == 2
        assert its.node.cpus(SHARED) == "0-1,4-5"


@pytest.mark.parametrize("agreement", ["off", "runtime"])
async def test_where_it_is_not_wanted_systemd_is_told_nothing(
    tmp_path: pathlib.Path, agreement: schema.Agreement
) -> None:
    async with scene(tmp_path, agreement) as its:
        for _ in range(3):
            await its.reload()
        assert its.node.book.fights.conflicts()
        assert its.systemd.log == []


async def test_slices_of_the_host_are_told_with_each_change_of_the_pool_and_given_back(
    tmp_path: pathlib.Path,
) -> None:
    config = schema.Config(host_slices=("system.slice",))
    async with (
        node.running(tmp_path, config, watch=True) as made,
        stand_in.serving(made.root, made.host) as systemd,
    ):
        made.host.make("system.slice")
        unit = systemd.units["system.slice"] = stand_in.Unit("system.slice")
        serving = asyncio.create_task(made.opposition.units.serve())
        await made.run(DB, INTEGER)
        await node.until(lambda: str(unit.cpus) == RIGHT)
        await made.run(STORAGE, LISTED)
        await node.until(lambda: str(unit.cpus) == "0-1,4-5")
        await made.quiet()
        systemd.daemon_reload()
        await made.quiet()
        said = pathlib.Path(made.host.root, "system.slice/cpuset.cpus").read_text().strip()
        assert (said, made.records("drift.found")) == ("0-1,4-5", [])
        made.agent.renew(made.topology, schema.Config())
        await made.quiet()
        await node.until(lambda: unit.cpus == CpuSet())
        systemd.daemon_reload()
        await made.quiet()
        assert pathlib.Path(made.host.root, "system.slice/cpuset.cpus").read_text().strip() == ""
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
