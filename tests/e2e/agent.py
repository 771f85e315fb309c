"""The agent as a node has it: a service of systemd, asked over its socket, judged by its log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import yaml

from reconciler import errors
from reconciler.daemon import api, options
from tests.e2e import node, place

UNIT = "cpuset-reconciler.service"
_PATIENCE = 60.0
"""Seconds for anything that the emulated node does within a few."""
_FOLDER = pathlib.Path("/run/e2e")


class Agent:
    """One installation of the agent. `start` and `stop` as often as wanted; `forget` makes it a new one."""

    def __init__(
        self,
        config: dict[str, object] | None = None,
        *,
        source: str = "auto",
        properties: Sequence[str] = (),
    ) -> None:
        """`source` is its door to the runtime, `properties` what its service has besides, as in a unit."""
        self.properties = tuple(properties)
        self.mode = place.DOOR if source == "auto" else source
        """How it must be connected to count as settled."""
        self._source = source
        _FOLDER.mkdir(exist_ok=True)
        self.log = _FOLDER / "agent.jsonl"
        self._config = _FOLDER / "config.yaml"
        self._config.write_text(yaml.safe_dump(config or {}))

    def forget(self) -> None:
        """Remove its state and log, as if it had never been here."""
        shutil.rmtree(options.STATE_DIR, ignore_errors=True)
        self.log.write_text("")

    async def start(self) -> None:
        """Start it and wait until it is connected to the runtime and converged."""
        self.launch()
        await self.until_converged()

    def launch(self) -> None:
        """Start it without waiting."""
        for folder in (options.STATE_DIR, os.path.dirname(options.API_SOCKET)):
            os.makedirs(folder, exist_ok=True)
        environment = [f"--setenv={name}={os.environ[name]}" for name in ("PATH", "PYTHONPATH")]
        service = ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", *environment]
        service += [
            f"--property=StandardError=append:{self.log}",
            f"--property=StandardOutput=append:{self.log}",
            *(f"--property={its}" for its in self.properties),
        ]
        program = [sys.executable, "-m", "reconciler.cli.main", "run"]
        options_ = ["--config", str(self._config), "--source", self._source]
        subprocess.run([*service, *program, *options_], check=True)

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        subprocess.run(["systemctl", "stop", UNIT], check=False, capture_output=True)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        subprocess.run(["systemctl", "kill", "--signal=SIGKILL", UNIT], check=True)
        until = time.monotonic() + _PATIENCE
        while self.active():
            assert time.monotonic() < until, "the agent outlived SIGKILL"
            time.sleep(0.1)

    def active(self) -> bool:
        """Whether systemd has it running or ending."""
        asked = subprocess.run(["systemctl", "is-active", UNIT], capture_output=True, text=True, check=False)
        return asked.stdout.strip() in ("active", "activating", "deactivating")

    async def status(self) -> dict[str, Any]:
        """The status document. Raises Retryable where the agent does not answer."""
        return await api.ask(options.API_SOCKET, {"request": "status"})

    async def until_converged(self) -> dict[str, Any]:
        """Wait for an answer that says so, in its mode; that status."""
        until = time.monotonic() + _PATIENCE
        last: object = None
        while time.monotonic() < until:
            try:
                last = document = await self.status()
            except errors.Retryable as error:
                last = error
            else:
                if document["converged"] and document["mode"] == self.mode:
                    return document
            await asyncio.sleep(0.1)
        raise AssertionError(f"not converged after {_PATIENCE:g} s: {last}; log ends: {self.tail()}")

    async def until_exclusive(self, cpus: str) -> None:
        """Wait until exactly these CPUs are exclusive."""
        until = time.monotonic() + _PATIENCE
        while (has := (await self.status())["pools"]["exclusive"]) != cpus:
            assert time.monotonic() < until, f"exclusive are {has!r}, not {cpus!r}; log ends: {self.tail()}"
            await asyncio.sleep(0.1)

    def records(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The log records of a kind, oldest first, that have these fields."""
        return [
            record
            for record in self._records()
            if record.get("event") == event and all(record.get(key) == value for key, value in fields.items())
        ]

    async def until_logged(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for a record of a kind; the newest."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            if found := self.records(event, **fields):
                return found[-1]
            await asyncio.sleep(0.1)
        raise AssertionError(f"no {event} with {fields} in {_PATIENCE:g} s; log ends: {self.tail()}")

    def keep_log(self, name: str) -> None:
        """Lay its log among the results of the run."""
        folder = pathlib.Path(os.environ["RESULTS"]) / "agent"
        folder.mkdir(exist_ok=True)
        shutil.copy(self.log, folder / f"{name.replace('/', '_')[:120]}.jsonl")

    def tail(self) -> str:
        """The end of its log, but for passes that found nothing."""
        told = [record for record in self._records() if record.get("differences") != 0]
        return "\n".join(map(json.dumps, told[-12:]))

    def _records(self) -> Iterator[dict[str, Any]]:
        for line in self.log.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


@contextlib.asynccontextmanager
async def running(it: Agent, machine: node.Node, name: str) -> AsyncIterator[Agent]:
    """The agent, fresh, connected and converged. Afterwards the node has no pods, and its log, under `name`,
    is among the results."""
    it.forget()
    await it.start()
    try:
        yield it
    finally:
        try:
            await machine.clear()
        finally:
            it.stop()
            it.keep_log(name)
