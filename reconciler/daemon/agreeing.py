"""Makes the runtime agree where there is no NRI: it is told over CRI what a container has. On asyncio.

Whatever is updated of a container, the runtime writes the cpuset of its record back, and with the systemd
driver the unit of the container has it too, for the next `daemon-reload`. Under NRI the answer to each update
corrects the record; over CRI it stays what it was at the creation. So a container that has drifted is looked
up, and where the record is another one, or the container is in conflict, the runtime is told. An update takes
the runtime hundreds of milliseconds and is made in the background, one a second at most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reconciler import errors, events, report
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import telling
from reconciler.policy import desired, state
from reconciler.runtime.cri import client, records

PERIOD_SECONDS = 1.0
"""Between two looks at a record, whosever it is."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 300.0
"""Between two updates of the same container; they double."""
_ECHO_SECONDS = 5.0
"""For so long after an update what it wrote counts as ours, though something else is wanted by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Update:
    """What the runtime was told last; `ended` is None while it has not answered."""

    id: events.ContainerId
    cpus: CpuSet
    ended: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pause:
    """Until when a container has to wait for its next update, and how long that is."""

    until: float
    seconds: float


class Agreeing:
    """Queues containers that have drifted, while someone serves. `records` is what the runtime was found to
    have on record; `made` and `failed` count updates."""

    def __init__(self, now: Callable[[], state.State], book: report.Book, tell: telling.Teller) -> None:
        self.records: dict[events.ContainerId, str] = {}
        self.made = 0
        self.failed = 0
        self._now = now
        self._book = book
        self._tell = tell
        self._serves = False
        self._clock: Callable[[], float] = lambda: 0.0
        self._wake = asyncio.Event()
        self._queue: dict[events.ContainerId, None] = {}
        self._pauses: dict[events.ContainerId, _Pause] = {}
        self._last: _Update | None = None
        self._told = ""

    def drifted(self, ids: Iterable[events.ContainerId]) -> None:
        """These have drifted: look at their records in turn, if there is a runtime to be asked."""
        if self._serves:
            self._queue |= dict.fromkeys(ids)
            self._wake.set()

    def told(self) -> Mapping[events.ContainerId, CpuSet]:
        """Whose cpuset the runtime is writing for us, or has just written, and which."""
        last = self._last
        if last is None or (last.ended is not None and self._clock() - last.ended > _ECHO_SECONDS):
            return {}
        return {last.id: last.cpus}

    async def serve(self, calls: client.Client) -> None:
        """Look at one record after another, until cancelled. Not to be served twice at a time."""
        self._serves = True
        self._clock = asyncio.get_running_loop().time
        try:
            while True:
                if (id_ := await self._next()) is not None:
                    await self._guarded(calls, id_)
                    await asyncio.sleep(PERIOD_SECONDS)
        finally:
            self._serves = False
            self._queue.clear()

    async def _next(self) -> events.ContainerId | None:
        """Whose turn it is; None where something has changed meanwhile."""
        self._wake.clear()
        now = self._clock()
        id_ = min(self._queue, key=self._until, default=None)
        if id_ is not None and self._until(id_) <= now:
            del self._queue[id_]
            return id_
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if id_ is None else self._until(id_) - now):
                await self._wake.wait()
        return None

    def _until(self, id_: events.ContainerId) -> float:
        its = self._pauses.get(id_)
        return 0.0 if its is None else its.until

    async def _guarded(self, calls: client.Client, id_: events.ContainerId) -> None:
        """Look at one record. A fault costs this one look."""
        self._forget_ended()
        try:
            await self._look(calls, id_)
        except errors.Gone:
            self.records.pop(id_, None)
        except errors.ReconcilerError as error:
            self.failed += 1
            self._pause(id_)
            self._queue[id_] = None
            # That the runtime is away is said by the mode.
            if not isinstance(error, errors.Retryable) and str(error) != self._told:
                self._told = str(error)
                self._tell.disagreed(self._now(), id_, self._told)
        except Exception as error:  # noqa: BLE001  the next one must have its turn
            self._tell.failed("agreement with the runtime", error)

    async def _look(self, calls: client.Client, id_: events.ContainerId) -> None:
        if id_ not in desired.desired(self._now(), (id_,)):
            return
        before = self.records[id_] = await records.read(calls, id_)
        # What is wanted may have changed while the runtime answered.
        want = desired.desired(self._now(), (id_,)).get(id_)
        if want is not None and self._disagrees(id_, before, want):
            await self._update(calls, id_, before, want)

    def _disagrees(self, id_: events.ContainerId, record: str, want: desired.Placement) -> bool:
        """Whether the runtime has to be told.

        What is not on record is not written back, but by systemd. Its unit may differ from the record, and is
        written with it. kubelet's own manager hears of nothing.
        """
        conflict = self._book.fights.conflict(id_)
        if conflict is not None and conflict.opponent.kind in ("kubelet", "systemd"):
            return conflict.opponent.kind == "systemd"
        if not record:
            return conflict is not None
        return CpuSet.parse(record, what="the runtime's record") != want.cpus

    async def _update(
        self, calls: client.Client, id_: events.ContainerId, before: str, want: desired.Placement
    ) -> None:
        began = self._clock()
        self._last = _Update(id=id_, cpus=want.cpus)
        mems = None if want.mems is None else str(want.mems)
        try:
            await records.write(calls, id_, str(want.cpus), mems)
        finally:
            self._last = _Update(id=id_, cpus=want.cpus, ended=self._clock())
        self.made += 1
        self.records[id_] = str(want.cpus)
        self._told = ""
        self._pause(id_)
        ms = round((self._clock() - began) * 1000, 3)
        self._tell.agreed(self._now(), id_, before=before, cpus=str(want.cpus), ms=ms)

    def _pause(self, id_: events.ContainerId) -> None:
        """Let a container wait, twice as long as the last time unless that is long ago."""
        now, its = self._clock(), self._pauses.get(id_)
        seconds = FIRST_PAUSE_SECONDS
        if its is not None and now - its.until < LONGEST_PAUSE_SECONDS:
            seconds = min(its.seconds * 2, LONGEST_PAUSE_SECONDS)
        self._pauses[id_] = _Pause(until=now + seconds, seconds=seconds)

    def _forget_ended(self) -> None:
        known = self._now().inventory.containers
        ended = {id_ for id_ in (*self.records, *self._pauses, *self._queue) if id_ not in known}
        for id_ in ended:
            self.records.pop(id_, None)
            self._pauses.pop(id_, None)
            self._queue.pop(id_, None)
