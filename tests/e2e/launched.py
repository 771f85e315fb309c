"""The agent as the runtime starts it from its plugin directory: its log is the journal's."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from typing import Any

import psutil

from reconciler.cli import launched as by_runtime
from tests.e2e import agent as agents
from tests.e2e import systemd


class Launched(agents.Agent):
    """The agent that the runtime starts. Its log is the journal's."""

    def __init__(self, since: float | None = None) -> None:
        """`since` is when its log begins, in seconds since 1970; by default, now."""
        super().__init__()
        self._since = time.time() if since is None else since

    def start_runtime(self) -> None:
        """Have the runtime start it."""
        systemd.systemctl("restart", "containerd.service")

    def entries(self) -> list[dict[str, Any]]:
        """The journal's entries of it."""
        command = ["journalctl", "--no-pager", "--output=json", f"--identifier={by_runtime.IDENTIFIER}"]
        said = systemd.run(*command, f"--since=@{self._since:.6f}")
        return [json.loads(line) for line in said.splitlines()]

    def process(self) -> psutil.Process:
        """The process that wrote the newest entry."""
        return psutil.Process(int(self.entries()[-1]["_PID"]))

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(str(entry["MESSAGE"]) for entry in self.entries()[-12:])

    def _records(self) -> Iterator[dict[str, Any]]:
        for entry in self.entries():
            yield json.loads(entry["MESSAGE"])

    def seconds_to_register(self) -> float:
        """From the start of its process to the runtime's `Configure`."""
        entry = next(entry for entry in self.entries() if "mode.changed" in entry["MESSAGE"])
        at = dt.datetime.fromisoformat(json.loads(entry["MESSAGE"])["timestamp"])
        return at.timestamp() - psutil.Process(int(entry["_PID"])).create_time()
