"""Containers that drift, and fight, as often as one likes: for whoever makes others agree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from reconciler import events, opponents, report


class Agreeing(Protocol):
    """Who is told of drifts."""

    def drifted(self, ids: Iterable[events.ContainerId]) -> None:
        """These have drifted."""


_Agreeing = TypeVar("_Agreeing", bound=Agreeing)


class Fought(Generic[_Agreeing]):
    """What is known of fights, and who is told of drifts."""

    book: report.Book
    agreeing: _Agreeing

    def fight(self, id_: events.ContainerId, kind: opponents.Kind = "systemd") -> None:
        """Let a container be in conflict with somebody of that kind."""
        opponent = opponents.Opponent(kind=kind, name=kind, evidence="")
        for at in (1.0, 2.0):
            self.book.fights.seen(id_, str(at), opponent, at)

    async def drift(self, seconds: int, *ids: events.ContainerId) -> None:
        """These drift ten times a second."""
        for _ in range(seconds * 10):
            self.agreeing.drifted(ids)
            await asyncio.sleep(0.1)
