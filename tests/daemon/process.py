"""The agent as a process, over a directory that stands for a machine, with all checks of Python on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

from reconciler import errors
from reconciler.daemon import api
from reconciler.host import sysfs
from reconciler.sim import kernel, machine, runtime, runtime_profile

PATIENCE = 60.0
"""Seconds; on a busy machine the interpreter alone takes some of them."""
COMMAND = (sys.executable, "-W", "error", "-X", "dev", "-m", "reconciler.cli.main")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


class Machine:
    """The files that stand for a machine of 8 CPUs, and what a runtime sees of them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.root = str(folder / "host")
        machine.write(self.root, machine.vm())
        self.cgroups = os.path.join(self.root, "sys/fs/cgroup")
        os.makedirs(self.cgroups)
        self.kernel = kernel.SimulatedCgroupfs(self.cgroups, sysfs.topology(self.root))
        self.config = folder / "config.yaml"
        self.config.write_text("passIntervalSeconds: 0.5\n")
        profile = runtime_profile.PROFILES["containerd-2.1.9"]
        self.runtime = runtime.StandInRuntime(str(folder / "nri.sock"), profile, self.kernel)

    def cpus(self, container: str) -> str:
        """What the `cpuset.cpus` of a container of the runtime says."""
        path = self.runtime.containers[container].cgroup
        return pathlib.Path(self.cgroups, str(path), "cpuset.cpus").read_text().strip()

    def put(self, container: str, text: str) -> None:
        """Write there, as anyone may."""
        path = self.runtime.containers[container].cgroup
        self.kernel.write(str(path), "cpuset.cpus", text)


class Agent:
    """One process. Several may be meant for one machine."""

    def __init__(self, its: Machine, *options: str, name: str = "agent") -> None:
        self.api = str(its.folder / f"{name}.sock")
        self._log = its.folder / f"{name}.log"
        self._arguments = [
            *("run", "--simulated", "--source", "nri", "--host-root", its.root),
            *("--config", str(its.config), "--state-dir", str(its.folder / "state")),
            *("--nri-socket", its.runtime.socket_path, "--api-socket", self.api),
            *options,
        ]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and do not wait for anything."""
        with open(self._log, "wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND, *self._arguments, env=ENVIRONMENT, stdout=log, stderr=log
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal; its exit code, negative for a signal."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    async def exit_code(self) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    def said(self) -> str:
        """All that it has written, records or not."""
        return self._log.read_text()

    def records(self, *names: str) -> list[dict[str, Any]]:
        """What it has logged; every line must be a record."""
        records = [
            json.loads(line) for line in self._log.read_text().splitlines(keepends=True) if "\n" in line
        ]
        return [record for record in records if not names or record["event"] in names]

    async def told(self, name: str, count: int = 1) -> dict[str, Any]:
        """The record that it logs, or has logged, under that name: the latest of at least `count`."""
        await until(lambda: len(self.records(name)) >= count or self._has_ended())
        assert not self._has_ended(), self.records()[-5:]
        return self.records(name)[-1]

    async def status(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Its status document, once that meets the condition."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(errors.Retryable):
                    document = await api.ask(self.api, {"request": "status"})
                    if condition(document):
                        return document
                assert not self._has_ended(), self.records()[-5:]
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """End it in any case."""
        if self._process is not None and not self._has_ended():
            self._process.kill()
            await self._process.wait()

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.returncode is not None


@contextlib.asynccontextmanager
async def running(*agents: Agent) -> AsyncIterator[None]:
    """These processes, one after the other; none outlives the block."""
    try:
        for agent in agents:
            await agent.start()
        yield
    finally:
        for agent in agents:
            await agent.kill()


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fails after a minute."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  another process is waited for
            await asyncio.sleep(0.02)
