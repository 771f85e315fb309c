"""Counts an agent's steps from within its process, and ends it at one of them with SIGKILL. I/O.

A step is a write to a cgroup, an answer to the runtime, what the runtime is seen to have done where it asks
nothing (over CRI), or a part of a write of the checkpoint. It has a moment before and one after; between two
parts of one checkpoint these are the same, so there is only the one before, and one in the middle of a piece.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from reconciler.daemon import checkpoint, polling, saving
from reconciler.runtime.nri import connection
from reconciler.sim import kernel


class Step(NamedTuple):
    """The `number`-th step of a kind within one action of the script, and the moment: `before`, `half` or
    `after`."""

    action: int
    kind: str
    number: int
    moment: str

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.number} {self.moment}"

    @classmethod
    def parse(cls, text: str) -> Step:
        """What `str` gave."""
        action, kind, number, moment = text.split(" ")
        return cls(int(action), kind, int(number), moment)


class Steps:
    """Writes each step down as it comes, a line each, and dies at the one that it was told."""

    def __init__(self, action: str, journal: str, last: Step | None) -> None:
        """`action` is a file with the number of the action under way, `journal` is where the lines go."""
        self._action = os.open(action, os.O_RDONLY | os.O_CLOEXEC)
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._last = last
        self._counts: Counter[tuple[int, str]] = Counter()
        self._one_at_a_time = threading.Lock()

    def begin(self, kind: str, what: str = "") -> Step:
        """Number a step, and let its first moment be now; `what` is written down with it."""
        with self._one_at_a_time:
            action = int(os.pread(self._action, 16, 0))
            self._counts[action, kind] += 1
            step = Step(action, kind, self._counts[action, kind], "before")
        self.reach(step, what=what)
        return step

    def reach(self, step: Step, moment: str = "before", what: str = "") -> None:
        """This moment of a step is now."""
        step = step._replace(moment=moment)
        os.write(self._journal, f"{step}\t{what}\n".encode())
        if step == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Have everything in this process that is a step come here. Pauses that only spare the disk end."""
        self._both(kernel.SimulatedCgroupfs, "write", "write", what=lambda _, *words: " ".join(words))
        self._both(connection.Connection, "_send", "answer")
        self._told(polling.Polling, "_tell_agent", "event")
        for name in ("create", "sync", "rename"):
            self._first(checkpoint.Disk, name, "checkpoint")
        self._piece(checkpoint.Disk, "write", "checkpoint")
        self._last_of(checkpoint, "write", "checkpoint")
        _put(saving, "PAUSE", 0.0)
        _put(saving, "SHARE", 0)
        _put(polling, "_GAP", 0.005)
        _put(polling, "Runtime", functools.partial(polling.Runtime, period=0.03))

    def _both(self, owner: object, name: str, kind: str, what: Callable[..., str] = lambda *_: "") -> None:
        done: Callable[..., Any] = getattr(owner, name)

        def do(*arguments: Any) -> None:
            step = self.begin(kind, what(*arguments))
            done(*arguments)
            self.reach(step, "after")

        _put(owner, name, do)

    def _told(self, owner: object, name: str, kind: str) -> None:
        done: Callable[..., Any] = getattr(owner, name)

        async def do(*arguments: Any) -> None:
            step = self.begin(kind)
            await done(*arguments)
            self.reach(step, "after")

        _put(owner, name, do)

    def _first(self, owner: object, name: str, kind: str) -> None:
        done: Callable[..., Any] = getattr(owner, name)

        def do(*arguments: Any) -> Any:
            self.begin(kind)
            return done(*arguments)

        _put(owner, name, do)

    def _piece(self, owner: object, name: str, kind: str) -> None:
        done: Callable[..., Any] = getattr(owner, name)

        def do(disk: object, descriptor: int, piece: bytes) -> None:
            step = self.begin(kind)
            middle = len(piece) // 2
            done(disk, descriptor, piece[:middle])
            self.reach(step, "half")
            done(disk, descriptor, piece[middle:])

        _put(owner, name, do)

    def _last_of(self, owner: object, name: str, kind: str) -> None:
        done: Callable[..., Any] = getattr(owner, name)

        def do(*arguments: Any) -> None:
            done(*arguments)
            self.begin(kind)

        _put(owner, name, do)


def _put(owner: object, name: str, value: object) -> None:
    """Replace what is there; a name that is not there any more is a mistake here."""
    assert hasattr(owner, name), name
    setattr(owner, name, value)
