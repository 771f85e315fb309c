"""What is uninstalled leaves no list behind in systemd."""

from __future__ import annotations

import os
import pathlib

import pytest

from reconciler import inventory
from reconciler.cli import unit_restoring
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import slicing
from reconciler.host import sysfs
from reconciler.sim import kernel, machine
from tests.systemd import stand_in

# covers: PRD-7.19


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize("error", ["", "Interactive authentication required."])
async def test_restore_tells_systemd_of_the_slices_that_were_confined_and_no_others(
    tmp_path: pathlib.Path, error: str, dry: bool
) -> None:
    root = str(tmp_path / "host")
    machine.write(root, machine.vm())
    os.makedirs(f"{root}/sys/fs/cgroup", exist_ok=True)
    host = kernel.SimulatedCgroupfs(f"{root}/sys/fs/cgroup", sysfs.topology(root))
    pool = CpuSet((0, 1))
    async with stand_in.serving(root, host) as systemd:
        for name in ("system.slice", "user.slice"):
            host.make(name, "0-1", "")
            systemd.units[name] = stand_in.Unit(name, cpus=pool)
        (tmp_path / "host-slices").write_text("gone.slice\nsystem.slice\n")
        systemd.error = error
        confined = slicing.remembered(str(tmp_path / "host-slices"))
        wanted = unit_restoring.units(inventory.Inventory(), {}, confined)
        told = await unit_restoring.tell(root, wanted, dry=dry)
        is_told = not dry and not error
        assert systemd.units["system.slice"].cpus == (CpuSet() if is_told else pool)
        assert systemd.units["user.slice"].cpus == pool
    failed = [its.failed for its in told if its.failed]
    assert all(error in text for text in failed)
    assert bool(failed) == bool(error)
    host.close()
