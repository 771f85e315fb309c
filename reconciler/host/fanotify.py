"""Who writes to the files of a file system: one mark on all of it, events with pids. I/O: fanotify.

The mark covers every mount of it: a container writes through a mount of its own, in which the same file has
another path. So a file is known by its inode number, which in a cgroup2 tree no other file has, or had before
it (the id of a kernfs node). Needs CAP_SYS_ADMIN, and Linux 4.20 for marks on file systems
(fanotify_mark(2)). `parse` is pure.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from reconciler import errors

HEADER = struct.Struct("=IBBHQii")
"""`struct fanotify_event_metadata`: length, version, reserved, its own length, mask, descriptor, pid."""
VERSION = 3
NO_FD = -1
MODIFY = 0x00000002
OVERFLOW = 0x00004000

_CLOEXEC, _NONBLOCK = 0x1, 0x2
_MARK_ADD, _MARK_FILESYSTEM = 0x1, 0x100
_AT_FDCWD = -100
_BUFFER = 64 * HEADER.size
"""So many descriptors at a time are the most that a read opens."""
_FULL_QUEUE = 16_384
"""Events that the kernel keeps, by default (fs.fanotify.max_queued_events)."""
_VANISHED = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO})
"""What the kernel says of an event whose file has been removed: it cannot open it (kernfs)."""


class Event(NamedTuple):
    """One event as it is in the buffer. `fd` is open, or `NO_FD`; `pid` is a process's, 0 for one that the
    reader's pid namespace does not have."""

    mask: int
    fd: int
    pid: int


class Write(NamedTuple):
    """The process `pid` has written to the file with this inode number."""

    inode: int
    pid: int


def parse(data: bytes) -> Iterator[Event]:
    """The events in a buffer that the kernel has filled. Raises Malformed for what no kernel of this version
    of the format writes; the events before that have been given by then."""
    at = 0
    while at < len(data):
        if len(data) - at < HEADER.size:
            raise errors.Malformed("fanotify event", "it ends in its header", position=at)
        length, version, _, _, mask, fd, pid = HEADER.unpack_from(data, at)
        if version != VERSION:
            raise errors.Malformed("fanotify event", f"its version is {version}, not {VERSION}", position=at)
        if not HEADER.size <= length <= len(data) - at:
            raise errors.Malformed("fanotify event", f"its length is {length}", position=at)
        yield Event(mask, fd, pid)
        at += length


class Watcher:
    """Watches all files of one file system. `fd` is for poll(2); reading does not block."""

    def __init__(self, path: str) -> None:
        """`path` is anywhere in the file system. Raises HostFileError where the kernel does not permit it, or
        cannot."""
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            init, mark = libc.fanotify_init, libc.fanotify_mark
        except AttributeError as error:
            why = "the C library has no fanotify"
            raise errors.HostFileError("fanotify", "open", errno.ENOSYS, why) from error
        mark.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p)
        self.fd = int(init(_CLOEXEC | _NONBLOCK, os.O_RDONLY | os.O_CLOEXEC))
        if self.fd < 0:
            raise _error("fanotify", "open", ctypes.get_errno())
        if mark(self.fd, _MARK_ADD | _MARK_FILESYSTEM, MODIFY, _AT_FDCWD, os.fsencode(path)) < 0:
            error_number = ctypes.get_errno()
            self.close()
            raise _error(path, "watch with fanotify", error_number)

    def read(self, but_not_by: int) -> Iterator[Write | None]:
        """As the function."""
        return read(self.fd, but_not_by)

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self.fd)


def read(fd: int, but_not_by: int) -> Iterator[Write | None]:
    """Everything that had been told when this began, oldest first, without the writes of the process
    `but_not_by`; each as soon as it is known, for its process may end. None says that some were lost.

    `fd` does not block. Events of files that are gone by now are left out. Raises Malformed.
    """
    for _ in range(_FULL_QUEUE * HEADER.size // _BUFFER + 1):
        try:
            data = os.read(fd, _BUFFER)
        except BlockingIOError:
            return
        except OSError as error:
            # The event is gone with it: its file could not be opened.
            if error.errno not in _VANISHED:
                yield None
            continue
        yield from _writes(data, but_not_by)


def _writes(data: bytes, but_not_by: int) -> Iterator[Write | None]:
    """The writes of which a buffer tells; its descriptors are closed, whatever comes."""
    told = list(parse(data))
    try:
        for event in told:
            if event.mask & OVERFLOW:
                yield None
            elif event.fd != NO_FD and event.pid != but_not_by:
                yield Write(os.fstat(event.fd).st_ino, event.pid)
    finally:
        for event in told:
            if event.fd != NO_FD:
                os.close(event.fd)


def _error(path: str, action: str, number: int) -> errors.HostFileError:
    needs = {
        errno.EPERM: "; it needs CAP_SYS_ADMIN",
        errno.ENOSYS: "; this kernel has no fanotify",
        errno.EINVAL: "; it needs Linux 4.20 with fanotify",
        errno.EMFILE: "; raise fs.fanotify.max_user_groups or the limit of open files",
    }
    return errors.HostFileError(path, action, number, f"{os.strerror(number)}{needs.get(number, '')}")
