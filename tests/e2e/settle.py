"""Waits until the agent has seen what was done to the node, and the kernel has what the agent wants."""

from __future__ import annotations

import asyncio
import pathlib
import time
from typing import Any

from reconciler import errors, inventory
from tests.e2e import agent as agents
from tests.e2e import cgroups, kubelet, node
from tests.scenarios import ground

_PATIENCE = 60.0
_OFFLINE = pathlib.Path("/sys/devices/system/cpu/offline")


async def settle(machine: node.Node, agent: agents.Agent, *, patience: float = _PATIENCE) -> dict[str, Any]:
    """The status once it is converged, knows exactly what the runtime has, and the kernel agrees with it."""
    until = time.monotonic() + patience
    why = ""
    while time.monotonic() < until:
        try:
            before = await agent.status()
            why = await _lag(machine, before)
            after = await agent.status()
        except errors.Retryable as error:
            why = str(error)
        else:
            # Converged after the kernel had it: what was repaired is counted, too.
            if (
                not why
                and after["converged"]
                and after["mode"] == agent.mode
                and _wanted(before) == _wanted(after)
            ):
                return after
            why = why or f"converged {after['converged']}, mode {after['mode']}"
        await asyncio.sleep(0.1)
    raise AssertionError(f"not settled after {patience:g} s: {why}; log ends:\n{agent.tail()}")


async def _lag(machine: node.Node, status: dict[str, Any]) -> str:
    """What the agent has not seen or the kernel does not have, "" for nothing."""
    offline = _OFFLINE.read_text().strip()
    if status["pools"]["offline"] != offline:
        return f"offline are {offline!r}, status says {status['pools']['offline']!r}"
    known, alive = {entry["id"] for entry in status["containers"]}, await machine.alive()
    if known != alive:
        return f"status lacks {alive - known} and still has {known - alive}"
    at = machine.cgroups()
    for entry in status["containers"]:
        if entry["class"] == "unmanaged":
            continue
        have, want = _kept(at[entry["id"]], entry, status), entry["desired"]["cpus"]
        if have.cpus != want:
            return f"{have.path} has {have.cpus!r}, wanted is {want!r}"
        wanted_mems = entry["desired"]["mems"]
        if wanted_mems is not None and have.mems != wanted_mems:
            return f"{have.path} has memory nodes {have.mems!r}, wanted is {wanted_mems!r}"
        if lag := ground.quota_lag(entry, at[entry["id"]].read):
            return lag
    return ""


def _kept(its: cgroups.Cgroup, entry: dict[str, Any], status: dict[str, Any]) -> cgroups.Cgroup:
    """The cgroup by which the agent keeps a container: of its own, where it runs in one, it is the pod's."""
    pod = status.get("contained")
    if pod is None or entry["container"] == inventory.PAUSE or its.path.parent != kubelet.ROOT / pod:
        return its
    return cgroups.Cgroup(its.path.parent)


def _wanted(status: dict[str, Any]) -> dict[str, str]:
    return {entry["id"]: entry["desired"]["cpus"] for entry in status["containers"]}
