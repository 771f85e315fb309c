"""Metrics and probes of an agent on a real node."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.request

import pytest

from tests.e2e import agent as agents
from tests.e2e import node, place, pods, settle

LISTEN = "127.0.0.1:9465"


def get(path: str) -> str:
    """What is answered there. Raises HTTPError for anything but 200."""
    with urllib.request.urlopen(f"http://{LISTEN}{path}", timeout=10) as answer:
        body: bytes = answer.read()
    return body.decode()


@pytest.mark.parametrize("agent", [{"metrics": {"listen": LISTEN}}], indirect=True, ids=["listening"])
async def test_probes_and_metrics_say_what_the_status_says(machine: node.Node, agent: agents.Agent) -> None:
    pod = await machine.run_pod(pods.guaranteed("db"))
    await machine.run(pod, pods.WHOLE_TWO)
    status = await settle.settle(machine, agent)
    assert await asyncio.to_thread(get, "/healthz") == "alive\n"
    ready = await asyncio.to_thread(get, "/readyz")
    assert ready == f"ready; mode {agent.mode}: {status['reason']}\n"
    command = [sys.executable, "-m", "reconciler.cli.main", "status", "--ready"]
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True)
    assert done.returncode == 0
    text = await asyncio.to_thread(get, "/metrics")
    said = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert said[f'cpuset_reconciler_mode{{mode="{agent.mode}"}}'] == "1.0"
    assert said['cpuset_reconciler_containers{class="integer",state="in-sync"}'] == "1.0"
    assert said['cpuset_reconciler_pool_cpus{pool="exclusive"}'] == "2.0"
    assert float(said["cpuset_reconciler_writes_total"]) > 0
    if place.DOOR == "nri":
        answers = 'cpuset_reconciler_hook_seconds_{}{{hook="CreateContainer"{}}}'
        count = float(said[answers.format("count", "")])
        assert count >= 1
        # A second is less than 60 % of the runtime's two.
        assert float(said[answers.format("bucket", ',le="1.0"')]) == count
    else:
        assert float(said["cpuset_reconciler_cri_polls_total"]) > 0
