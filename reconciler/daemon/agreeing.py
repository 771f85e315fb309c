"""Makes the runtime agree where there is no NRI: it is told over CRI what a container has. On asyncio.

Whatever is updated of a container, the runtime writes the cpuset of its record back, and with the systemd
driver the unit of the container has it too, for the next `daemon-reload`. Under NRI the answer to each update
corrects the record; over CRI it stays what it was at the creation. So a container that has drifted is looked
up, and where the record is another one, or the container is in conflict, the runtime is told. An update takes
the runtime hundreds of milliseconds and is made in the background, one a second at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from reconciler import errors, events, report
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import echo, telling, turns
from reconciler.policy import desired, state
from reconciler.runtime.cri import client, records


class Agreeing:
    """Queues containers that have drifted, while someone serves. `records` is what the runtime was found to
    have on record; `made` and `failed` count updates."""

    def __init__(
        self,
        now: Callable[[], state.State],
        book: report.Book,
        tell: telling.Teller,
        *,
        elsewhere: Callable[[events.ContainerId], bool] = lambda _: False,
    ) -> None:
        """`elsewhere` says whether somebody else tells systemd of a container."""
        self.records: dict[events.ContainerId, str] = {}
        self.made = 0
        self.failed = 0
        self._now = now
        self._book = book
        self._tell = tell
        self._elsewhere = elsewhere
        self._serves = False
        self._turns = turns.Turns()
        self._agreed: set[events.ContainerId] = set()
        self._followed: state.State | None = None
        self._echo = echo.Echo(self._turns)
        self._told = ""

    def drifted(self, ids: Iterable[events.ContainerId]) -> None:
        """These have drifted: look at their records in turn, if there is a runtime to be asked."""
        if self._serves:
            self._turns.add(ids)

    def told(self) -> Mapping[events.ContainerId, CpuSet]:
        """Whose cpuset the runtime is writing for us, or has just written, and which."""
        return self._echo.told()

    async def serve(self, calls: client.Client) -> None:
        """Look at one record after another, until cancelled. Not to be served twice at a time."""
        self._serves = True
        self._turns.clock = asyncio.get_running_loop().time
        try:
            while True:
                self._follow()
                within = turns.PERIOD_SECONDS if self._agreed else None
                if (id_ := await self._turns.next(within)) is not None:
                    await self._guarded(calls, id_)
                    await asyncio.sleep(turns.PERIOD_SECONDS)
        finally:
            self._serves = False
            self._turns.clear()

    def _follow(self) -> None:
        """Who was made to agree, and has something else now, has to be told that too: the runtime would write
        the former back."""
        now = self._now()
        if now is not self._followed:
            self._followed = now
            wanted = desired.desired(now, self._agreed)
            self._turns.hurry(id_ for id_, want in wanted.items() if self.records.get(id_) != str(want.cpus))

    async def _guarded(self, calls: client.Client, id_: events.ContainerId) -> None:
        """Look at one record. A fault costs this one look."""
        self._forget_ended()
        try:
            await self._look(calls, id_)
        except errors.Gone:
            self.records.pop(id_, None)
        except errors.ReconcilerError as error:
            self.failed += 1
            self._turns.pause(id_)
            self._turns.add((id_,))
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
        written with it, where nobody else tells systemd. kubelet's own manager hears of nothing.
        """
        conflict = self._book.fights.conflict(id_)
        kind = None if conflict is None else conflict.opponent.kind
        if kind == "kubelet":
            return False
        if kind == "systemd" and not self._elsewhere(id_):
            return True
        if not record:
            return conflict is not None
        return CpuSet.parse(record, what="the runtime's record") != want.cpus

    async def _update(
        self, calls: client.Client, id_: events.ContainerId, before: str, want: desired.Placement
    ) -> None:
        began = self._turns.clock()
        mems = None if want.mems is None else str(want.mems)
        with self._echo.of(id_, want.cpus):
            await records.write(calls, id_, str(want.cpus), mems)
        self.made += 1
        self.records[id_] = str(want.cpus)
        self._told = ""
        self._agreed.add(id_)
        self._turns.pause(id_)
        ms = round((self._turns.clock() - began) * 1000, 3)
        cpus = str(want.cpus)
        self._tell.agreed(self._now(), id_, owner="runtime", record_before=before, cpus=cpus, ms=ms)

    def _forget_ended(self) -> None:
        known = self._now().inventory.containers
        for id_ in [id_ for id_ in self.records if id_ not in known]:
            del self.records[id_]
        self._agreed = {id_ for id_ in self._agreed if id_ in known}
        self._turns.keep(known)
