"""Which container an inotify event is about. On asyncio: reads the descriptor when the loop says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from reconciler import errors, events, slices
from reconciler.host import inotify

Quotas = Mapping[str, events.ContainerId]
"""Cgroups whose `cpu.max` is reconciled, containers' and pods', and the containers to look at for it."""


class Listener(Protocol):
    """Is told of changes, in the event loop's thread."""

    def signalled(self, ids: Iterable[events.ContainerId], at: float) -> None:
        """Files of these containers' cgroups were written, or the cgroups are gone; read at `at`."""

    def overflowed(self) -> None:
        """Events were lost."""


_Watcher = TypeVar("_Watcher")


def opened(
    make: Callable[[str], _Watcher], root: str, complain: Callable[[errors.ReconcilerError], None]
) -> _Watcher | None:
    """A watcher of the cgroups below `root`; None where there is none to be had, which is told."""
    try:
        return make(root)
    except errors.ReconcilerError as error:
        complain(error)
        return None


class Watching:
    """Watches containers' cgroups by their ids. Without a watcher it does nothing, and passes find all."""

    def __init__(
        self,
        watcher: inotify.Watcher | None,
        *,
        complain: Callable[[errors.ReconcilerError], None],
        recovered: Callable[[], object] = lambda: None,
        reopen: Callable[[], inotify.Watcher] | None = None,
    ) -> None:
        """`complain` is told, once, that there are no more watches to be had, and `recovered` that there are
        again. `reopen` makes a watcher where there is none; it raises as `inotify.Watcher` does."""
        self._watcher = watcher
        self._complain = complain
        self._recovered = recovered
        self._reopen = reopen
        self._listening: tuple[asyncio.AbstractEventLoop, Listener] | None = None
        self._ids: dict[str, events.ContainerId] = {}
        self._quotas: Quotas = {}
        self._partitions: frozenset[str] = frozenset()
        self._exhausted = watcher is None
        self.overflows = 0
        """How often the kernel has dropped events since the start."""
        self.on_limits: Callable[[Iterable[events.ContainerId]], object] = lambda _: None
        """Is told of containers whose `cpu.max` was written."""
        self.on_population: Callable[[Iterable[events.ContainerId]], object] = lambda _: None
        """Is told of containers whose first process has come, or whose last one has ended."""

    def watch(self, id_: events.ContainerId, path: str) -> None:
        """Watch the container's cgroup; what is not there now is not watched."""
        if self._ids.get(path) != id_ and self._has_watched(path):
            self._ids[path] = id_

    def follow(self, container: events.Container) -> None:
        """Watch a container that has a cgroup and has not ended."""
        if container.cgroup is not None and container.phase is not events.Phase.STOPPED:
            self.watch(container.id, container.cgroup)

    def unwatch(self, id_: events.ContainerId, path: str) -> None:
        """Stop watching it, if it is still that container's."""
        if self._watcher is not None and self._ids.get(path) == id_:
            del self._ids[path]
            self._watcher.unwatch(path)

    def lifted(self, quotas: Quotas) -> None:
        """Watch `cpu.max` of these cgroups, and of no other."""
        before, self._quotas = self._quotas, quotas
        for path in before.keys() - quotas.keys() - self._ids.keys():
            if self._watcher is not None:
                self._watcher.unwatch(path)
        for path in quotas.keys() - before.keys() - self._ids.keys():
            self._has_watched(path)

    def isolated(self, partitions: frozenset[str]) -> None:
        """Watch these cgroups as partitions too, and no other: the kernel tells when it ends one."""
        changed, self._partitions = self._partitions ^ partitions, partitions
        if self._watcher is not None:
            self._watcher.partitions = partitions
        for path in changed & self._ids.keys():
            self._has_watched(path)

    def sliced(self, groups: Mapping[events.ContainerId, str]) -> None:
        """Watch these slices of the host, and no others."""
        for path, id_ in [its for its in self._ids.items() if slices.named(its[1]) is not None]:
            if id_ not in groups:
                self.unwatch(id_, path)
        for id_, path in groups.items():
            self.watch(id_, path)

    def renew(self, containers: Iterable[events.Container]) -> None:
        """Watch those of all these containers that could not be watched, if now they can. Costs nothing where
        everyone is."""
        if not self._exhausted or not self._has_reopened():
            return
        self._exhausted, complain = False, self._complain
        self._complain = lambda _: None
        try:
            for container in containers:
                self.follow(container)
                if self._exhausted:
                    return
            for path in self._quotas.keys() - self._ids.keys():
                self._has_watched(path)
        finally:
            self._complain = complain
        if not self._exhausted:
            self._recovered()

    def _has_reopened(self) -> bool:
        if self._watcher is None and self._reopen is not None:
            with contextlib.suppress(errors.ReconcilerError):
                self._watcher = self._reopen()
                self._watcher.partitions = self._partitions
                if self._listening is not None:
                    self.listen(*self._listening)
        return self._watcher is not None

    def _has_watched(self, path: str) -> bool:
        if self._watcher is None:
            return False
        try:
            return self._watcher.watch(path)
        except errors.ReconcilerError as error:
            if not self._exhausted:
                self._exhausted = True
                self._complain(error)
            return False

    def listen(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        """Tell `listener` from now on."""
        self._listening = loop, listener
        if self._watcher is not None:
            loop.add_reader(self._watcher.fd, self._read, loop, listener)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell nobody any more."""
        if self._watcher is not None:
            loop.remove_reader(self._watcher.fd)
            self._watcher.close()

    def _containers(self, paths: Iterable[str]) -> list[events.ContainerId]:
        ids = (self._ids[path] for path in paths if path in self._ids)
        return [id_ for id_ in ids if slices.named(id_) is None]

    def _read(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        assert self._watcher is not None  # noqa: S101  narrows the type
        changes = self._watcher.read()
        if changes.overflowed:
            self.overflows += 1
            listener.overflowed()
        ids = {self._ids[path] for path in changes.paths | changes.vanished if path in self._ids}
        ids |= {self._quotas[path] for path in changes.quotas if path in self._quotas}
        if limited := self._containers(changes.quotas):
            self.on_limits(limited)
        if populated := self._containers(changes.populations):
            self.on_population(populated)
        for path in changes.vanished:
            self._ids.pop(path, None)
        if ids:
            listener.signalled(ids, loop.time())
