"""When the checkpoint is read and written: at the start, soon after each change, and at the end. On asyncio.

A burst of changes is written once, in a thread: no hook waits for a disk. What cannot be written is tried
again, and the agent goes on without.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from reconciler import errors
from reconciler.daemon import checkpoint as disk
from reconciler.policy import checkpoint, restoring, state

BURST = 0.01
"""Seconds between a change and its being written, in which others can join it."""
PAUSE = 0.1
"""Seconds between two writes at least."""
SHARE = 20
"""Of this many parts of its time, the agent spends at most one on writing."""
FIRST_RETRY = 1.0
LAST_RETRY = 60.0
"""Seconds before a write that failed is tried again; they double from the first to the last."""


class Tell(Protocol):
    """Is told what becomes of the checkpoint."""

    def checkpoint_restored(
        self, path: str, saved: checkpoint.Saved, misfits: Sequence[restoring.Misfit], *, rebooted: bool
    ) -> None:
        """The ledger of a checkpoint was taken over, but for some claims."""

    def checkpoint_set_aside(self, path: str, kept: str, reason: str) -> None:
        """A checkpoint cannot be used, and is now called `kept`, "" if it has to stay."""

    def checkpoint_failed(self, path: str, reason: str) -> None:
        """A write failed, for the first time or for another reason than before."""

    def checkpoint_saved(self, path: str) -> None:
        """A write succeeded after one that had failed."""


def restore(
    path: str, origin: checkpoint.Origin, terms: state.Terms, tell: Tell, *, dry: bool = False
) -> checkpoint.Saved | None:
    """What the checkpoint at `path` says, as far as it fits this machine; None where there is none to use.

    One that cannot be used is set aside, unless `dry`. Never raises.
    """
    try:
        saved = disk.read(path, origin.machine)
    except checkpoint.Unusable as unusable:
        _set_aside(path, unusable.reason, str(unusable), tell, dry=dry)
        return None
    except errors.HostFileError as error:
        _set_aside(path, "unreadable", str(error), tell, dry=dry)
        return None
    if saved is None:
        return None
    ledger, misfits = restoring.fit(saved.ledger, terms)
    saved = dataclasses.replace(saved, ledger=ledger)
    tell.checkpoint_restored(path, saved, misfits, rebooted=saved.origin.boot != origin.boot)
    return saved


def _set_aside(path: str, reason: str, why: str, tell: Tell, *, dry: bool) -> None:
    kept = ""
    if not dry:
        try:
            kept = disk.set_aside(path, reason)
        except errors.HostFileError as error:
            why = f"{why}; {error}"
    tell.checkpoint_set_aside(path, kept, why)


class Saver:
    """Writes the checkpoint of a running agent."""

    def __init__(
        self,
        path: str,
        origin: checkpoint.Origin,
        now: Callable[[], state.State | None],
        tell: Tell,
        *,
        write: Callable[[str, Iterable[bytes]], None] | None = disk.write,
    ) -> None:
        """`now` gives the state, or None while it may still be taken back or is not complete. `write` None:
        a dry run."""
        self._path = path
        self._origin = origin
        self._now = now
        self._tell = tell
        self._write = write
        self._changed = asyncio.Event()
        self._pause = PAUSE
        self._written: state.State | None = None
        self._why = "a dry run writes none" if write is None else ""
        self._has_failed = False
        self._one_at_a_time = threading.Lock()

    def changed(self) -> None:
        """The ledger is another one: let it be written soon."""
        self._changed.set()

    def document(self) -> Mapping[str, object]:
        """What status says of it: whether what the agent knows now is on the disk, or why it is not."""
        now = self._now()
        saved = now is not None and self._is_written(now)
        return {
            "path": self._path,
            "saved": saved,
            "reason": "" if saved else self._why or "it is written as soon as what is under way is done",
        }

    async def serve(self) -> None:
        """Write whenever something has changed, until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(BURST)
            now = self._now()
            if now is not None:
                self._changed.clear()
                if self._is_written(now):
                    continue
                try:
                    await asyncio.to_thread(self._save, now)
                except RuntimeError as error:
                    self._failed(f"{error}; raise the limit of tasks")
                if self._has_failed:
                    self._changed.set()
            await asyncio.sleep(self._pause)

    def finish(self) -> None:
        """Write what has not been written yet, at once."""
        now = self._now()
        if now is not None:
            self._save(now)

    def _save(self, now: state.State) -> None:
        with self._one_at_a_time:
            if self._write is None or self._is_written(now):
                return
            begin = time.monotonic()
            try:
                self._write(self._path, checkpoint.encode(now, self._origin))
            except errors.HostFileError as error:
                self._failed(str(error))
                return
            except Exception as error:  # noqa: BLE001  whatever it is, the agent must not end for it
                self._failed(f"{type(error).__name__}: {error}")
                return
            self._pause = max(PAUSE, SHARE * (time.monotonic() - begin))
            self._written = now
            self._why = ""
        if self._has_failed:
            self._has_failed = False
            self._tell.checkpoint_saved(self._path)

    def _is_written(self, now: state.State) -> bool:
        was = self._written
        if was is None or was.ledger is not now.ledger:
            return False
        return was.inventory.leftovers.lingering == now.inventory.leftovers.lingering

    def _failed(self, why: str) -> None:
        if why != self._why:
            self._tell.checkpoint_failed(self._path, why)
        self._why = why
        self._pause = min(max(FIRST_RETRY, self._pause * 2), LAST_RETRY) if self._has_failed else FIRST_RETRY
        self._has_failed = True
