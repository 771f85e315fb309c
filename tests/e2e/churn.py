"""Pods that come and go one request after the other, beside two that stay and watch their own CPUs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pathlib
import random
from collections import Counter
from collections.abc import AsyncIterator

from reconciler import errors
from reconciler.cpu.idset import CpuSet
from reconciler.sim import runtime_pods
from tests.e2e import cgroups, node, pods

FIXED, FIXED_LIST = "fixed", "4-5"
"""A pod that holds a list and never has to move."""
MOVER = "mover"
"""A pod with two CPUs, which the pods with `LISTED` move away."""
_LISTED = "2-3"
_MOST = 3
"""Pods that come and go, at a time: with the two that stay they leave the shared pool a CPU."""
_FOLDER = pathlib.Path("/run/affinity")
_LOOK = "while :; do grep Cpus_allowed_list /proc/self/status; sleep 0.3; done"


class Churn:
    """Use `running`. `concerned` are the pods whose CPUs what was asked for since `mark` may change."""

    def __init__(self, machine: node.Node, seed: int) -> None:
        self.concerned: set[str] = set()
        self.done: Counter[str] = Counter()
        self._machine = machine
        self._draw = random.Random(seed)  # noqa: S311  a test's order of events
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._now: set[str] = set()
        self._subject = ""

    async def settle_in(self) -> None:
        """Run the two pods that stay."""
        for name, cpus in ((FIXED, FIXED_LIST), (MOVER, None)):
            pod = await self._machine.run_pod(pods.guaranteed(name, cpus))
            _FOLDER.mkdir(exist_ok=True)
            command = ["/bin/sh", "-c", f"exec >> /affinity/{name} 2> /dev/null; {_LOOK}"]
            mounts = [node.Mount(host=str(_FOLDER), inside="/affinity")]
            (_FOLDER / name).write_text("")
            await self._machine.run(pod, pods.WHOLE_TWO, command, mounts)

    def mark(self) -> None:
        """From now on, count as concerned whoever the request under way concerns, and the next ones do."""
        self.concerned = set(self._now)

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """No request is under way, and none begins."""
        async with self._turn:
            yield

    async def run(self) -> None:
        """One request after the other, until cancelled."""
        while True:
            async with self._turn:
                try:
                    await self._one()
                except errors.ReconcilerError as error:
                    self.done[f"failed: {type(error).__name__}"] += 1
                    await self._tidy()
            await asyncio.sleep(0.01)

    async def _one(self) -> None:
        coming = [name for name in self._machine.pods if name not in (FIXED, MOVER)]
        if len(coming) < _MOST and (not coming or self._draw.random() < 0.6):
            kinds = {"whole", "listed", "shared"} - {name.partition("-")[0] for name in coming}
            await self._create(self._draw.choice(sorted(kinds)))
        elif self._draw.random() < 0.4:
            await self._next_attempt(self._draw.choice(coming))
        else:
            await self._delete(self._draw.choice(coming))

    async def _create(self, kind: str) -> None:
        name = f"{kind}-{next(self._numbers)}"
        self._concerns(name)
        spec, container = {
            "whole": (pods.guaranteed(name), pods.whole(1)),
            "listed": (pods.guaranteed(name, _LISTED), pods.WHOLE_TWO),
            "shared": (pods.shared(name), pods.SHARED),
        }[kind]
        await self._machine.run(await self._machine.run_pod(spec), container)
        self.done[f"{kind} created"] += 1

    async def _next_attempt(self, name: str) -> None:
        self._concerns(name)
        pod = self._machine.pods[name]
        if not pod.containers.get("main"):
            return await self._delete(name)
        await self._machine.end(pod, pod.containers["main"][-1])
        await self._machine.run(pod, self._container(name))
        await self._machine.remove(pod, "main")
        self.done["next attempts"] += 1
        return None

    async def _delete(self, name: str) -> None:
        self._concerns(name)
        await self._machine.delete(name)
        self.done["deleted"] += 1

    def _container(self, name: str) -> runtime_pods.ContainerSpec:
        kinds = {"whole": pods.whole(1), "listed": pods.WHOLE_TWO, "shared": pods.SHARED}
        return kinds[name.partition("-")[0]]

    def _concerns(self, name: str) -> None:
        """Pods with a list move all that have none."""
        self._subject, self._now = name, {name}
        if name.startswith("listed"):
            self._now |= {its for its in self._machine.pods if its == MOVER or its.startswith("whole")}
        self.concerned |= self._now

    async def _tidy(self) -> None:
        """Delete what a request that failed has left, and all that only the runtime knows of."""
        await self._machine.until_answered()
        if self._subject in self._machine.pods:
            await self._machine.delete(self._subject)
        known = {pod.sandbox for pod in self._machine.pods.values()}
        for sandbox in (await self._machine.cri.list_sandboxes()).items:
            if sandbox.id not in known:
                await self._machine.cri.stop_sandbox(sandbox.id)
                await self._machine.cri.remove_sandbox(sandbox.id)


@contextlib.asynccontextmanager
async def running(machine: node.Node, seed: int) -> AsyncIterator[Churn]:
    """Churn, after the two pods have settled in; it ends between two requests."""
    made = Churn(machine, seed)
    await made.settle_in()
    task = asyncio.create_task(made.run())
    try:
        yield made
        assert not task.done(), task.exception()
    finally:
        async with made.held():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def holders(machine: node.Node) -> dict[str, CpuSet]:
    """What the kernel says that each pod with CPUs of its own has now, of those whose container runs."""
    found = {}
    for name, pod in machine.pods.items():
        attempts = pod.containers.get("main")
        if attempts and not name.startswith("shared"):
            with contextlib.suppress(OSError):
                found[name] = cgroups.cpus(machine.cgroup(pod, attempts[-1]).cpus)
    return found


def affinities(name: str) -> set[CpuSet]:
    """The CPUs that a pod that stays has found itself allowed to run on, ever."""
    lines = (_FOLDER / name).read_text().splitlines()
    return {cgroups.cpus(line.partition(":")[2]) for line in lines if line.startswith("Cpus_allowed_list:")}
