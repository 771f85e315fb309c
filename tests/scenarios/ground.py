"""Where scenarios are played: what every ground can do, and the player."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from reconciler.cpu.idset import CpuSet
from tests.scenarios import model

_TRIES = 5


class RefusedError(Exception):
    """The runtime's owner was told no; the text is what reached it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A container's cgroup files, as texts without the newline."""

    cpus: str
    mems: str
    effective: str
    quota: str
    """`cpu.max`, and that of the pod's cgroup."""
    pod_quota: str


class Ground(Protocol):
    """A node of some kind with a running agent. Containers are named as in `model`."""

    async def run_pod(self, pod: model.Pod) -> None:
        """Run the sandbox, then create and start each container. Raises RefusedError; the sandbox stays."""

    async def create(self, key: str) -> None:
        """Create and start another attempt of a container. Raises RefusedError."""

    async def exit(self, key: str) -> None:
        """The newest attempt ends by itself; the runtime keeps its record."""

    async def remove(self, key: str) -> None:
        """The runtime forgets the oldest record of that container."""

    async def delete_pod(self, name: str) -> None:
        """Stop and remove the pod with all its containers."""

    async def write(self, key: str, file: str, text: str) -> None:
        """Write to a container's file, as a shell would."""

    async def update(self, key: str, quota: int) -> None:
        """Have the runtime change the CFS quota of a container."""

    async def resize(self, resize: model.Resize) -> None:
        """Change a container's resources in its manifest and in place. Raises RefusedError."""

    async def stop_agent(self, *, kill: bool) -> None:
        """End the agent: SIGTERM, or SIGKILL."""

    async def start_agent(self) -> None:
        """Start it again."""

    async def restart_runtime(self) -> None:
        """Restart the runtime; containers go on."""

    async def switch(self, cpus: str, *, online: bool) -> None:
        """Switch CPUs on or off."""

    async def settle(self) -> None:
        """Return once the agent says that all is converged and has seen everything that was done."""

    async def seen(self, key: str) -> Seen:
        """The container's cgroup."""

    async def status(self) -> dict[str, Any]:
        """The agent's status document."""


def quota_lag(entry: dict[str, Any], read: Callable[[str], str]) -> str:
    """The first `cpu.max` that is limited and should not be by an entry of the status, or conversely;
    "" without one. `read` reads a file by its path from the container's cgroup."""
    for file, wish in entry["desired"]["quotas"].items():
        if wish and (wish == "max") != (has := read(file)).startswith("max"):
            return f"{entry['pod']}/{entry['container']}: {file} is {has!r}, wanted is {wish!r}"
    return ""


async def play(scenario: model.Scenario, ground: Ground) -> None:
    """Do each step and check what is expected after it."""
    overlap = scenario.config.get("annotatedOverlap") == "allow"
    for number, step in enumerate(scenario.steps, 1):
        where = f"step {number}"
        if step.refused is None:
            await act(step, ground)
        else:
            refusal = await _refusal(step, ground)
            assert step.refused in refusal, f"{where}: refused with {refusal!r}"
        status = await _settled(ground)
        assert status["converged"], f"{where}: {status}"
        await _check(step, ground, status, where)
        check_that_claims_are_kept(status, where, overlap=overlap)


async def _settled(ground: Ground) -> dict[str, Any]:
    """The status when all is settled. A runtime without NRI may do something more on its own between the one
    and the other: it writes a cpuset at a container's start."""
    for _ in range(_TRIES - 1):
        await ground.settle()
        status = await ground.status()
        if status["converged"]:
            return status
    await ground.settle()
    return await ground.status()


async def _refusal(step: model.Step, ground: Ground) -> str:
    try:
        await act(step, ground)
    except RefusedError as refused:
        return str(refused)
    return "nothing: it was granted"


async def act(step: model.Step, ground: Ground) -> None:  # noqa: C901, PLR0912  one line an action
    """Do what a step says. Raises RefusedError."""
    if step.run is not None:
        await ground.run_pod(step.run)
    elif step.create is not None:
        await ground.create(step.create)
    elif step.exit is not None:
        await ground.exit(step.exit)
    elif step.remove is not None:
        await ground.remove(step.remove)
    elif step.delete is not None:
        await ground.delete_pod(step.delete)
    elif step.write is not None:
        await ground.write(step.write.container, step.write.file, step.write.text)
    elif step.update is not None:
        await ground.update(step.update.container, step.update.quota)
    elif step.resize is not None:
        await ground.resize(step.resize)
    elif step.together is not None:
        await asyncio.gather(*(act(part, ground) for part in step.together))
    elif step.agent is not None:
        await _cycle_agent(step, ground)
    elif step.runtime is not None:
        await ground.restart_runtime()
    elif step.offline is not None:
        await ground.switch(step.offline, online=False)
    elif step.online is not None:
        await ground.switch(step.online, online=True)


async def _cycle_agent(step: model.Step, ground: Ground) -> None:
    while not _is_saved(await ground.status()):  # noqa: ASYNC110  another process is waited for
        await asyncio.sleep(0.02)
    await ground.stop_agent(kill=step.agent == "kill")
    for key, down in step.expect_down.items():
        seen = await ground.seen(key)
        assert seen.cpus == down.cpus, f"{key} while the agent is down: {seen}"
        assert down.mems in (None, seen.mems), f"{key} while the agent is down: {seen}"
    for inner in step.while_down:
        await act(inner, ground)
    await ground.start_agent()


def _is_saved(status: dict[str, Any]) -> bool:
    """Whether all that the agent knows is on its disk; grounds without one save at its end."""
    checkpoint = status.get("checkpoint")
    return checkpoint is None or bool(checkpoint["saved"])


async def _check(step: model.Step, ground: Ground, status: dict[str, Any], where: str) -> None:
    told = {f"{entry['pod']}/{entry['container']}": entry for entry in status["containers"]}
    for key, expected in step.expect.items():
        _compare(expected, await ground.seen(key), told[key], f"{where}: {key}")
    for pool, cpus in step.pools.items():
        assert status["pools"][pool] == cpus, f"{where}: pool {pool}: {status['pools']}"
    if step.drift is not None:
        drift = {"found": step.drift.found, "repaired": step.drift.repaired, "unrepaired": 0}
        assert status["drift"] == drift, f"{where}: {status['drift']}"


def _compare(expected: model.Expected, seen: Seen, entry: dict[str, Any], where: str) -> None:
    """The kernel and status, both against what is expected."""
    cpus = seen.cpus if expected.cpus is None else expected.cpus
    effective = cpus if expected.effective is None else expected.effective
    assert (seen.cpus, seen.effective, entry["state"]) == (cpus, effective, expected.state), (
        f"{where}: {seen}, {entry}"
    )
    if expected.klass != "unmanaged":
        assert entry["desired"]["cpus"] == cpus, f"{where}: {entry}"
    if expected.count is not None:
        assert len(CpuSet.parse(cpus, what=where)) == expected.count, f"{where}: {entry}"
    if expected.mems is not None:
        assert seen.mems == expected.mems, f"{where}: mems"
    if expected.quota is not None:
        assert seen.quota == expected.quota, f"{where}: cpu.max"
    if expected.pod_quota is not None:
        assert seen.pod_quota == expected.pod_quota, f"{where}: cpu.max of the pod"
    if expected.klass is not None:
        assert entry["class"] == expected.klass, f"{where}: class"
    if expected.reason is not None:
        assert expected.reason in entry["reason"], f"{where}: {entry['reason']}"


def check_that_claims_are_kept(status: dict[str, Any], where: str, *, overlap: bool) -> None:
    """After every step: no CPU of an exclusive claim is written for anyone who is not of that claim."""
    present = [entry for entry in status["containers"] if entry["observed"] is not None]
    for holder, other in itertools.permutations(present, 2):
        if holder["claim"] is None or holder["class"] not in _EXCLUSIVE or other["class"] == "unmanaged":
            continue
        if _annotated(holder) and _annotated(other) and (overlap or _list(holder) == _list(other)):
            continue
        claim, written = (
            CpuSet.parse(text, what=where) for text in (holder["claim"], other["observed"]["cpus"])
        )
        assert claim.isdisjoint(written), f"{where}: {other} is on CPUs of {holder}"


_EXCLUSIVE = ("annotated-exclusive", "integer")


def _annotated(entry: dict[str, Any]) -> bool:
    return str(entry["class"]).startswith("annotated")


def _list(entry: dict[str, Any]) -> tuple[str, ...]:
    """Whose list a container runs on: its pod's, which is that of the containers with the same one."""
    return entry["namespace"], entry["pod"], entry["claim"]
