"""The agent as a child process: its command line, its log, its end. I/O, on asyncio.

It is the program that runs on a node, started as on a node; only `--simulated` says that the tree is a plain
directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence

from reconciler import errors
from reconciler.sim import wording

COMMAND = (sys.executable, "-m", "reconciler.cli.main")
_LINE = 1 << 20
"""Bytes of the longest log line that is read."""
_GRACE = 5.0
"""Seconds that the agent has to end after SIGTERM."""
_KEPT = 5


class AgentError(errors.ReconcilerError):
    """The agent cannot be started, has ended, or does not answer."""


class Agent:
    """One agent. `on_record` gets each record of its log as it comes."""

    def __init__(self, command: Sequence[str], on_record: Callable[[wording.Record], None]) -> None:
        self._command = command
        self._on_record = on_record
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._other: list[str] = []
        self._fault: Exception | None = None

    async def start(self) -> None:
        """Start it, in a session of its own: a terminal's Ctrl-C is for the demo, which then stops it."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE,
                # Where this program was not installed for its interpreter, that would not find it again.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        except OSError as error:
            raise AgentError(f"the agent cannot be started: {self._command[0]}: {error.strerror}") from error
        self._reader = asyncio.create_task(self._read(self._process), name="demo: the agent's log")

    async def stop(self) -> int | None:
        """Stop it, gently first. Gives its exit code, negative for a signal; None if it never ran."""
        if self._process is None:
            return None
        for end in (self._process.terminate, self._process.kill):
            with contextlib.suppress(ProcessLookupError):
                end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await self._process.wait()
                    break
        if self._reader is not None:
            await self._reader
        return self._process.returncode

    def check_farewell(self) -> None:
        """Raises AgentError if it did not end well when it was told to stop."""
        code = None if self._process is None else self._process.returncode
        if code != 0:
            raise AgentError(
                f"the agent ended with exit code {code} when it was told to stop: {self._words()}"
            )

    def check(self) -> None:
        """Raises AgentError with its last words if it is not running, and what `on_record` raised."""
        if self._fault is not None:
            raise self._fault
        if self._process is None or self._process.returncode is not None:
            code = None if self._process is None else self._process.returncode
            raise AgentError(f"the agent ended with exit code {code}: {self._words()}")

    def _words(self) -> str:
        return " / ".join(self._other) or "no further word"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Take its standard error line by line to the end; what is no record is kept for `check`."""
        assert process.stderr is not None  # noqa: S101  narrows the type
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:
                continue  # longer than _LINE: the stream reader has dropped it
            if not line:
                return
            self._take(line)

    def _take(self, line: bytes) -> None:
        record = parse(line)
        if record is None:
            self._other = [*self._other, line.decode(errors="replace").strip()][-_KEPT:]
            return
        try:
            self._on_record(record)
        except Exception as error:  # noqa: BLE001  the log has to be read on, or the agent blocks
            self._fault = self._fault or error


def parse(line: bytes) -> wording.Record | None:
    """A log line as a record; None for anything else, such as a traceback."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
