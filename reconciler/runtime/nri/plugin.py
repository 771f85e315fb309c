"""The NRI plugin: connects, and connects again, for as long as it runs. On asyncio."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from reconciler import errors
from reconciler.runtime import backoff as backoffs
from reconciler.runtime.nri import connection, dial, handler, session

_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 60.0
_STEADY = 60.0
"""Seconds for which a connection must have lasted to start again with short pauses."""


class Backoff(backoffs.Backoff):
    """Pauses between attempts: 1 to 2 s, then twice as long each time, up to 60 s; drawn at random from the
    upper half.

    Registering takes a lock in the runtime behind which a node can freeze (containerd#14083), so it must be
    rare.
    """

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        """`draw` gives a number from 0 to 1."""
        super().__init__(_FIRST_PAUSE, _LONGEST_PAUSE, draw)


class Plugin:
    """Keeps the connection to the runtime and hands its events to the handler.

    One at a time must run on a host: hold `instance.alone` around `run`.
    """

    def __init__(  # noqa: PLR0913  whom it connects, and who is told
        self,
        *,
        identity: session.Identity,
        via: dial.Dial,
        handler: handler.Handler,
        report: handler.Report,
        backoff: Backoff | None = None,
        meter: handler.Meter = handler.UNMETERED,
    ) -> None:
        self._identity = identity
        self._dial = via
        self._handler = handler
        self._report = report
        self._meter = meter
        self._backoff = backoff or Backoff()
        self._narrowed: frozenset[tuple[str, str]] = frozenset()

    async def run(self) -> None:
        """Connect, serve, connect again; ends by itself only where there is no second connection to be had.

        When cancelled, the socket closes at once. Raises Usage for an inherited descriptor that is no socket.
        """
        while True:
            try:
                lost = await self._serve()
            except errors.Retryable as error:
                reason = str(error)
            else:
                reason = lost.reason
                self._learn(lost)
            if self._dial.once:
                self._report(handler.Notice("nri.ended", reason))
                return
            pause = self._backoff.pause()
            self._report(handler.Notice("nri.retry", f"{reason}; next attempt in {pause:.1f} s"))
            await asyncio.sleep(pause)

    async def _serve(self) -> connection.Lost:
        loop = asyncio.get_running_loop()
        sock = await self._dial.connect()
        its_session = session.Session(self._identity, self._narrowed, launched=self._dial.once)
        serving = connection.Connection(loop, its_session, self._handler, self._report, self._meter)
        try:
            await loop.create_unix_connection(lambda: serving, sock=sock)
            return await asyncio.shield(serving.lost)
        finally:
            if serving.is_made:
                serving.close("the plugin stops")
                await serving.lost

    def _learn(self, lost: connection.Lost) -> None:
        if lost.active_for >= _STEADY:
            self._backoff.reset()
        if lost.rejected is not None and lost.rejected not in self._narrowed:
            self._narrowed |= {lost.rejected}
            text = f"{' '.join(lost.rejected)} refused the event mask; fewer events from now on"
            self._report(handler.Notice("nri.mask-narrowed", text))
