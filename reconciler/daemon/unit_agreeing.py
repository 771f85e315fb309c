"""Makes systemd agree: the unit of a container is told what the container has. On asyncio.

systemd writes a unit's cgroup files anew with every `daemon-reload` and every change of a property, by what
the unit has. A container that is in conflict, with whomever a unit's value may come from, is looked up, and
its unit told where it has something else. A container that was told of once is told of again whenever
something else is wanted for it: the next reload would bring the former back. All others are left alone, for
each call costs systemd milliseconds and writes every file of the unit. Slices of the host that are kept on
the shared pool are told with each change of it. Nothing waits for all this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from reconciler import errors, events, report, slices
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.daemon import echo, telling, turns
from reconciler.host import systemd
from reconciler.policy import desired, state

_OTHERS = frozenset({"kubelet", "ancestor"})
"""Opponents who do not look at what a unit has."""


class Bus(Protocol):
    """As `systemd.Systemd`."""

    async def allowed(self, name: str) -> systemd.Allowed:
        """As `systemd.Systemd.allowed`."""

    async def allow(self, name: str, cpus: CpuSet, mems: NodeSet | None) -> None:
        """As `systemd.Systemd.allow`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """How systemd is spoken to: `connect` gives a connection, or raises Retryable; `is_there` says whether it
    is to be spoken to at all."""

    connect: Callable[[], contextlib.AbstractAsyncContextManager[Bus]]
    is_there: Callable[[], bool]


class UnitAgreeing:
    """Queues containers in conflict, while it serves. `made` and `failed` count calls that change a unit."""

    def __init__(
        self, now: Callable[[], state.State], book: report.Book, tell: telling.Teller, means: Means
    ) -> None:
        self.made = 0
        self.failed = 0
        self._now = now
        self._book = book
        self._tell = tell
        self._means = means
        self._serves = False
        self._turns = turns.Turns()
        self._slices: dict[events.ContainerId, CpuSet] = {}
        self._agreed: dict[events.ContainerId, desired.Placement] = {}
        self._followed: state.State | None = None
        self._echo = echo.Echo(self._turns)
        self._said = ""

    def drifted(self, ids: Iterable[events.ContainerId]) -> None:
        """These have drifted: whoever is in conflict has a turn, if there is a systemd to be told."""
        if not self._serves:
            return
        if fought := [id_ for id_ in ids if self._is_in_conflict(id_)]:
            self._turns.add(fought)

    def wake(self) -> None:
        """Look at which slices there are now."""
        self._turns.add(())

    def told(self) -> Mapping[events.ContainerId, CpuSet]:
        """Whose cpuset systemd is writing for us, or has just written, and which."""
        return self._echo.told()

    def looks_after(self, id_: events.ContainerId) -> bool:
        """Whether systemd can be told of the container, so that nobody else has to tell it."""
        return self._serves and self._unit(id_) is not None and self._means.is_there()

    async def serve(self) -> None:
        """Look at one unit after another, until cancelled. Not to be served twice at a time."""
        self._serves = True
        self._turns.clock = asyncio.get_running_loop().time
        try:
            while True:
                self._follow()
                is_awaited = self._agreed or self._slices or self._book.slices.wanted()
                within = turns.PERIOD_SECONDS if is_awaited else None
                if (id_ := await self._turns.next(within)) is not None and self._means.is_there():
                    await self._guarded(id_)
                    await asyncio.sleep(turns.PERIOD_SECONDS)
        finally:
            self._serves = False
            self._turns.clear()

    def _is_in_conflict(self, id_: events.ContainerId) -> bool:
        conflict = self._book.fights.conflict(id_)
        return conflict is not None and conflict.opponent.kind not in _OTHERS

    def _unit(self, id_: events.ContainerId) -> str | None:
        if (name := slices.named(id_)) is not None:
            return name
        container = self._now().inventory.containers.get(id_)
        return None if container is None else systemd.unit(container.cgroup)

    def _want(self, id_: events.ContainerId) -> desired.Placement | None:
        """What a unit's cgroup is to have, without CPUs where a slice is given back; None for nothing."""
        if (cpus := self._slices.get(id_)) is not None:
            return desired.Placement(cpus=cpus)
        return desired.desired(self._now(), (id_,)).get(id_)

    def _follow_slices(self) -> None:
        """Slices are told of each change: there are few. One that is not wanted any more has nothing."""
        if not self._means.is_there():
            self._slices = {}
            return
        wanted = {slices.key(name): cpus for name, cpus in self._book.slices.wanted().items()}
        wanted = dict.fromkeys(self._slices, CpuSet()) | wanted
        self._turns.hurry(id_ for id_, cpus in wanted.items() if self._slices.get(id_) != cpus)
        self._slices = wanted

    def _follow(self) -> None:
        self._follow_slices()
        now = self._now()
        if now is self._followed:
            return
        self._followed = now
        known = now.inventory.containers
        self._agreed = {id_: had for id_, had in self._agreed.items() if id_ in known}
        self._turns.keep({*known, *self._slices})
        wanted = desired.desired(now, self._agreed)
        self._turns.hurry(id_ for id_, want in wanted.items() if not _is_same(want, self._agreed[id_]))

    async def _guarded(self, id_: events.ContainerId) -> None:
        """Look at one unit. A fault costs this one look."""
        try:
            await self._look(id_)
        except errors.Gone:
            self._agreed.pop(id_, None)
        except errors.ReconcilerError as error:
            self.failed += 1
            self._turns.pause(id_)
            self._turns.add((id_,))
            if str(error) != self._said:
                self._said = str(error)
                self._tell.disagreed(self._now(), id_, self._said)
        except Exception as error:  # noqa: BLE001  the next one must have its turn
            self._tell.failed("agreement with systemd", error)

    async def _look(self, id_: events.ContainerId) -> None:
        name = self._unit(id_)
        if name is None or self._want(id_) is None:
            return
        async with self._means.connect() as bus:
            before = await bus.allowed(name)
            # What is wanted may have changed while systemd answered.
            want = self._want(id_)
            if want is None:
                return
            if before.cpus != want.cpus or (want.mems is not None and before.mems != want.mems):
                await self._allow(bus, id_, name, before, want)
        if id_ not in self._slices:
            self._agreed[id_] = want
        elif not want.cpus:
            del self._slices[id_]
        self._turns.pause(id_)
        self._said = ""

    async def _allow(
        self, bus: Bus, id_: events.ContainerId, name: str, before: systemd.Allowed, want: desired.Placement
    ) -> None:
        began = self._turns.clock()
        with self._echo.of(id_, want.cpus):
            await bus.allow(name, want.cpus, want.mems)
        self.made += 1
        ms = round((self._turns.clock() - began) * 1000, 3)
        cpus = str(want.cpus)
        had = str(before.cpus)
        self._tell.agreed(self._now(), id_, owner=name, record_before=had, cpus=cpus, ms=ms)


def _is_same(want: desired.Placement, had: desired.Placement) -> bool:
    return want.cpus == had.cpus and (want.mems is None or want.mems == had.mems)
