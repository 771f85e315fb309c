"""What a hook costs in the event loop does not grow with the node's containers, counted in instructions."""

# covers: PRD-11.7

from __future__ import annotations

import asyncio
import dataclasses
import functools
import pathlib
import sys
import types
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from reconciler import events
from reconciler.policy import lifecycle, state
from tests.daemon import node, pods

FEW, MANY = 50, 5000
SLACK = 1.5
"""Hash tries get deeper, and the loop does what else there is."""
A_POD = {"remove": 20, "stop pod": 20}
"""Instructions for each pod of the node, where all sandboxes of one pod are looked for."""


def crowd(size: int) -> events.Synchronized:
    """So many shared containers, ten a pod, in no cgroup: nobody has to be looked at."""
    its_pods = [pods.pod(f"p{number}") for number in range(size // 10)]
    containers = [
        dataclasses.replace(pods.container(pod, f"c{number}", phase=events.Phase.RUNNING), cgroup=None)
        for pod in its_pods
        for number in range(10)
    ]
    return events.Synchronized(pods=tuple(its_pods), containers=tuple(containers))


def crowded(made: node.Node, size: int) -> state.State:
    """The state of a node with so many containers, one of which holds CPUs of its own."""
    now = lifecycle.adopt(lifecycle.absorb(made.agent.state, crowd(size)), {})
    db = pods.guaranteed("db")
    its = dataclasses.replace(pods.container(db, whole=2), cgroup=None)
    return lifecycle.admit(now, events.ContainerCreating(pod=db, container=its))[0]


async def instructions(act: Callable[[], object]) -> int:
    """How many instructions of Python are carried out in this thread by a call and by what it leaves to the
    loop's next rounds."""
    count = 0

    def trace(frame: types.FrameType, what: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += what == "opcode"
        return trace

    sys.settrace(trace)
    try:
        answer = act()
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        sys.settrace(None)
    if isinstance(answer, Awaitable):
        await answer
    return count


def creating(name: str, whole: int = 0) -> events.ContainerCreating:
    pod = pods.guaranteed(name) if whole else pods.pod(name)
    container = dataclasses.replace(pods.container(pod, whole=whole), cgroup=None)
    return events.ContainerCreating(pod=pod, container=container)


def known(kind: type[Any], number: int = 3) -> Any:
    """An event about a container that is there."""
    pod = pods.pod(f"p{number}")
    container = dataclasses.replace(pods.container(pod, "c4", phase=events.Phase.RUNNING), cgroup=None)
    return kind(pod=pod, container=container)


HOOKS: dict[str, Callable[[node.Node], object]] = {
    "create shared": lambda made: made.agent.create(creating("new")),
    "create exclusive": lambda made: made.agent.create(creating("own", 2)),
    "start": lambda made: made.agent.start(known(events.ContainerStarting)),
    "update": lambda made: made.agent.update(
        events.ContainerUpdating(
            pod=pods.pod("p1"),
            container=known(events.ContainerStopped, 1).container,
            limits=events.CpuLimits(),
            cpus="",
        )
    ),
    "stop": lambda made: made.agent.stopped(known(events.ContainerStopped)),
    "remove": lambda made: made.agent.removed(known(events.ContainerRemoved)),
    "run pod": lambda made: made.agent.pod_started(events.PodStarted(pod=pods.pod("fresh", pause=True))),
    "stop pod": lambda made: made.agent.pod_stopped(events.PodStopped(sandbox=pods.pod("p2").sandbox)),
    "guard": lambda made: made.agent.guard(creating("late")),
    "checkpoint": lambda made: made.agent.settled,
}


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_hook_costs_the_same_among_few_and_among_many(tmp_path: pathlib.Path, hook: str) -> None:
    counts = []
    async with node.running(tmp_path) as made:
        for size in (FEW, FEW, MANY):
            made.agent.current.put(crowded(made, size))
            await made.quiet()
            counts.append(await instructions(functools.partial(HOOKS[hook], made)))
            await made.quiet()
    _, few, many = counts
    assert 0 < many <= SLACK * few + A_POD.get(hook, 0) * MANY // 10, counts


async def test_a_list_costs_as_much_more_as_there_are_more_containers(tmp_path: pathlib.Path) -> None:
    counts = []
    async with node.running(tmp_path) as made:
        for size in (MANY // 10, MANY):
            its = crowd(size)
            counts.append(await instructions(functools.partial(made.agent.synchronized, its, node.PEER)))
            await made.quiet()
    assert counts[1] <= 10 * SLACK * counts[0], counts


async def test_what_grows_is_counted() -> None:
    def grows(size: int) -> list[str]:
        return [str(its) for its in range(size)]

    counts = [await instructions(functools.partial(grows, size)) for size in (1000, 10_000)]
    assert counts[1] > 5 * counts[0]
