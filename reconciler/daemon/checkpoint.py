"""The checkpoint on disk: written whole or not at all, and set aside where it cannot be used. I/O.

A new one is written beside the old, made durable and renamed: whoever is killed at any moment leaves the one
or the other. What documents say is `policy.checkpoint`'s matter; when they are written is `saving`'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterable

from reconciler import errors
from reconciler.policy import checkpoint

_MODE = 0o600
_KEPT = 3
"""Unusable checkpoints that are kept for each reason."""
_BREATH = 50e-6
"""Seconds between two pieces, in which a hook that waits for the interpreter gets it."""
_BOOT_ID = "proc/sys/kernel/random/boot_id"
_MACHINE_ID = "etc/machine-id"


def origin(host_root: str) -> checkpoint.Origin:
    """The host below `host_root`, as of now."""
    return checkpoint.Origin(machine=_word(host_root, _MACHINE_ID), boot=_word(host_root, _BOOT_ID))


def _word(host_root: str, path: str) -> str:
    try:
        with open(os.path.join(host_root, path), encoding="ascii", errors="replace") as file:
            return file.read(128).strip()
    except OSError:
        return ""


class Disk:
    """The steps of a write, each a call of its own. Raise OSError."""

    def create(self, path: str) -> int:
        """The descriptor of a file at `path` that is empty and only ours to read."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, _MODE)
        os.fchmod(descriptor, _MODE)
        return descriptor

    def write(self, descriptor: int, piece: bytes) -> None:
        """Write all of the piece."""
        while piece:
            piece = piece[os.write(descriptor, piece) :]

    def sync(self, descriptor: int) -> None:
        """Make durable what was written to a file, or the names in a folder."""
        os.fsync(descriptor)

    def rename(self, before: str, after: str) -> None:
        """Put a file in the place of another."""
        os.replace(before, after)


_DISK = Disk()


def write(path: str, pieces: Iterable[bytes], disk: Disk = _DISK) -> None:
    """Put a document in the place of the one at `path`. Raises HostFileError; then the old one is there."""
    fresh = f"{path}.new"
    try:
        _write(fresh, path, pieces, disk)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise _host_file_error(path, "write", error) from error


def _write(fresh: str, path: str, pieces: Iterable[bytes], disk: Disk) -> None:
    descriptor = disk.create(fresh)
    try:
        for piece in pieces:
            disk.write(descriptor, piece)
            time.sleep(_BREATH)
        disk.sync(descriptor)
    finally:
        os.close(descriptor)
    disk.rename(fresh, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.sync(folder)
    finally:
        os.close(folder)


def read(path: str, machine: str) -> checkpoint.Saved | None:
    """What the checkpoint at `path` says, None where there is none.

    Raises Unusable for what is no checkpoint of this machine, and HostFileError for what cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise checkpoint.Unusable(path, "is a symbolic link") from error
        raise _host_file_error(path, "read", error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise checkpoint.Unusable(path, "is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            text = file.read(checkpoint.LIMIT + 1)
    except OSError as error:
        raise _host_file_error(path, "read", error) from error
    finally:
        os.close(descriptor)
    return checkpoint.decode(text, machine=machine)


def set_aside(path: str, reason: str) -> str:
    """Rename what is at `path`, whatever it is; its new name. Of each reason the last three are kept.

    Raises HostFileError where it has to stay.
    """
    names = [f"{path}.{reason}", *(f"{path}.{reason}.{number}" for number in range(2, _KEPT + 1))]
    try:
        free = [name for name in names if not os.path.lexists(name)]
        name = free[0] if free else min(names, key=lambda its: os.lstat(its).st_ctime_ns)
        os.replace(path, name)
    except OSError as error:
        raise _host_file_error(path, "set aside", error) from error
    return name


def _host_file_error(path: str, action: str, error: OSError) -> errors.HostFileError:
    return errors.HostFileError(path, action, error.errno or 0, error.strerror or str(error))
