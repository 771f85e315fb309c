"""The system's journal, for a program that has no standard error. I/O: one datagram a record.

systemd's own protocol where its journal listens, else syslog's. It never waits: a record that nobody takes is
counted, and the count is the next record.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import functools
import json
import os
import socket
import struct

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
_DAEMON = 3
"""syslog's facility of daemons."""
_MISSING = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR)


class Journal:
    """Takes lines by level, as structlog gives them to the logger that it wraps."""

    def __init__(self, identifier: str, *, journal: str = JOURNAL, syslog: str = SYSLOG) -> None:
        """`identifier` is what `journalctl --identifier` knows the records by."""
        self._identifier = identifier
        self._journal = journal
        self._syslog = syslog
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _take(self, priority: int, line: str) -> None:
        if self._lost:
            lost = {"event": "log.lost", "records": self._lost, "level": "warning", "timestamp": _now()}
            if not self._send(4, json.dumps(lost)):
                self._lost += 1
                return
        self._lost = 0 if self._send(priority, line) else 1

    # The names are structlog's, the numbers syslog's (RFC 5424, 6.2.1).
    debug = functools.partialmethod(_take, 7)
    info = functools.partialmethod(_take, 6)
    warning = functools.partialmethod(_take, 4)
    error = functools.partialmethod(_take, 3)
    critical = functools.partialmethod(_take, 2)

    def _send(self, priority: int, line: str) -> bool:
        """Whether somebody took it."""
        try:
            self._socket.sendto(native(self._identifier, priority, line), self._journal)
        except OSError as error:
            if error.errno not in _MISSING:
                return False
        else:
            return True
        head = f"<{_DAEMON * 8 + priority}>{self._identifier}[{os.getpid()}]: "
        with contextlib.suppress(OSError):
            self._socket.sendto((head + line).encode(errors="replace"), self._syslog)
            return True
        return False


def native(identifier: str, priority: int, line: str) -> bytes:
    """A record in systemd's protocol, its text with its length before it, so that it may hold anything
    (systemd.io, "Native Journal Protocol")."""
    text = line.encode(errors="replace")
    fields = f"PRIORITY={priority}\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE\n".encode()
    return fields + struct.pack("<Q", len(text)) + text + b"\n"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
