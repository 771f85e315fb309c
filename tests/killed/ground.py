"""One node of a run: a machine's files, a stand-in runtime that fails open, and one agent after another."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from reconciler import errors, events
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import api
from reconciler.sim import runtime, runtime_cri, runtime_pods
from tests.daemon import process
from tests.killed import agents, steps

Door = Literal["nri", "cri"]
Status = dict[str, Any]
_LISTS = 3
"""Lists after which everything that was there before the first of them has been told to the agent."""
_PAUSE = 0.02
_UNBORN = events.Phase.CREATED


class Node:
    """Pods go by their names, containers by `pod/container`; of several attempts the newest counts."""

    def __init__(
        self, its: process.Machine, door: Door, zygote: agents.Zygote, side: runtime_cri.CriSide | None
    ) -> None:
        self.its = its
        self.runtime = its.runtime
        self.door = door
        self.pods: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.agent: agents.Agent
        self._zygote = zygote
        self._side = side
        self.action(0)

    def action(self, number: int) -> None:
        """From now on steps belong to this action."""
        (self.its.folder / "action").write_text(str(number))

    async def start(self, name: str, last: steps.Step | None = None) -> agents.Agent:
        """Start an agent, which ends at that step, if there is one."""
        options = ("--source", self.door, "--cri-socket", str(self.its.folder / "cri.sock"))
        self.agent = agents.Agent(self.its, self._zygote, *options, name=name, last=last)
        await self.agent.start()
        return self.agent

    async def run_pod(self, spec: runtime_pods.PodSpec) -> None:
        """Run a sandbox."""
        self.pods[spec.name] = await self.runtime.run_pod(spec)

    async def create(self, pod: str, spec: runtime_pods.ContainerSpec) -> None:
        """Create a container, or its next attempt."""
        self.ids[f"{pod}/{spec.name}"] = await self.runtime.create_container(self.pods[pod], spec)

    async def begin(self, name: str) -> None:
        """Start a container."""
        await self.runtime.start_container(self.ids[name])

    async def resize(self, name: str, count: int) -> None:
        """Give a container another number of whole CPUs, as kubelet does."""
        spec = runtime_pods.ContainerSpec(name="main", limit=1000 * count, request=1000 * count)
        await self.runtime.update_container(self.ids[name], runtime_pods.cpu_message(spec))

    async def remove_pod(self, name: str) -> None:
        """Stop a pod and forget it."""
        for container in [its for its in self.ids if its.startswith(f"{name}/")]:
            del self.ids[container]
        await self.runtime.remove_pod(self.pods.pop(name))

    async def go_on(self) -> None:
        """What kubelet does next: containers that were created are started."""
        for id_, record in list(self.runtime.containers.items()):
            if record.phase is _UNBORN:
                await self.runtime.start_container(id_)

    def cpusets(self) -> dict[str, CpuSet]:
        """What the `cpuset.cpus` of everything that has a cgroup says, by id; nothing where it is empty."""
        found = {}
        for id_, path in self._paths().items():
            text = pathlib.Path(self.its.cgroups, path, "cpuset.cpus").read_text()
            found[id_] = CpuSet.parse(text.strip(), what=path)
        return found

    def by_path(self, by_id: Mapping[str, CpuSet]) -> dict[str, CpuSet]:
        """The same by the paths of the cgroups, of what has one."""
        return {path: by_id[id_] for id_, path in self._paths().items() if id_ in by_id}

    def _paths(self) -> dict[str, str]:
        paths = {
            id_: runtime_pods.directory(pod.message)
            for id_, pod in self.runtime.pods.items()
            if not pod.stopped
        }
        paths |= {id_: record.cgroup for id_, record in self.runtime.containers.items() if record.cgroup}
        return {id_: path for id_, path in paths.items() if path is not None}

    def alive(self) -> set[str]:
        """The ids of everything that the agent must know."""
        ended = events.Phase.STOPPED
        containers = {id_ for id_, record in self.runtime.containers.items() if record.phase is not ended}
        return containers | {id_ for id_, pod in self.runtime.pods.items() if not pod.stopped}

    async def quiet(self) -> Status | None:
        """The status once the agent knows of everything, and has done and saved it; None if it ends first."""
        last: object = None
        try:
            async with asyncio.timeout(process.PATIENCE):
                lists = self._lists() + _LISTS
                while not self.has_ended:
                    has_listed = self._side is None or self._lists() >= lists
                    with contextlib.suppress(errors.Retryable):
                        last = status = await api.ask(self.agent.api, {"request": "status"})
                        if has_listed and self._is_quiet(status):
                            return status
                    await asyncio.sleep(_PAUSE)
        except TimeoutError as error:
            raise AssertionError(f"never quiet: {last}; log ends: {self.agent.records()[-5:]}") from error
        return None

    @property
    def has_ended(self) -> bool:
        """Whether the agent has."""
        return self.agent.ended is not None and self.agent.ended.done()

    def _lists(self) -> int:
        return 0 if self._side is None else self._side.calls["ListContainers"]

    def _is_quiet(self, status: Status) -> bool:
        """A container that is not born yet has no cgroup to be right."""
        unborn = {id_ for id_, record in self.runtime.containers.items() if record.phase is _UNBORN}
        others = {entry["id"] for entry in status["containers"] if entry["state"] != "in-sync"}
        return (
            status["mode"] == self.door
            and bool(status["checkpoint"]["saved"])
            and {entry["id"] for entry in status["containers"]} == self.alive()
            and (others <= unborn if unborn else bool(status["converged"]))
        )


def claims(status: Status) -> Mapping[str, CpuSet]:
    """What each container holds exclusively, by id."""
    return {
        entry["id"]: CpuSet.parse(entry["claim"], what=entry["id"])
        for entry in status["containers"]
        if entry["claim"] and entry["class"] in ("integer", "annotated-exclusive")
    }


@contextlib.asynccontextmanager
async def node(door: Door, zygote: agents.Zygote) -> AsyncIterator[Node]:
    """A node without pods and without an agent; its agent ends with it."""
    with tempfile.TemporaryDirectory(prefix="killed-") as name:
        its = process.Machine(pathlib.Path(name))
        patient = dataclasses.replace(its.runtime.profile, request_timeout=process.PATIENCE)
        its.runtime = runtime.StandInRuntime(its.runtime.socket_path, patient, its.kernel)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(its.kernel.close)
            side = None
            if door == "nri":
                await stack.enter_async_context(its.runtime)
            else:
                side = await stack.enter_async_context(
                    runtime_cri.serving(str(its.folder / "cri.sock"), its.runtime)
                )
            made = Node(its, door, zygote, side)
            try:
                yield made
            finally:
                await made.agent.kill()
