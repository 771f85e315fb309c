"""Who cannot be looked at is taken to be where it was last seen: nobody starts on CPUs that it may be on."""

# covers: PRD-4.3

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
from collections.abc import Sequence

import pytest

from reconciler import errors, events, observed
from tests.daemon import node, pods

WEB, DB = pods.pod("web"), pods.guaranteed("db")
SHARED = pods.container(WEB)
INTEGER = pods.container(DB, whole=2)
WHY = "CPUs 2-3 are still used by default/web container main, as far as is known: read .*not permitted"


def hide(made: node.Node, *hidden: events.Container, number: int = errno.EACCES) -> None:
    """Let the agent not read these containers' cgroups any more."""
    look, paths = made.kernel.look, {container.cgroup for container in hidden}

    def denied(path: str, quotas: Sequence[str] = ()) -> observed.Look:
        if path not in paths:
            return look(path, quotas)
        error = OSError(number, os.strerror(number))
        return observed.Unreadable(error=made.kernel._error(f"{path}/cpuset.cpus", "read", error))

    made.kernel.look = denied  # type: ignore[method-assign]


async def born(made: node.Node) -> None:
    adjustment = await made.create(DB, INTEGER)
    made.make(INTEGER, adjustment.cpus, adjustment.mems)


@pytest.mark.parametrize("seen", [True, False], ids=["seen before", "never seen"])
async def test_nobody_starts_on_cpus_of_one_that_cannot_be_looked_at(
    tmp_path: pathlib.Path, seen: bool
) -> None:
    async with node.running(tmp_path) as made:
        if seen:
            await made.run(WEB, SHARED)
            hide(made, SHARED)
        else:
            hide(made, SHARED)
            made.make(SHARED)
            await made.synchronize((WEB, dataclasses.replace(SHARED, phase=events.Phase.RUNNING)))
        await born(made)
        with pytest.raises(errors.Refused, match=WHY):
            await made.start(DB, INTEGER)
        del made.kernel.look
        await made.start(DB, INTEGER)
        assert made.cpus(SHARED) == "0-1,4-7"


async def test_one_that_has_left_before_it_could_not_be_looked_at_is_in_nobodys_way(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        hide(made, SHARED)
        await made.quiet()
        await made.start(DB, INTEGER)
        states = {entry["pod"]: (entry["state"], entry["reason"]) for entry in made.status()["containers"]}
        assert states["db"][0] == "in-sync"
        assert states["web"][0] == "pending"
        assert "not permitted" in states["web"][1]


async def test_one_that_ends_unseen_is_in_nobodys_way_any_more(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        hide(made, SHARED)
        await born(made)
        made.over(SHARED)
        made.agent.stopped(events.ContainerStopped(pod=WEB, container=SHARED))
        await made.start(DB, INTEGER)
