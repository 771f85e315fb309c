"""Carries out a plan, write by write, in the worker's thread. I/O.

What fails is a value in the results and never ends the plan: writes that need CPUs which someone could not be
moved off are not made, all others are.
"""

from __future__ import annotations

from reconciler import errors, events, plan, report
from reconciler.cpu.idset import CpuSet
from reconciler.host import cgroupfs
from reconciler.policy import state


def execute(
    steps: plan.Plan,
    now: state.State,
    tree: cgroupfs.Cgroupfs,
    before: tuple[report.Result, ...] = (),
) -> tuple[report.Result, ...]:
    """What came of each write of the plan, in its order; `before` is what came of a part that went before."""
    results = []
    stuck = CpuSet()
    for result in before:
        if result.failed:
            stuck |= result.write.vacates
    for step in steps:
        result = _write(step, now, tree, stuck)
        if result.failed:
            stuck |= step.vacates
        results.append(result)
    return tuple(results)


def _write(step: plan.Write, now: state.State, tree: cgroupfs.Cgroupfs, stuck: CpuSet) -> report.Result:
    if not step.needs.isdisjoint(stuck):
        return report.Result(write=step, blocked=True)
    path = step.group or cgroup_of(now, step.container)
    if path is None:
        return report.Result(write=step, gone=True)
    try:
        tree.write(path, step.file, step.text)
    except errors.Gone:
        return report.Result(write=step, gone=True)
    except errors.HostFileError as error:
        return report.Result(write=step, error=error)
    return report.Result(write=step)


def cgroup_of(now: state.State, id_: events.ContainerId) -> str | None:
    """The cgroup of a container of the inventory; None where it is unknown or has none."""
    container = now.inventory.containers.get(id_)
    return None if container is None else container.cgroup
