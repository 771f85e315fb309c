"""The system's journal, for a program that has no standard error. I/O: one datagram a record.

systemd's own protocol where its journal listens, else syslog's. It never waits: records that are not taken at
once go out before the next one; what there is no room for is counted, and the count takes its place.
"""

from __future__ import annotations

import datetime as dt
import errno
import functools
import json
import os
import socket
import struct
import threading
from collections import deque

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
ROOM = 1000
"""Records that may wait."""
_DAEMON = 3
"""syslog's facility of daemons."""
_WARNING = 4
_LAST = 0.5
"""Seconds for which the last records may be waited for."""
_NOBODY = (errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED)
_LATER = (errno.EAGAIN, errno.ENOBUFS)


class Journal:
    """Takes lines by level, as structlog gives them to the logger that it wraps. From any thread."""

    def __init__(self, identifier: str, *, journal: str = JOURNAL, syslog: str = SYSLOG) -> None:
        """`identifier` is what `journalctl --identifier` knows the records by."""
        self._identifier = identifier
        self._journal = journal
        self._syslog = syslog
        self._waiting: deque[tuple[int, str]] = deque()
        self._lost = 0
        self._one_at_a_time = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def close(self) -> None:
        """Send what waits, each if it is taken within half a second, and give the socket back."""
        with self._one_at_a_time, self._socket:
            if self._socket.fileno() >= 0:
                self._socket.settimeout(_LAST)
                self._drain()

    def _take(self, priority: int, line: str) -> None:
        with self._one_at_a_time:
            self._drain()
            if len(self._waiting) >= ROOM:
                self._lost += 1
                return
            self._tell_of_lost()
            self._waiting.append((priority, line))
            self._drain()

    # The names are structlog's, the numbers syslog's (RFC 5424, 6.2.1).
    debug = functools.partialmethod(_take, 7)
    info = functools.partialmethod(_take, 6)
    warning = functools.partialmethod(_take, _WARNING)
    error = functools.partialmethod(_take, 3)
    critical = functools.partialmethod(_take, 2)

    def _tell_of_lost(self) -> None:
        if self._lost:
            stamp = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
            record = {"event": "log.lost", "records": self._lost, "level": "warning", "timestamp": stamp}
            self._waiting.append((_WARNING, json.dumps(record)))
            self._lost = 0

    def _drain(self) -> None:
        """Send until nothing waits, or nothing more is taken. What can never be sent counts as lost."""
        while self._waiting:
            try:
                self._send(*self._waiting[0])
            except OSError as error:
                if error.errno in _LATER or error.errno in _NOBODY or isinstance(error, TimeoutError):
                    return
                self._lost += 1
            self._waiting.popleft()

    def _send(self, priority: int, line: str) -> None:
        try:
            self._socket.sendto(native(self._identifier, priority, line), self._journal)
        except OSError as error:
            if error.errno not in _NOBODY:
                raise
            head = f"<{_DAEMON * 8 + priority}>{self._identifier}[{os.getpid()}]: "
            self._socket.sendto((head + line).encode(errors="replace"), self._syslog)


def native(identifier: str, priority: int, line: str) -> bytes:
    """A record in systemd's protocol, its text with its length before it, so that it may hold anything
    (systemd.io, "Native Journal Protocol")."""
    text = line.encode(errors="replace")
    fields = f"PRIORITY={priority}\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE\n".encode()
    return fields + struct.pack("<Q", len(text)) + text + b"\n"
