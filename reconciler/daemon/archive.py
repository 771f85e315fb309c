"""The drifts on disk: one SQLite file, bounded, and set aside where it cannot be used. I/O.

It has a write-ahead log: a batch of rows costs no fsync, and whoever is killed at any moment leaves what was
there before the batch or after it. A power cut may take the last seconds, and leaves the rest whole. What a
row says is `history`'s matter, when rows are written `archiving`'s, and `archived` reads them. sqlite3 is
imported when it is used: it is 2 MiB, which a node without drift does not need.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from reconciler import errors
from reconciler.daemon import checkpoint, history

if TYPE_CHECKING:
    import sqlite3

MOST_ROWS = 20_000
LARGEST = 16 << 20
"""Bytes that rows take in the file at most. While it is written there may be a batch more, and beside it the
log, which is begun anew after 1 MiB and a batch."""
BATCH = 200
"""Rows written at once."""
_PATIENCE = 2.0
"""Seconds for which a lock is waited for, that somebody has who looks into the file with other tools."""
_LITTLE = 256 << 10
"""Bytes that a disk has left which is full: the log and its index want so many."""
_APPLICATION = 0x63707372
"""SQLite's field for whose file it is."""
_VERSION = 1
_COLUMNS = ("rev", "run", "number", "latest", "namespace", "pod", "row")
_SCHEMA = f"""
CREATE TABLE drifts (
    rev INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    latest REAL NOT NULL,
    namespace TEXT NOT NULL,
    pod TEXT NOT NULL,
    row TEXT NOT NULL,
    UNIQUE (run, number)
);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
"""
"""`rev` is another, greater one after each change of a row: the oldest of them is the row of which nothing
was heard for the longest."""
_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA wal_autocheckpoint = 256;
PRAGMA journal_size_limit = 1048576;
PRAGMA cache_size = -512;
PRAGMA trusted_schema = OFF;
"""
_PUT = """
INSERT OR REPLACE INTO drifts (run, number, latest, namespace, pod, row) VALUES (?, ?, ?, ?, ?, ?)
"""
TABLES = "SELECT count(*) FROM sqlite_master"
"""0 in a file that has been made and not written yet."""
_OLDEST = "DELETE FROM drifts WHERE rev IN (SELECT rev FROM drifts ORDER BY rev LIMIT ?)"


class Unusable(errors.ReconcilerError):
    """What is at the path is not the history of an agent of this version; `reason` is one word for it."""

    def __init__(self, path: str, reason: str, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.reason = reason


class Archive:
    """The file, open for writing by one thread at a time."""

    def __init__(self, path: str, run: int, *, most: int = MOST_ROWS, largest: int = LARGEST) -> None:
        """Makes the file where there is none. `run` tells the agents apart that have written, and ascends;
        there are at most so many rows, of that many bytes.

        Raises Unusable, and Retryable where it cannot be opened.
        """
        self._path = path
        self._run = run
        self._most = most
        self._largest = largest
        with failing(path, "open"):
            if not is_there(path):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._connection = connect(path, "rw")
        try:
            with failing(path, "open"):
                self._prepare()
        except errors.ReconcilerError:
            self.close()
            raise
        self._stamp = _stamp(path)

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one at its path."""
        return self._stamp == _stamp(self._path)

    def write(self, rows: Sequence[history.Row]) -> None:
        """Put rows in, in the place of what was known of the same drifts, and drop the oldest for it.

        Raises as the construction does; then some of them may be in.
        """
        for first in range(0, len(rows), BATCH):
            values = [self._values(row) for row in rows[first : first + BATCH]]
            with failing(self._path, "write"), _transaction(self._connection):
                self._connection.executemany(_PUT, values)
                self._trim()

    def close(self) -> None:
        """Write nothing any more."""
        self._connection.close()

    def _prepare(self) -> None:
        self._connection.executescript(_PRAGMAS)
        if not one(self._connection, TABLES):
            with _transaction(self._connection):
                for statement in _SCHEMA.split(";"):
                    self._connection.execute(statement)
        check(self._connection, self._path)
        [(found,)] = self._connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != "ok":
            raise Unusable(self._path, "damaged", f"is damaged: {found}")

    def _values(self, row: history.Row) -> tuple[object, ...]:
        names = (row.owner.get("namespace", ""), row.owner.get("pod", ""))
        text = json.dumps(row.document(), separators=(",", ":"), ensure_ascii=False)
        return (self._run, row.number, row.latest, *names, text)

    def _trim(self) -> None:
        count = one(self._connection, "SELECT count(*) FROM drifts")
        if count > self._most:
            self._connection.execute(_OLDEST, (count - self._most,))
        while count and _size(self._connection) > self._largest:
            self._connection.execute(_OLDEST, (count // 10 + 1,))
            count = one(self._connection, "SELECT count(*) FROM drifts")


def set_aside(path: str, reason: str) -> str:
    """Rename what is at `path` and its log; the new name. Of each reason the last three are kept.

    Raises HostFileError where it has to stay.
    """
    kept = checkpoint.set_aside(path, reason)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.replace(path + suffix, kept + suffix)
    return kept


def connect(path: str, mode: str) -> sqlite3.Connection:
    """The file, opened in one of SQLite's modes. Raises sqlite3.Error."""
    import sqlite3  # noqa: PLC0415  see above

    uri = f"file:{urllib.parse.quote(path)}?mode={mode}"
    return sqlite3.connect(
        uri, uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=8
    )


def check(connection: sqlite3.Connection, path: str) -> None:
    """Raises Unusable where the file is none of ours."""
    version = one(connection, "PRAGMA user_version")
    if one(connection, "PRAGMA application_id") != _APPLICATION:
        raise Unusable(path, "foreign", "is no history of drifts")
    if version > _VERSION:
        raise Unusable(path, "newer", f"is of version {version}, and this program knows {_VERSION}")
    columns = tuple(name for _, name, *_ in connection.execute("PRAGMA table_info(drifts)"))
    if columns != _COLUMNS:
        raise Unusable(path, "foreign", f"has a table of other columns: {', '.join(columns) or 'none'}")


def one(connection: sqlite3.Connection, sql: str) -> int:
    """The number that is all that this gives."""
    [value] = connection.execute(sql).fetchone()
    return int(value)


def _size(connection: sqlite3.Connection) -> int:
    pages = one(connection, "PRAGMA page_count") - one(connection, "PRAGMA freelist_count")
    return pages * one(connection, "PRAGMA page_size")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def failing(path: str, action: str) -> Iterator[None]:
    """Raises Unusable where the file is to blame, and Retryable for all else."""
    import sqlite3  # noqa: PLC0415  see above

    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise Unusable(path, "damaged", f"is damaged: {error}") from error
        raise errors.Retryable(f"{action} {path}: {error}{_hint(path)}") from error
    except OSError as error:
        raise errors.Retryable(f"{action} {path}: {error.strerror}") from error


def _hint(path: str) -> str:
    """What SQLite does not say of an I/O error."""
    with contextlib.suppress(OSError):
        its = os.statvfs(os.path.dirname(path) or ".")
        if its.f_bavail * its.f_frsize < _LITTLE:
            return f" ({os.strerror(errno.ENOSPC)})"
    return ""


def is_there(path: str) -> bool:
    """Whether the file is there. Raises Unusable where something else is, and Retryable where nobody can say.

    It is not opened for that: the locks of a process on a file end when any descriptor of it is closed.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise errors.Retryable(f"open {path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise Unusable(path, "foreign", "is no regular file")
    return True


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        its = os.stat(path)
    except OSError:
        return None
    return its.st_dev, its.st_ino
