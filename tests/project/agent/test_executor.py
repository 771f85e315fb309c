"""A write that fails holds up those that need its CPUs, and no others."""

from __future__ import annotations

import pathlib

from reconciler import errors, events, plan
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import executor
from tests.project.agent import tree

# covers: PRD-4.7


def write(name: str, text: str, phase: plan.Phase, *, needs: str = "", vacates: str = "") -> plan.Write:
    return plan.Write(
        container=events.ContainerId(f"id-{name}"),
        file="cpuset.cpus",
        text=text,
        phase=phase,
        needs=CpuSet.parse(needs, what="needs"),
        vacates=CpuSet.parse(vacates, what="vacates"),
    )


def test_only_writes_that_need_the_cpus_of_a_failed_one_are_held_up(tmp_path: pathlib.Path) -> None:
    with tree.machine_in(tmp_path) as node:
        for name in ("stuck", "needs", "free"):
            node.create(name)
        node.kernel.stuck.add("kubepods.slice/stuck.scope")
        steps = (
            write("stuck", "0-3", plan.Phase.LEAVE, vacates="4-7"),
            write("needs", "4-5", plan.Phase.ADMIT, needs="4-5"),
            write("free", "0-1", plan.Phase.ADMIT, needs="0-1"),
        )
        stuck, needs, free = executor.execute(steps, node.now, node.kernel)
        assert isinstance(stuck.error, errors.HostFileError)
        assert (needs.blocked, needs.error) == (True, None)
        assert not free.failed
        assert node.cpus("needs") == CpuSet(range(8))
        assert node.cpus("free") == CpuSet((0, 1))


def test_a_cgroup_that_has_gone_holds_up_nobody(tmp_path: pathlib.Path) -> None:
    with tree.machine_in(tmp_path) as node:
        for name in ("gone", "needs"):
            node.create(name)
        node.kernel.remove("kubepods.slice/gone.scope")
        steps = (
            write("gone", "0-3", plan.Phase.LEAVE, vacates="4-7"),
            write("needs", "4-5", plan.Phase.ADMIT, needs="4-5"),
            write("unknown", "0", plan.Phase.SETTLE),
        )
        gone, needs, unknown = executor.execute(steps, node.now, node.kernel)
        assert (gone.gone, gone.failed, unknown.gone) == (True, False, True)
        assert not needs.failed
        assert node.cpus("needs") == CpuSet((4, 5))
