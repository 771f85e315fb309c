"""Agents that are forked from one process, and asked and judged like any other. I/O, on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator

from tests.daemon import process
from tests.killed import steps

_COMMAND = (sys.executable, "-W", "error", "-m", "tests.killed.zygote")


class Zygote:
    """The process that they are forked from. Use `running`."""

    def __init__(self, its: asyncio.subprocess.Process) -> None:
        self._process = its
        self._ids = itertools.count()
        self.started: dict[int, asyncio.Future[int]] = {}
        self.ended: dict[int, asyncio.Future[int]] = {}

    async def read(self) -> None:
        """Take in what it tells, until it ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if "pid" in told:
                self.started[told["id"]].set_result(told["pid"])
            else:
                self.ended[told["id"]].set_result(told["code"])
        for future in (*self.started.values(), *self.ended.values()):
            if not future.done():
                future.set_exception(AssertionError("the process that agents are forked from has ended"))
                future.exception()

    async def fork(self, **order: object) -> tuple[int, asyncio.Future[int]]:
        """Start an agent: its process, and the future of its exit code, negative for a signal."""
        assert self._process.stdin is not None
        id_ = next(self._ids)
        loop = asyncio.get_running_loop()
        self.started[id_], self.ended[id_] = loop.create_future(), loop.create_future()
        self._process.stdin.write(json.dumps({"id": id_, **order}).encode() + b"\n")
        return await self.started[id_], self.ended[id_]


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Zygote]:
    """A zygote; its agents end with it."""
    pipe = asyncio.subprocess.PIPE
    root = str(pathlib.Path(__file__).resolve().parents[2])
    environment = {**process.ENVIRONMENT, "PYTHONPATH": root}
    its = await asyncio.create_subprocess_exec(*_COMMAND, stdin=pipe, stdout=pipe, env=environment, cwd=root)
    made = Zygote(its)
    reading = asyncio.create_task(made.read())
    try:
        yield made
    finally:
        assert its.stdin is not None
        its.stdin.close()
        await its.wait()
        await reading


class Agent(process.Agent):
    """A fork. With `last` it ends with SIGKILL at that step."""

    def __init__(
        self,
        its: process.Machine,
        zygote: Zygote,
        *options: str,
        name: str,
        last: steps.Step | None = None,
    ) -> None:
        super().__init__(its, *options, name=name)
        self._zygote = zygote
        self._journal = its.folder / f"{name}.steps"
        self._order = {
            "arguments": self._arguments,
            "log": str(self._log),
            "action": str(its.folder / "action"),
            "journal": str(self._journal),
            "last": "" if last is None else str(last),
        }
        self._pid = 0
        self.ended: asyncio.Future[int] | None = None

    async def start(self) -> None:
        """As `process.Agent.start`."""
        self._pid, self.ended = await self._zygote.fork(**self._order)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """As `process.Agent.stop`."""
        assert self.ended is not None
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)
        async with asyncio.timeout(process.PATIENCE):
            return await asyncio.shield(self.ended)

    async def kill(self) -> None:
        """As `process.Agent.kill`."""
        if self.ended is not None:
            await self.stop(signal.SIGKILL)

    def steps(self) -> list[steps.Step]:
        """The steps that it came to, in their order."""
        return [steps.Step.parse(line.partition("\t")[0]) for line in self._lines()]

    def writes(self) -> list[tuple[str, str, str]]:
        """Group, file and text of each write that it came to, in their order."""
        found = []
        for line in self._lines():
            step, _, what = line.partition("\t")
            if what and steps.Step.parse(step).kind == "write":
                path, _, rest = what.partition(" ")
                file, _, text = rest.partition(" ")
                found.append((path, file, text))
        return found

    def _lines(self) -> list[str]:
        return self._journal.read_text().splitlines()

    def _has_ended(self) -> bool:
        return self.ended is not None and self.ended.done()
