"""Under churn the agent is killed at random, and the runtime restarted: nothing is lost or disturbed."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from typing import Any

from reconciler import errors
from reconciler.cpu.idset import CpuSet
from tests.e2e import agent as agents
from tests.e2e import cgroups, churn, node, place, settle, systemd

# covers: PRD-6.5, PRD-6.9

_SEED = 20261126
_KILLS = 50 if place.LONG else 10
_LONGEST = 1.5
"""Seconds that pass at most between a start that has settled and the next SIGKILL."""
_RESTARTS = 10 if place.LONG else 4
_PATIENCE = 120.0
_RECONNECTS = 180.0
"""Seconds: after so many restarts the next attempt to connect over NRI may be a minute away."""


async def test_killed_under_churn_every_holder_keeps_its_cpus(
    machine: node.Node, agent: agents.Agent
) -> None:
    draw = random.Random(_SEED)  # noqa: S311  a test's moments
    began = time.monotonic()
    starts: Counter[str] = Counter()
    async with churn.running(machine, _SEED) as pods:
        for _ in range(_KILLS):
            await asyncio.sleep(draw.uniform(0, _LONGEST))
            pods.mark()
            agent.kill()
            had = churn.holders(machine)
            told = len(agent.log.read_text())
            agent.launch()
            async with pods.held():
                status = await settle.settle(machine, agent, patience=_PATIENCE)
                _check(machine, status, had, pods.concerned)
                starts[_check_start(agent, told)] += 1
                pods.mark()
    _check_witnesses()
    print(
        f"seed {_SEED}: {_KILLS} kills in {time.monotonic() - began:.0f} s; {dict(starts)}; {dict(pods.done)}"
    )


async def test_the_runtime_restarted_under_churn_loses_no_claim_and_disturbs_nobody(
    machine: node.Node, agent: agents.Agent
) -> None:
    draw = random.Random(_SEED)  # noqa: S311  as above
    began = time.monotonic()
    mode = agent.mode
    async with churn.running(machine, _SEED) as pods:
        for _ in range(_RESTARTS):
            await asyncio.sleep(draw.uniform(0, _LONGEST))
            pods.mark()
            had = churn.holders(machine)
            systemd.systemctl("restart", "containerd.service")
            await machine.until_answered()
            async with pods.held():
                status = await _settle_at_any_door(machine, agent)
                _check(machine, status, had, pods.concerned)
                pods.mark()
        async with pods.held():
            had = churn.holders(machine)
            agent.mode = mode
            status = await settle.settle(machine, agent, patience=_RECONNECTS)
            _check(machine, status, had, set())
    _check_witnesses()
    modes = [record["mode"] for record in agent.records("mode.changed")]
    took = time.monotonic() - began
    print(f"seed {_SEED}: {_RESTARTS} restarts in {took:.0f} s; {dict(Counter(modes))}; {dict(pods.done)}")


async def _settle_at_any_door(machine: node.Node, agent: agents.Agent) -> dict[str, Any]:
    """The status once it is settled over NRI, or over CRI while NRI is waited for."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            agent.mode = (await agent.status())["mode"]
            return await settle.settle(machine, agent, patience=10)
        except (AssertionError, errors.Retryable):
            assert time.monotonic() < until, f"not settled; log ends:\n{agent.tail()}"


def _check(machine: node.Node, status: dict[str, Any], had: dict[str, CpuSet], concerned: set[str]) -> None:
    """Who held CPUs and whom no request concerned has them still; and nobody else is on anyone's."""
    has = churn.holders(machine)
    for name, cpus in had.items():
        assert name in concerned or has.get(name) == cpus, (name, cpus, has, concerned)
    assert has[churn.FIXED] == cgroups.cpus(churn.FIXED_LIST)
    assert {entry["state"] for entry in status["containers"]} == {"in-sync"}, status["containers"]
    owners = {entry["id"]: cgroups.cpus(entry["claim"]) for entry in status["containers"] if entry["claim"]}
    for id_, cpus in owners.items():
        for entry in status["containers"]:
            others = cgroups.cpus(entry["desired"]["cpus"])
            assert entry["id"] == id_ or (others and not others & cpus), (entry, id_, cpus)


def _check_start(agent: agents.Agent, told: int) -> str:
    """That the start needed one pass that writes, or none; which of them."""
    records = [json.loads(line) for line in agent.log.read_text()[told:].splitlines() if line.startswith("{")]
    bad = [record for record in records if record["event"] in ("agent.failed", "checkpoint.set-aside")]
    assert bad == []
    adopted = next(number for number, record in enumerate(records) if record["event"] == "node.adopted")
    passes = [record for record in records if record["event"] == "pass.done" and record["writes"]]
    before = [record for record in records[:adopted] if record in passes]
    assert before == [], "nothing is written before it is known what runs"
    own = [record for record in passes if record["found_by"] == "pass"]
    assert len(own) <= 1, own
    return "one pass that writes" if own else "nothing to write"


def _check_witnesses() -> None:
    """By what the two pods saw: one was never elsewhere, the other always had two CPUs, its own."""
    fixed = cgroups.cpus(churn.FIXED_LIST)
    assert churn.affinities(churn.FIXED) == {fixed}
    moved = churn.affinities(churn.MOVER)
    assert {len(cpus) for cpus in moved} == {2}
    assert not any(cpus & fixed for cpus in moved)
