"""A reply that is awaited while a guard runs against the runtime's time-out. On asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reconciler.runtime.nri import dispatch, handler

GUARD = 0.6
"""Part of the runtime's time-out after which the guard answers: a hook that outlasts it is fail-open."""


class Pending:
    """Answers exactly once: with what is awaited, or with what the guard says if that comes first.

    What is awaited is never cancelled: it may be in the middle of writing to cgroups. Raises TypeError where
    it cannot be awaited.
    """

    def __init__(
        self,
        dispatcher: dispatch.Dispatcher,
        method: str,
        waiting: dispatch.Waiting,
        send: Callable[[bytes], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._method = method
        self._waiting = waiting
        self._send: Callable[[bytes], None] | None = send
        self._guard: asyncio.TimerHandle | None = None
        asyncio.ensure_future(waiting.result).add_done_callback(self._on_done)

    def guard_at(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Let the guard answer at `when`, in the loop's time."""
        self._guard = loop.call_at(when, self._on_guard)

    def abandon(self) -> None:
        """There is nobody to answer any more."""
        self._send = None
        if self._guard is not None:
            self._guard.cancel()

    def _on_guard(self) -> None:
        self._answer(self._dispatcher.guarded(self._method, self._waiting))

    def _on_done(self, future: asyncio.Future[handler.Adjustment | None]) -> None:
        try:
            body = self._waiting.encode(future.result())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  the runtime waits for an answer
            body = self._dispatcher.failure(self._method, error)
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        send = self._send
        self.abandon()
        if send is not None:
            send(body)
