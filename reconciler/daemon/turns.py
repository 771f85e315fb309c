"""Whose turn it is to be looked at: one after another, the same one after pauses that double. On asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from reconciler import events

PERIOD_SECONDS = 1.0
"""Between two turns, whosever they are."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0
"""Before the next turn of a container that has had one which counts; they double."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pause:
    """Until when a container has to wait for its next turn, and how long that is."""

    until: float
    seconds: float


class Turns:
    """A queue of containers, each in it once. `clock` gives monotonic seconds, of the loop that serves."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = lambda: 0.0
        self._wake = asyncio.Event()
        self._queue: dict[events.ContainerId, None] = {}
        self._pauses: dict[events.ContainerId, _Pause] = {}

    def add(self, ids: Iterable[events.ContainerId]) -> None:
        """Let these have a turn."""
        self._queue |= dict.fromkeys(ids)
        self._wake.set()

    def clear(self) -> None:
        """Let nobody have a turn."""
        self._queue.clear()

    async def next(self, within: float | None = None) -> events.ContainerId | None:
        """Whose turn it is; None where something has changed meanwhile, or `within` seconds have passed."""
        self._wake.clear()
        now = self.clock()
        id_ = min(self._queue, key=self._until, default=None)
        if id_ is not None and self._until(id_) <= now:
            del self._queue[id_]
            return id_
        waits = [] if within is None else [within]
        if id_ is not None:
            waits.append(self._until(id_) - now)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits, default=None)):
                await self._wake.wait()
        return None

    def hurry(self, ids: Iterable[events.ContainerId]) -> None:
        """Let these have a turn, and wait for no pause of their own."""
        hurried = tuple(ids)
        for id_ in hurried:
            self._pauses.pop(id_, None)
        if hurried:
            self.add(hurried)

    def pause(self, id_: events.ContainerId) -> None:
        """Let a container wait, twice as long as the last time unless that is long ago."""
        now, its = self.clock(), self._pauses.get(id_)
        seconds = FIRST_PAUSE_SECONDS
        if its is not None and now - its.until < LONGEST_PAUSE_SECONDS:
            seconds = min(its.seconds * 2, LONGEST_PAUSE_SECONDS)
        self._pauses[id_] = _Pause(until=now + seconds, seconds=seconds)

    def keep(self, known: Container[events.ContainerId]) -> None:
        """Forget all others."""
        for id_ in [id_ for id_ in (*self._pauses, *self._queue) if id_ not in known]:
            self._pauses.pop(id_, None)
            self._queue.pop(id_, None)

    def _until(self, id_: events.ContainerId) -> float:
        its = self._pauses.get(id_)
        return 0.0 if its is None else its.until
