"""The log's way out: a file, a pipe or a socket that may be full, closed or not read. I/O: writes to it.

Never waits and never raises: records are written in the event loop and between the steps of a pass, and
whoever does not read the log must hold up neither. What cannot be written waits, as much as there is room
for, and goes out with the next record; what there is no room for is counted, and the count takes its place.
"""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO, cast

_PIECE = 4096
"""Bytes that a pipe or a socket which can be written to takes at once (pipe(7), PIPE_BUF)."""
ROOM = 1 << 18
"""Bytes of records that may wait: several hundred records."""


def standard_error(told: Callable[[int], str]) -> TextIO | None:
    """Standard error as an outlet; None where it is closed, and itself where it is no descriptor."""
    stream: TextIO | None = sys.stderr
    if stream is None:
        return None
    try:
        return cast("TextIO", Outlet(stream.fileno(), told))
    except io.UnsupportedOperation:
        return stream


class Outlet:
    """Writes to one descriptor, which stays whose it is. From any thread."""

    def __init__(self, descriptor: int, told: Callable[[int], str], *, room: int = ROOM) -> None:
        """`told` is the line that says how many records were lost."""
        self._descriptor = descriptor
        self._told = told
        self._room = room
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._one_at_a_time = threading.Lock()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, text: str) -> int:
        """Write a record, with its end of line, now or later; gives the characters of `text`."""
        with self._one_at_a_time:
            self._drain()
            self._add(text)
            self._drain()
        return len(text)

    def flush(self) -> None:
        """Write what waits, as far as that can be done at once."""
        with self._one_at_a_time:
            self._drain()

    def _add(self, text: str) -> None:
        if self._size > self._room:
            self._lost += 1
            return
        if self._lost:
            text = f"{self._told(self._lost)}\n{text}"
            self._lost = 0
        record = text.encode(errors="backslashreplace")
        self._waiting.append(record)
        self._size += len(record)

    def _drain(self) -> None:
        """Write until nothing waits or is taken any more. A record that is half out goes on first."""
        while self._waiting:
            record = self._waiting[0]
            written = self._put(record[:_PIECE])
            if not written:
                return
            self._size -= written
            if written < len(record):
                self._waiting[0] = record[written:]
            else:
                self._waiting.popleft()

    def _put(self, piece: bytes) -> int:
        """How many bytes were taken, 0 where that would have to be waited for or cannot be."""
        try:
            return os.write(self._descriptor, piece) if self._poll.poll(0) else 0
        except OSError:
            return 0
