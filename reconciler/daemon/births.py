"""Wakes whoever polls when a pod's or a container's cgroup is made. On asyncio.

Which cgroups are pods' or hold those follows from their names: kubelet's own, and those of the known pods.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Callable, Collection, Iterable

from reconciler import errors
from reconciler.host import births

_ROOTS = (
    "kubepods.slice",
    "kubepods.slice/kubepods-burstable.slice",
    "kubepods.slice/kubepods-besteffort.slice",
    "kubepods",
    "kubepods/burstable",
    "kubepods/besteffort",
)
"""Where kubelet keeps pods, with either driver and no prefix."""


class Births:
    """Tells of new cgroups under the pods' and under those that hold pods. Without a watcher it tells
    nothing, and polls find all."""

    def __init__(
        self, watcher: births.Births | None, *, complain: Callable[[errors.ReconcilerError], None]
    ) -> None:
        """`complain` is told, once, that there are no more watches to be had."""
        self._watcher = watcher
        self._complain = complain
        self._exhausted = False
        self._holders: set[str] = set(_ROOTS)

    def listen(self, loop: asyncio.AbstractEventLoop, told: Callable[[Collection[str]], None]) -> None:
        """From now on tell of cgroups that were made; of none where events were lost."""
        if self._watcher is None:
            return
        loop.add_reader(self._watcher.fd, self._read, self._watcher, told)
        for root in _ROOTS:
            self._watch(root)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell nobody any more."""
        if self._watcher is not None:
            loop.remove_reader(self._watcher.fd)
            self._watcher.close()
            self._watcher = None

    def know(self, pods: Collection[str]) -> list[str]:
        """These are the pods' cgroups now. Gives what is under those that were not watched yet."""
        if self._watcher is None:
            return []
        self._holders = {*_ROOTS, *(above for pod in pods for above in _above(pod))}
        wanted = self._holders | set(pods)
        watched = self._watcher.watched
        for path in watched - wanted:
            self._watcher.unwatch(path)
        return [path for new in wanted - watched for path in self._watch(new)]

    def _read(self, watcher: births.Births, told: Callable[[Collection[str]], None]) -> None:
        made, lost = watcher.read()
        # A pod's own cgroup: its containers' follow within milliseconds.
        pods = [path for path in made if posixpath.dirname(path) in self._holders]
        made |= {path for pod in pods for path in self._watch(pod)}
        if made or lost:
            told(made)

    def _watch(self, path: str) -> Iterable[str]:
        if self._watcher is None:
            return ()
        try:
            return self._watcher.watch(path)
        except errors.ReconcilerError as error:
            if not self._exhausted:
                self._exhausted = True
                self._complain(error)
            return ()


def _above(path: str) -> Iterable[str]:
    """The cgroups above a pod's, but for the root."""
    while path := posixpath.dirname(path):
        yield path
