"""A machine, its runtime and its agent as a process, in a folder whose path is short enough for sockets."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import AsyncIterator, Sequence

from reconciler import events
from reconciler.sim import runtime_plugins, runtime_pods
from tests.daemon import process

WEB = runtime_pods.PodSpec(name="web", uid="5b8a3f10-0000-4000-8000-000000000001")
DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
SHARED = runtime_pods.ContainerSpec(name="main", request=100)
INTEGER = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


class Agent(process.Agent):
    """One that is started by another program, `before`, or whose output goes elsewhere."""

    def __init__(
        self,
        its: process.Machine,
        *options: str,
        before: Sequence[str] = (),
        output: int | None = None,
        name: str = "agent",
    ) -> None:
        """`before` ends in what runs the rest of its arguments; `output` is a descriptor."""
        super().__init__(its, *options, name=name)
        self._before = before
        self._output = output

    async def start(self) -> None:
        """As `process.Agent.start`."""
        with open(self._log, "wb") as log:
            to = log if self._output is None else self._output
            self._process = await asyncio.create_subprocess_exec(
                *self._before,
                *process.COMMAND,
                *self._arguments,
                env=process.ENVIRONMENT,
                stdout=to,
                stderr=to,
            )

    def said(self) -> str:
        """All that it has put out."""
        return self._log.read_text()

    @property
    def pid(self) -> int:
        """Its process, which is that of `before` too."""
        assert self._process is not None
        return self._process.pid

    def file(self, path: str) -> bytes:
        """A file in the machine's folder, as the agent's mounts show it."""
        return pathlib.Path(f"/proc/{self.pid}/root/{self._log.parent}/{path}").read_bytes()

    async def ended(self) -> int:
        """Its exit code, when it ends by itself."""
        assert self._process is not None
        async with asyncio.timeout(process.PATIENCE):
            return await self._process.wait()


@contextlib.asynccontextmanager
async def machine() -> AsyncIterator[process.Machine]:
    """A machine whose runtime listens."""
    with tempfile.TemporaryDirectory(prefix="fault-") as name:
        made = process.Machine(pathlib.Path(name))
        async with made.runtime:
            yield made
        made.kernel.close()


async def run(
    its: process.Machine, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec = INTEGER
) -> str:
    """Run a pod with one container; the container's id."""
    container = await its.runtime.create_container(await its.runtime.run_pod(pod), spec)
    await its.runtime.start_container(container)
    return container


async def until_started(its: process.Machine) -> str:
    """One with CPUs of its own, as soon as it may start: it is tried again and again, as kubelet does."""
    async with asyncio.timeout(process.PATIENCE):
        while True:
            try:
                return await run(its, DB)
            except runtime_plugins.RequestFailedError:
                await asyncio.sleep(0.1)
