"""Whether a cgroup is there, and processes in it, and one of them. I/O: reads, and keeps no descriptor.

`cgroup.events` says whether a process is in a group or in one below it (cgroup-v2.rst, "Core Interface
Files"). The kernel waits for no write to a cgroup when it is read, and where the group is gone that is one
failed open: it may be read in the event loop.
"""

from __future__ import annotations

import itertools
import os

from reconciler import errors, observed
from reconciler.host import cgroupfs

_PROCS = "cgroup.procs"
_POPULATED = b"populated 1"
_MOST_TEXT = 4096
_MOST_GROUPS = 100
"""Groups of a container that are looked through for a process: it may have as many as it likes."""


class Survivors:
    """Processes in the cgroups below one mount, by relative paths. May be asked from any thread."""

    def __init__(self, root: str) -> None:
        """`root` is the cgroup2 mount."""
        self._root = root

    def is_populated(self, path: str) -> bool:
        """Whether a process is in the group or below it, zombies apart. Where that cannot be known, for want
        of file descriptors for one, it may be; in what is no group below the mount none is."""
        try:
            cgroupfs.check_path(path)
            return _POPULATED in _read(os.path.join(self._root, path, observed.EVENTS))
        except errors.Malformed:
            return False
        except OSError as error:
            return error.errno not in cgroupfs.VANISHED

    def exists(self, path: str) -> bool:
        """Whether the group is there. Where that cannot be known, it may be."""
        try:
            cgroupfs.check_path(path)
            os.stat(os.path.join(self._root, path))
        except errors.Malformed:
            return True
        except OSError as error:
            return error.errno not in cgroupfs.VANISHED
        return True

    def one_in(self, path: str) -> int | None:
        """The pid of a process in the group or below it, None where there is none; 0 for one that cannot be
        named, because it is another pid namespace's or could not be found."""
        if not self.is_populated(path):
            return None
        folders = (folder for folder, _, _ in os.walk(os.path.join(self._root, path)))
        return next(filter(None, map(_first, itertools.islice(folders, _MOST_GROUPS))), 0)


def _first(folder: str) -> int:
    try:
        line = _read(os.path.join(folder, _PROCS)).partition(b"\n")[0]
    except OSError:
        # Gone meanwhile, or a threaded group, which lists none (EOPNOTSUPP).
        return 0
    return int(line) if line.isdigit() else 0


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MOST_TEXT)
    finally:
        os.close(descriptor)
