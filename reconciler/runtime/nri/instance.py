"""One instance per host: a lock file. Two connected instances would fail every creation of the node."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable

from reconciler import errors

_POLL = 0.25


@contextlib.asynccontextmanager
async def alone(
    path: str,
    *,
    on_wait: Callable[[str], None] = lambda _: None,
    poll: float = _POLL,
    within: float | None = None,
) -> AsyncIterator[None]:
    """Hold the lock file at `path`; wait for it as long as another process or plugin holds it.

    `on_wait` is told once, in one sentence, if there is something to wait for; `poll` is the pause between
    two attempts, and `within` the time after which it is given up, in seconds. The kernel releases the lock
    when the process ends, however it ends. Raises Usage where there is no such file, and none can be made,
    and Retryable when time is up.
    """
    descriptor = _open(path)
    try:
        async with _limit(path, within):
            await _acquire(descriptor, path, on_wait, poll)
        yield
    finally:
        os.close(descriptor)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        # One from before, in a folder that cannot be written any more, can be held as well.
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        raise errors.Usage(f"the lock file {path} cannot be opened: {error.strerror}") from error


@contextlib.asynccontextmanager
async def _limit(path: str, within: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(within):
            yield
    except TimeoutError as error:
        why = f"another instance holds {path} and did not end within {within:g} s: it serves this node"
        raise errors.Retryable(why) from error


async def _acquire(descriptor: int, path: str, on_wait: Callable[[str], None], poll: float) -> None:
    told = False
    while not _try(descriptor):
        if not told:
            on_wait(f"another instance holds {path}; waiting for it to end")
            told = True
        await asyncio.sleep(poll)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
