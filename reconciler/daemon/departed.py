"""Sandboxes that the runtime lists though their pods have ended while nobody was told. On asyncio. ADR 0032.

A list over NRI does not say which sandboxes have stopped, and the runtime keeps their records until kubelet
removes them: of a pod that has completed, as long as the pod. What kubelet takes away at once is the cgroup
of the pod, above those of its containers: made before the sandbox, removed when nothing of the pod runs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Mapping

from reconciler import events
from reconciler.host import survivors

_Folders = dict[events.SandboxId, str]


class Departed:
    """Looks at the pods of a list, and again at those that may be about to go."""

    def __init__(
        self,
        host: survivors.Survivors,
        ended: Callable[[events.PodStopped], None],
        failed: Callable[[str, Exception], None],
        period: Callable[[], float],
    ) -> None:
        """`ended` takes the end of a pod that was listed, `failed` tells of an error, `period` gives the
        seconds between two looks."""
        self._host = host
        self._ended = ended
        self._failed = failed
        self._period = period
        self._empty: _Folders = {}
        self._looking: asyncio.Task[None] | None = None

    def without(self, event: events.Synchronized) -> events.Synchronized:
        """The list without those that have ended. One look at each pause container's processes, and further
        ones where it has none."""
        empty = self._without_a_process(event)
        gone = set(self._gone(empty))
        self._empty = {sandbox: folder for sandbox, folder in empty.items() if sandbox not in gone}
        if self._empty and self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="departed")
        if not gone:
            return event
        return dataclasses.replace(
            event,
            pods=tuple(pod for pod in event.pods if pod.sandbox not in gone),
            containers=tuple(its for its in event.containers if its.sandbox not in gone),
        )

    def _without_a_process(self, event: events.Synchronized) -> _Folders:
        """The pods of which nothing runs, each with its cgroup."""
        empty = {
            pod.sandbox: os.path.dirname(pod.cgroup)
            for pod in event.pods
            if pod.cgroup is not None and not self._host.is_populated(pod.cgroup)
        }
        for its in event.containers:
            if its.sandbox in empty and its.cgroup is not None and self._host.is_populated(its.cgroup):
                del empty[its.sandbox]
        return empty

    def _is_gone(self, folder: str) -> bool:
        """Where not even the group above is to be seen, nothing is known."""
        return not self._host.exists(folder) and self._host.exists(os.path.dirname(folder))

    async def _look(self) -> None:
        """Look again, as long as there is one of which it is not known."""
        try:
            while self._empty:
                await asyncio.sleep(self._period())
                await self._look_once()
        finally:
            self._looking = None

    async def _look_once(self) -> None:
        before = self._empty
        try:
            gone = await asyncio.to_thread(self._gone, dict(before))
            for sandbox in gone:
                if before.pop(sandbox, None) is not None and before is self._empty:
                    self._ended(events.PodStopped(sandbox=sandbox))
        except Exception as error:  # noqa: BLE001  it must be looked at again, whatever broke it off
            self._failed("pods that have ended", error)

    def _gone(self, folders: Mapping[events.SandboxId, str]) -> list[events.SandboxId]:
        return [sandbox for sandbox, folder in folders.items() if self._is_gone(folder)]
