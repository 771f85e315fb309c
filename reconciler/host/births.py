"""Which cgroups are made under which: watches on directories. I/O: inotify.

A container's directory is made before its process runs. Not a view of the tree: what was there before a watch
is listed once, when the watch is added, for a burst of `mkdir` can be faster than it.
"""

from __future__ import annotations

import contextlib
import os

from inotify_simple import flags

from reconciler.host import cgroupfs, watches

_MASK = flags.CREATE | flags.DELETE_SELF | flags.ONLYDIR


class Births:
    """Watches cgroups below one root for new ones right under them, all by their relative paths. `fd` is for
    the event loop; nothing blocks."""

    def __init__(self, root: str) -> None:
        """Raises HostFileError where the kernel gives no inotify instance."""
        self._root = root
        self._watches: dict[str, int] = {}
        self._paths: dict[int, str] = {}
        self._instance = watches.Instance()

    @property
    def fd(self) -> int:
        """The descriptor that becomes readable."""
        return self._instance.fd

    @property
    def watched(self) -> frozenset[str]:
        """What is watched."""
        return frozenset(self._watches)

    def watch(self, path: str) -> tuple[str, ...]:
        """Watch a cgroup, if it is there; gives the cgroups that are right under it already.

        Raises HostFileError where the kernel gives no more watches, Malformed for a path that leads out of
        the tree.
        """
        cgroupfs.check_path(path)
        full = os.path.join(self._root, path)
        watch = self._instance.add(full, _MASK)
        if watch is None:
            return ()
        if (old := self._watches.get(path, watch)) != watch:
            self._remove(old)
        self._watches[path] = watch
        self._paths[watch] = path
        with contextlib.suppress(OSError), os.scandir(full) as entries:
            return tuple(f"{path}/{entry.name}" for entry in entries if entry.is_dir(follow_symlinks=False))
        return ()

    def unwatch(self, path: str) -> None:
        """Watch it no longer."""
        if (watch := self._watches.pop(path, None)) is not None:
            self._remove(watch)

    def read(self) -> tuple[frozenset[str], bool]:
        """The cgroups that were made since the last read, and whether events were lost; returns at once."""
        made, lost = set(), False
        for event in self._instance.read():
            lost = lost or bool(event.mask & flags.Q_OVERFLOW)
            path = self._paths.get(event.wd)
            if path is None:
                continue
            if event.mask & (flags.DELETE_SELF | flags.IGNORED):
                if self._watches.get(path) == event.wd:
                    self.unwatch(path)
                self._paths.pop(event.wd, None)
            elif event.mask & flags.CREATE and event.mask & flags.ISDIR:
                made.add(f"{path}/{event.name}")
        return frozenset(made), lost

    def close(self) -> None:
        """Watch nothing any more."""
        self._instance.close()

    def _remove(self, watch: int) -> None:
        self._paths.pop(watch, None)
        self._instance.remove(watch)
