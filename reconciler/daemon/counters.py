"""What has happened since the agent's start, as plain numbers; metrics are made of them when asked for. Pure.

A hook costs one search among fixed bounds here, after its answer was sent. Each number is counted in one
thread; whoever reads them in another one reads a moment of each.
"""

from __future__ import annotations

import bisect
import errno
from collections.abc import Callable
from typing import TypeVar

from reconciler import errors
from reconciler.daemon import walk

_Key = TypeVar("_Key")

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds in seconds, of answers and of passes: a hook takes 0.1 ms, and a runtime waits 2 s."""
HOOKS = (
    "CreateContainer",
    "StartContainer",
    "UpdateContainer",
    "StopContainer",
    "RemoveContainer",
    "RunPodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
)
"""What is counted by name; the runtime decides what else it calls, and labels have to be few."""


class Histogram:
    """How many durations there were up to each of `BOUNDS`, and above; `total` is their sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Counters:
    """Implements `runtime.nri.handler.Meter` for the hooks; the others say what has happened."""

    def __init__(self) -> None:
        self.hooks = {name: Histogram() for name in HOOKS}
        self.guarded: dict[tuple[str, str], int] = {}
        """Answers of the guard, by request and by what it answered."""
        self.refusals: dict[tuple[str, str], int] = {}
        """By request and ground."""
        self.moves = 0
        self.passes = Histogram()
        self.writes = 0
        self.failed_writes: dict[str, int] = {}
        """By the name of the errno; `blocked` were not tried, for they needed CPUs that others still had."""
        self.mode_changes: dict[str, int] = {}
        self.nri_connections = 0
        self.nri_losses = 0
        self.nri_retries = 0
        self.cri_polls = 0
        self.cri_failures = 0
        self.checkpoint_writes = 0
        self.checkpoint_failures = 0
        self.checkpoint_written_at: float | None = None
        """Seconds since the epoch."""
        self.faults = 0

    def connected(self) -> None:
        """As `handler.Meter`."""
        self.nri_connections += 1

    def lost(self) -> None:
        """As `handler.Meter`."""
        self.nri_losses += 1

    def answered(self, hook: str, seconds: float) -> None:
        """As `handler.Meter`. A name that is none of `HOOKS` is not counted."""
        histogram = self.hooks.get(hook)
        if histogram is not None:
            histogram.add(seconds)

    def guard_answered(self, request: str, answer: str) -> None:
        """The guard has answered `create`, `start` or `update`: `refused`, `admitted` or `in-place`."""
        _one_more(self.guarded, (request, answer))

    def refused(self, request: str, ground: errors.Ground) -> None:
        """A request was refused: `create`, `start` or `update`."""
        _one_more(self.refusals, (request, ground))

    def mode_changed(self, mode: str) -> None:
        """Another door is open, or another runtime is behind it."""
        _one_more(self.mode_changes, mode)

    def passed(self, done: walk.Done) -> None:
        """A pass has been made."""
        self.passes.add(done.seconds)
        for result in done.results:
            if result.error is not None:
                _one_more(self.failed_writes, errno.errorcode.get(result.error.errno, "unknown"))
            elif result.blocked:
                _one_more(self.failed_writes, "blocked")
            else:
                self.writes += not result.gone

    def checkpointing(self, write: Callable[..., None], clock: Callable[[], float]) -> Callable[..., None]:
        """`write`, counted; `clock` gives seconds since the epoch."""

        def counted(*arguments: object) -> None:
            try:
                write(*arguments)
            except BaseException:
                self.checkpoint_failures += 1
                raise
            self.checkpoint_writes += 1
            self.checkpoint_written_at = clock()

        return counted


def _one_more(counts: dict[_Key, int], key: _Key) -> None:
    counts[key] = counts.get(key, 0) + 1
