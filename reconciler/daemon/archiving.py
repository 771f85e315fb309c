"""When drifts are written to disk: in batches, in a thread, never in a hook or a pass. On asyncio.

What cannot be written waits in memory as far as there is room and is tried again; the agent goes on without.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from reconciler import errors
from reconciler.daemon import archive, archived, history

PAUSE = 1.0
"""Seconds between two batches at least."""
SHARE = 20
"""Of this many parts of its time, the agent spends at most one on writing."""
FIRST_RETRY = 1.0
LAST_RETRY = 60.0
"""Seconds before a batch that failed is tried again; they double from the first to the last."""


Event = Literal["history.set-aside", "history.failed", "history.saved"]


class Tell(Protocol):
    """Is told what becomes of the history."""

    def archive(self, event: Event, **fields: object) -> None:
        """It could not be used and has another name now; it could not be written, for the first time or for
        another reason than before; it was written after that."""


class Archiving:
    """Writes the rows of a history, and reads them. From any thread, one at a time."""

    def __init__(  # noqa: PLR0913  what it writes where, and by which clocks
        self,
        path: str,
        rows: history.History,
        tell: Tell,
        *,
        make: Callable[[str, int], archive.Archive] = archive.Archive,
        epoch: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make` opens the file at a path, for the agent that started at so many milliseconds since the
        epoch, which `epoch` gives in seconds; `monotonic` times the writing."""
        self._path = path
        self._rows = rows
        self._tell = tell
        self._make = make
        self._monotonic = monotonic
        self._run = int(epoch() * 1000)
        self._archive: archive.Archive | None = None
        self._pause = PAUSE
        self._why = ""
        self._one_at_a_time = threading.Lock()

    def document(self) -> Mapping[str, object]:
        """What status says of it: `reason` is why it is not written, "" where it is."""
        return {"path": self._path, "reason": self._why, "lost": self._rows.lost}

    async def serve(self, *, dry: bool = False) -> None:
        """Write whenever there is something new, until cancelled. A file that is there is looked at first,
        unless `dry`: then nothing is ever new."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        if not dry:
            wake.set()
        self._rows.on_change = lambda: loop.call_soon_threadsafe(wake.set)
        try:
            while True:
                await wake.wait()
                wake.clear()
                try:
                    await asyncio.to_thread(self.write, look=self._archive is None)
                except RuntimeError as error:
                    self._failed(f"{error}; raise the limit of tasks")
                if self._why:
                    wake.set()
                await asyncio.sleep(self._pause)
        finally:
            self._rows.on_change = lambda: None

    async def answer(self, asked: archived.Query) -> archived.Page:
        """The rows of the file, after what waits has been written. Raises as `archived.read` does."""

        def answer() -> archived.Page:
            self.write()
            return archived.read(self._path, asked, run=self._run)

        return await asyncio.to_thread(answer)

    def finish(self) -> None:
        """Write what waits, and close the file."""
        self.write()
        with self._one_at_a_time:
            self._close()

    def write(self, *, look: bool = False) -> None:
        """Write what waits; with `look`, see to it that a file that is there can be used, in any case."""
        with self._one_at_a_time:
            rows = self._rows.take()
            begin = self._monotonic()
            try:
                if rows or look:
                    self._put(rows)
            except errors.ReconcilerError as error:
                self._take_back(rows, str(error))
            except Exception as error:  # noqa: BLE001  whatever it is, the agent must not end for it
                self._take_back(rows, f"{type(error).__name__}: {error}")
            else:
                self._pause = max(PAUSE, SHARE * (self._monotonic() - begin))
                if self._why:
                    self._why = ""
                    self._tell.archive("history.saved", path=self._path, lost=self._rows.lost)

    def _put(self, rows: Sequence[history.Row]) -> None:
        """Write these rows; into a new file where the old one cannot be used."""
        try:
            self._open(rows)
        except archive.Unusable as unusable:
            self._close()
            kept = archive.set_aside(self._path, unusable.reason)
            self._tell.archive("history.set-aside", path=self._path, kept=kept, reason=str(unusable))
            self._open(rows)

    def _open(self, rows: Sequence[history.Row]) -> None:
        if self._archive is not None and not self._archive.is_current:
            self._close()
        if not rows and not archive.is_there(self._path):
            return
        if self._archive is None:
            self._archive = self._make(self._path, self._run)
        self._archive.write(rows)

    def _close(self) -> None:
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def _take_back(self, rows: Sequence[history.Row], why: str) -> None:
        self._close()
        self._rows.give_back(rows)
        self._failed(why)

    def _failed(self, why: str) -> None:
        if why != self._why:
            self._tell.archive("history.failed", path=self._path, reason=why)
        self._pause = min(max(FIRST_RETRY, self._pause * 2), LAST_RETRY) if self._why else FIRST_RETRY
        self._why = why
