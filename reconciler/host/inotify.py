"""Who wrote to which cgroup's cpuset files: watches on directories. I/O: inotify.

A watch tells of every write from user space, ours included, and of the group's end; never of what the kernel
derives, such as a child's effective CPUs. On kernels without nlink support in kernfs (6.18 and older) the
watches of a removed cgroup stay until they are taken away.
"""

from __future__ import annotations

import contextlib
import enum
import os
from dataclasses import dataclass

import inotify_simple
from inotify_simple import flags

from reconciler import errors, observed
from reconciler.cpu import bandwidth
from reconciler.host import cgroupfs, watches

_MASK = flags.MODIFY | flags.CREATE | flags.DELETE_SELF | flags.ONLYDIR
_FILES = frozenset({observed.CPUS, observed.MEMS, observed.EXCLUSIVE, observed.PARTITION})
_STATE = flags.MODIFY
"""For a watch on `cpuset.cpus.partition` itself, which tells when the kernel ends the partition: it notifies
the file, and those who watch its directory only where it has the file in memory (fs/kernfs/file.c)."""
_QUOTA = bandwidth.FILE
_POPULATION = observed.EVENTS


class _Kind(enum.Enum):
    WRITTEN = "written"
    LIMITED = "limited"
    """Its `cpu.max` was written."""
    POPULATED = "populated"
    """Its first process has come, or its last one has ended."""
    BORN = "born"
    """An inner group was made."""
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What one read told. The cpusets of `paths` were written or they got an inner group, `cpu.max` of
    `quotas` was written, `populations` have a process now or have none any more, `vanished` are gone;
    `overflowed`: events were lost."""

    paths: frozenset[str]
    vanished: frozenset[str]
    overflowed: bool
    quotas: frozenset[str] = frozenset()
    populations: frozenset[str] = frozenset()


class Watcher:
    """Watches cgroups below one root, by their relative paths. `fd` is for the event loop; nothing blocks."""

    def __init__(self, root: str) -> None:
        """Raises HostFileError where the kernel gives no inotify instance."""
        self._root = root
        self._watches: dict[str, tuple[int, ...]] = {}
        self._paths: dict[int, str] = {}
        self._instance = watches.Instance()
        self.partitions: frozenset[str] = frozenset()
        """Which cgroups' states as partitions are watched too, from their next `watch` on."""

    @property
    def fd(self) -> int:
        """The descriptor that becomes readable."""
        return self._instance.fd

    def watch(self, path: str) -> bool:
        """Watch the cgroup, and the inner group that crun makes, if they are there: whether the cgroup is.

        Watching one again takes the one that is there now. Raises HostFileError where the kernel gives no
        more watches, Malformed for a path that leads out of the tree.
        """
        cgroupfs.check_path(path)
        full = os.path.join(self._root, path)
        outer = self._instance.add(full, _MASK)
        if outer is None:
            self.unwatch(path)
            return False
        inner = self._instance.add(os.path.join(full, observed.INNER), _MASK)
        state = None
        if path in self.partitions:
            state = self._instance.add(os.path.join(full, observed.PARTITION), _STATE)
        all_ = tuple(watch for watch in (outer, inner, state) if watch is not None)
        for old in self._watches.get(path, ()):
            if old not in all_:
                self._remove(old)
        self._watches[path] = all_
        self._paths.update(dict.fromkeys(all_, path))
        return True

    def unwatch(self, path: str) -> None:
        """Watch it no longer."""
        for watch in self._watches.pop(path, ()):
            self._remove(watch)

    def read(self) -> Changes:
        """What has been told since the last read; returns at once."""
        told: dict[_Kind, set[str]] = {kind: set() for kind in _Kind}
        overflowed = False
        for event in self._instance.read():
            overflowed = overflowed or bool(event.mask & flags.Q_OVERFLOW)
            path = self._paths.get(event.wd)
            kind = None if path is None else self._kind(path, event)
            if path is not None and kind is not None:
                told[kind].add(path)
        vanished = told[_Kind.VANISHED]
        for path in told[_Kind.BORN] - vanished:
            # Where there is no watch left, passes find what is written in there.
            with contextlib.suppress(errors.HostFileError):
                self.watch(path)
        for path in vanished:
            self.unwatch(path)
        paths = (told[_Kind.WRITTEN] | told[_Kind.BORN]) - vanished
        return Changes(
            paths=frozenset(paths),
            quotas=frozenset(told[_Kind.LIMITED] - vanished),
            populations=frozenset(told[_Kind.POPULATED] - vanished),
            vanished=frozenset(vanished),
            overflowed=overflowed,
        )

    def _kind(self, path: str, event: inotify_simple.Event) -> _Kind | None:
        """What an event says of the group at `path`; None where it does not matter."""
        if event.mask & flags.IGNORED:
            del self._paths[event.wd]
        elif event.mask & flags.DELETE_SELF:
            if self._watches.get(path, (None,))[0] == event.wd:
                return _Kind.VANISHED
        elif event.mask & flags.MODIFY and (event.name in _FILES or not event.name):
            return _Kind.WRITTEN
        elif event.mask & flags.MODIFY and event.name == _QUOTA:
            # crun's inner group has a file of its own, which says max and which nobody changes.
            return _Kind.LIMITED if self._watches.get(path, (None,))[0] == event.wd else None
        elif event.mask & flags.MODIFY and event.name == _POPULATION:
            return _Kind.POPULATED
        elif event.mask & flags.CREATE and event.name == observed.INNER:
            return _Kind.BORN
        return None

    def close(self) -> None:
        """Watch nothing any more."""
        self._instance.close()

    def _remove(self, watch: int) -> None:
        self._paths.pop(watch, None)
        self._instance.remove(watch)
