"""When the next pass is made and over what: one at a time, in a worker thread. On asyncio.

Everything that asks for a pass is merged into the next one, which works on the newest state: an event costs
a mark here, and a burst of events costs one pass. A cgroup write can block in the kernel, so no pass is
made in the event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from typing import TypeVar

from reconciler import events, observed, plan, report
from reconciler.daemon import walk
from reconciler.policy import state

_T = TypeVar("_T")
_TOGETHER = 0.02
"""Seconds between two passes at least that are made because repairs in conflicts are due."""


class Passes:
    """The queue of one: what the next pass has to look at."""

    def __init__(
        self,
        walker: walk.Walker,
        now: Callable[[], state.State],
        *,
        failed: Callable[[BaseException], None],
    ) -> None:
        """`now` gives the newest state, from any thread; `failed` is told of a pass that broke off."""
        self._walker = walker
        self._now = now
        self._failed = failed
        self._worker = futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._wake = asyncio.Event()
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()
        self._all = False
        self._hook = False
        self._scope: set[events.ContainerId] = set()
        self._found_at: dict[events.ContainerId, float] = {}
        self._gates: dict[events.ContainerId, list[asyncio.Future[str]]] = {}
        self._gone: list[walk.Gone] = []
        self._restored: frozenset[events.ContainerId] = frozenset()
        self._passed: list[asyncio.Future[None]] = []
        self._deciding = False
        self._began: float | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._held: dict[events.ContainerId, float] = {}
        self._put_off: dict[events.ContainerId, float] = {}
        """Of whom inotify told while they waited for a repair, and when."""
        self._release: asyncio.TimerHandle | None = None
        self._released = -math.inf
        self.on_drift: Callable[[frozenset[events.ContainerId]], object] = lambda _: None
        """Is told of containers that a pass has found to have drifted."""

    @property
    def busy(self) -> bool:
        """Whether a pass that a decision made necessary is under way or asked for, or any that writes; looks
        that find nothing do not count."""
        return self._deciding or self._hook or (self._began is not None and self._walker.has_writes)

    def seconds(self) -> float:
        """How long the pass that is under way has taken, or waited for the worker; 0 without one."""
        return 0.0 if self._began is None else asyncio.get_running_loop().time() - self._began

    def everything(self, *, hook: bool = False) -> None:
        """Let the next pass look at every container; `hook` if a hook's decision made it necessary."""
        self._all = True
        self._hook |= hook
        self._wake.set()

    def some(self, ids: Iterable[events.ContainerId], *, hook: bool = False) -> None:
        """Let the next pass look at these containers."""
        self._scope.update(ids)
        self._hook |= hook
        self._wake.set()

    def signalled(self, ids: Iterable[events.ContainerId], at: float) -> None:
        """Let the next pass look at these containers, of which inotify told at `at` (monotonic seconds).

        Those whose repair waits are looked at when it is due, however often they are written until then.
        """
        for id_ in ids:
            if id_ in self._held:
                self._put_off.setdefault(id_, at)
            else:
                self._found_at.setdefault(id_, at)
                self._scope.add(id_)
                self._wake.set()

    def forget(self, id_: events.ContainerId, path: str | None) -> None:
        """Let the next pass, whenever it is, forget a container that has ended."""
        self._gone.append((id_, path))

    def hold(self) -> None:
        """Begin no pass before `go_on`: what runs has to be looked at first.

        Who was resized or moved after the last save has CPUs that nobody else must be put on.
        """
        self._may_go_on.clear()

    def go_on(self, restored: frozenset[events.ContainerId]) -> None:
        """Let the next pass look at everything; these were in order before the agent's start."""
        self._restored |= restored
        self._may_go_on.set()
        self.everything()

    def gate(self, id_: events.ContainerId) -> asyncio.Future[str]:
        """Let the next pass judge whether the container may start: "" or why not."""
        verdict: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._gates.setdefault(id_, []).append(verdict)
        self._hook = True
        self._wake.set()
        return verdict

    async def passed(self) -> None:
        """Return after a pass over everything that began after this call."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._passed.append(done)
        self.everything()
        await done

    async def looks(self, now: state.State, ids: Iterable[events.ContainerId]) -> observed.Observed:
        """The cgroups of these containers, looked at in the worker's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._walker.look, now, tuple(ids))

    async def preview(self) -> tuple[observed.Observed, plan.Plan]:
        """What is there, and what a pass would write now."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._walker.preview, self._now())

    async def serve(self) -> None:
        """Make passes as they are asked for, until cancelled."""
        try:
            while True:
                await self._wake.wait()
                await self._may_go_on.wait()
                await self._one()
        finally:
            for timer in (self._retry, self._release):
                if timer is not None:
                    timer.cancel()
            self._worker.shutdown(wait=True)

    async def _one(self) -> None:
        request = self._take()
        gates, self._gates = self._gates, {}
        passed, self._passed = self._passed, []
        self._deciding = request.found_by == "hook"
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        verdicts = None
        try:
            done = await loop.run_in_executor(self._worker, self._walker.run, self._now(), request)
            verdicts = done.verdicts
            self._again(loop, done)
        except Exception as error:  # noqa: BLE001  the next pass must come, whatever broke this one
            self._failed(error)
            self._again_in(loop, report.FIRST_RETRY_SECONDS * 10)
        finally:
            self._deciding = False
            self._began = None
            for id_, waiting in gates.items():
                verdict = "the pass that should have placed it failed" if verdicts is None else verdicts[id_]
                _settle(waiting, verdict)
            _settle(passed, None)

    def _take(self) -> walk.Request:
        request = walk.Request(
            scope=None if self._all else frozenset(self._scope),
            found_by="hook" if self._hook else "pass",
            found_at=self._found_at,
            gates=frozenset(self._gates),
            gone=tuple(self._gone),
            restored=self._restored,
        )
        self._all = self._hook = False
        self._scope = set()
        self._found_at = {}
        self._gone = []
        self._restored = frozenset()
        self._wake.clear()
        return request

    def _again(self, loop: asyncio.AbstractEventLoop, done: walk.Done) -> None:
        self._hold(loop, done.held)
        if done.drifted:
            self.on_drift(done.drifted)
        if done.retry_in is not None:
            self._again_in(loop, done.retry_in)

    def _hold(self, loop: asyncio.AbstractEventLoop, held: Mapping[events.ContainerId, float]) -> None:
        """Look at these when their repairs are due, several at a time."""
        if self._release is not None:
            self._release.cancel()
            self._release = None
        # A pass over others puts nobody off who has a time already.
        now, before = loop.time(), self._held
        self._held = {id_: min(now + seconds, before.get(id_, math.inf)) for id_, seconds in held.items()}
        if held:
            soon = max(min(self._held.values()), self._released + _TOGETHER)
            self._release = loop.call_at(soon, self._due, loop)
        # Whoever waits no more was repaired by this pass, maybe before inotify told of it.
        put_off, self._put_off = self._put_off, {}
        for id_, at in put_off.items():
            self.signalled(() if id_ in held else (id_,), at)

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._released = loop.time()
        due = [id_ for id_, when in self._held.items() if when <= loop.time()]
        for id_ in due:
            del self._held[id_]
        self.some(due)

    def _again_in(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Look at everything again after a pause; the earlier of two such wishes counts."""
        when = loop.time() + seconds
        if (
            self._retry is not None
            and not self._retry.cancelled()
            and loop.time() < self._retry.when() <= when
        ):
            return
        if self._retry is not None:
            self._retry.cancel()
        self._retry = loop.call_at(when, self.everything)


def _settle(waiting: list[asyncio.Future[_T]], value: _T) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(value)
