"""A watcher on some groups, and what it should tell. I/O below a root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from reconciler.host import inotify

NOTHING = inotify.Changes(paths=frozenset(), vanished=frozenset(), overflowed=False)


@contextlib.contextmanager
def watching(root: str, *paths: str) -> Iterator[inotify.Watcher]:
    """A watcher of these groups, which must be there."""
    with contextlib.closing(inotify.Watcher(root)) as watcher:
        assert all(watcher.watch(path) for path in paths)
        yield watcher


def written(*paths: str) -> inotify.Changes:
    """Groups that were written to, and nothing else."""
    return inotify.Changes(paths=frozenset(paths), vanished=frozenset(), overflowed=False)


def limited(*paths: str) -> inotify.Changes:
    """Groups whose quota was written, and nothing else."""
    return inotify.Changes(paths=frozenset(), vanished=frozenset(), overflowed=False, quotas=frozenset(paths))


def vanished(*paths: str) -> inotify.Changes:
    """Groups that are gone, and nothing else."""
    return inotify.Changes(paths=frozenset(), vanished=frozenset(paths), overflowed=False)


def put(root: str, path: str, file: str = "cpuset.cpus", text: str = "0-1\n") -> None:
    """One open and one write, as the agent does."""
    descriptor = os.open(os.path.join(root, path, file), os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def watches(watcher: inotify.Watcher) -> int:
    """How many the kernel keeps (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{watcher.fd}", encoding="ascii") as file:
        return sum(line.startswith("inotify ") for line in file)
