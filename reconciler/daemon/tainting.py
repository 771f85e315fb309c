"""Takes the start-up taint off the node once it is served, so that pods come that must not come before. On
asyncio; the API server is asked in a thread.

The taint is put on by whoever makes the node, kubelet's `registerWithTaints` for one. It is never put back: a
pod that is there stays in any case.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler import errors
from reconciler.daemon import telling
from reconciler.host import cluster
from reconciler.runtime import backoff as backoffs

_LOOK = 0.2
"""Seconds between two looks at whether the node is served."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Tainting:
    """`key` is the taint's key, "" for none; `unready` says why the node is not served yet, "" once it is."""

    key: str
    unready: Callable[[], str]
    tell: telling.Teller
    server: Callable[[], cluster.Server] = lambda: cluster.from_environment(os.environ)
    backoff: backoffs.Backoff = field(default_factory=lambda: backoffs.Backoff(_FIRST_PAUSE, _LONGEST_PAUSE))

    async def serve(self) -> None:
        """Take it off, once. Goes on until cancelled."""
        if self.key:
            while self.unready():  # noqa: ASYNC110  what makes it ready is spread over many events
                await asyncio.sleep(_LOOK)
            told = ""
            while why := await self._take_off():
                if why != told:
                    told = why
                    self.tell.complain(errors.Retryable(f"the taint {self.key} stays on the node: {why}"))
                await asyncio.sleep(self.backoff.pause())
        await asyncio.get_running_loop().create_future()

    async def _take_off(self) -> str:
        """Why it is still there, or ""."""
        try:
            was_there = await asyncio.to_thread(lambda: self.server().untaint(self.key))
        except errors.ReconcilerError as error:
            return str(error)
        self.tell.untainted(self.key, was_there=was_there)
        return ""
