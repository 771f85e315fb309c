"""Nobody else runs on an exclusive container's CPUs between its first act and its last."""

from __future__ import annotations

from collections import Counter

import pytest

from reconciler.cpu.idset import CpuSet
from tests.e2e import agent as agents
from tests.e2e import cgroups, exposure, node, place, pods, settle

# covers: PRD-4.9
pytestmark = place.needs_nri
_ROUNDS = 50 if place.LONG else 10
_WITHOUT = 5
"""Rounds without the agent; one of them that shows exposure is enough."""
_KUBELETS = "2-3"
_SPIN = ("/bin/busybox", "chroot", "/host", "/usr/bin/python3", "/opt/payload/tests/e2e/spinner.py")
_HOST = (node.Mount(host="/", inside="/host", readonly=True),)


async def _spin(machine: node.Node) -> None:
    web = await machine.run_pod(pods.shared("web"))
    await machine.run(web, pods.SHARED, _SPIN, _HOST)


async def _lives(
    machine: node.Node, trace: exposure.Trace, rounds: int, agent: agents.Agent | None
) -> list[exposure.Life]:
    """An exclusive container comes and goes; what its CPUs saw each time. Without an agent it has CPUs of
    kubelet's, which keeps nobody else off them."""
    cpus = "" if agent else _KUBELETS
    pod = await machine.run_pod(pods.guaranteed("db"))
    spec = pods.with_cpus(pods.WHOLE_TWO, cpus)
    found = []
    for _ in range(rounds):
        trace.clear()
        id_ = await machine.create(pod, spec, exposure.command(), trace.mounts())
        own = cgroups.cpus(cpus) if agent is None else await _claim(agent, id_)
        await machine.cri.start_container(id_)
        await machine.until_exited(id_)
        found.append(trace.life(own))
        await machine.remove(pod, "main")
    return found


async def _claim(agent: agents.Agent, id_: str) -> CpuSet:
    """What it was given at its creation."""
    entries = {entry["id"]: entry for entry in (await agent.status())["containers"]}
    own = cgroups.cpus(entries[id_]["claim"])
    assert (len(own), entries[id_]["class"]) == (2, "integer")
    return own


def _sum(counts: list[Counter[str]]) -> Counter[str]:
    return sum(counts, Counter())


async def test_the_trace_sees_exposure_where_there_is_no_agent(machine: node.Node) -> None:
    await _spin(machine)
    with exposure.Trace() as trace:
        lives = await _lives(machine, trace, _WITHOUT, None)
    seen = _sum([life.containers for life in lives])
    assert seen, "nobody else ran there: a trace that cannot see proves nothing"
    print(f"without the agent, in {_WITHOUT} lives: {dict(seen)}")


@pytest.mark.parametrize(
    "agent",
    [{"isolation": "cpuset"}, {"isolation": "partition"}, {"isolation": "isolated"}],
    ids=["cpuset", "partition", "isolated"],
    indirect=True,
)
async def test_nobody_else_runs_on_exclusive_cpus(
    machine: node.Node, agent: agents.Agent, request: pytest.FixtureRequest
) -> None:
    mode = request.node.callspec.id
    await _spin(machine)
    await settle.settle(machine, agent)
    with exposure.Trace() as trace:
        lives = await _lives(machine, trace, _ROUNDS, agent)
    assert [life.containers for life in lives if life.containers] == []
    if mode != "cpuset":
        assert [life.host for life in lives if life.host] == []
    host, kernel = _sum([life.host for life in lives]), _sum([life.kernel for life in lives])
    seconds = sum(life.seconds for life in lives)
    print(f"{mode}: {_ROUNDS} lives of {seconds:.1f} s in all; host {dict(host)}; kernel {dict(kernel)}")
