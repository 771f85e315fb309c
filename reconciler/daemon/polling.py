"""The second door to the runtime: the agent is told over CRI what NRI would have asked it. On asyncio.

Nobody waits for an answer here, so nothing is refused: what appears is placed after the fact. Polls are a
second apart; a cgroup that is made under a pod's brings the next one at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field

from reconciler import errors, events
from reconciler.daemon import agent, births, hearsay, telling
from reconciler.runtime import backoff as backoffs
from reconciler.runtime.cri import client, poller

_GAP = 0.02
"""Seconds between two polls at least: a pod's birth is several calls."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
_FREEING = (events.ContainerStopped, events.ContainerRemoved, events.PodStopped, events.PodRemoved)


Agree = Callable[[client.Client], Coroutine[object, object, None]]
"""Tells the runtime what it does not know, until cancelled."""
Mode = Callable[[str, str], None]
"""Is told `cri` or `none`, and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What is polled: the path of its socket, the seconds that it has for the answer to one call, the pauses
    after failures, and the seconds from a poll to the next one if nothing calls for one earlier."""

    socket: str
    deadline: float = 5.0
    period: float = 1.0
    backoff: backoffs.Backoff = field(default_factory=lambda: backoffs.Backoff(_FIRST_PAUSE, _LONGEST_PAUSE))


class Polling:
    """Polls the runtime from `start` to `stop`, and tells the agent; used once."""

    def __init__(  # noqa: PLR0913  who polls, whom, and who is told
        self,
        runtime: Runtime,
        its_agent: agent.Agent,
        mode: Mode,
        its_births: births.Births,
        tell: telling.Teller,
        *,
        agree: Agree | None = None,
    ) -> None:
        """`its_births` is closed in the end. `agree` is run beside the polls, on the same connection."""
        self._runtime = runtime
        self._agent = its_agent
        self._mode = mode
        self._births = its_births
        self._tell = tell
        self._agree = agree
        self._wake = asyncio.Event()
        self.hurried: set[events.ContainerId] = set()
        self._refused: dict[events.ContainerId, events.ContainerUpdating] = {}
        self._poller: poller.Poller | None = None
        self._runtime_says = ""
        self._order = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> asyncio.Task[None]:
        """Poll, from a full list on; the task ends by itself only with a fault."""
        return self._spawn(self._run())

    def stop(self) -> None:
        """Tell the agent nothing more, from now on."""
        for task in self._tasks:
            task.cancel()

    def afresh(self) -> None:
        """Begin with a full list again: somebody else has told the agent meanwhile."""
        self._poller = None
        self._refused.clear()

    def limited(self, ids: Iterable[events.ContainerId]) -> None:
        """The limits of these containers may have changed: ask for them soon."""
        if new := set(ids) - self.hurried:
            self.hurried |= new
            self._wake.set()

    def _spawn(self, part: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(part, name="cri")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with client.Client(self._runtime.socket, list_seconds=self._runtime.deadline) as calls:
                self._births.listen(loop, self._made)
                if self._agree is not None:
                    self._spawn(self._agree(calls))
                while True:
                    await self._serve(calls)
        finally:
            self._births.close(loop)

    async def _serve(self, calls: client.Client) -> None:
        """Poll until that fails, then pause. What is known stays: the next list is compared with it."""
        try:
            version = await calls.version()
            self._runtime_says = f"{version.runtime_name} {version.runtime_version}, CRI"
            while True:
                if self._poller is None:
                    self._poller = poller.Poller(calls, self._tell.complain, version.runtime_name)
                await self._poll(self._poller)
                self._tell.counters.cri_polls += 1
                self._runtime.backoff.reset()
                await self._pause()
        except errors.ReconcilerError as error:
            self._tell.counters.cri_failures += 1
            self._mode("none", str(error))
            await asyncio.sleep(self._runtime.backoff.pause())

    async def _poll(self, its_poller: poller.Poller) -> None:
        self._wake.clear()
        hurried, self.hurried = self.hurried, set()
        try:
            news = await its_poller.poll(hurried)
        except errors.ReconcilerError:
            self.hurried |= hurried
            raise
        if its_poller is not self._poller:
            return
        self._mode("cri", self._runtime_says)
        for event in news:
            await self._take(event)
        if any(isinstance(event, _FREEING) for event in news):
            for refused in list(self._refused.values()):
                await self._take(refused)
        if paths := self._births.know(its_poller.view.directories()):
            self._made(paths)

    async def _pause(self) -> None:
        await asyncio.sleep(_GAP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._runtime.period):
                await self._wake.wait()

    def _made(self, paths: Collection[str]) -> None:
        """Cgroups were made. Those of containers that are known are placed without waiting for a poll."""
        self._wake.set()
        if self._poller is not None:
            for event in self._poller.view.at(paths):
                self._spawn(self._take(event))

    async def _take(self, event: events.Event) -> None:
        """Tell the agent, one event at a time. A fault of ours costs the one event."""
        async with self._order:
            try:
                await self._tell_agent(event)
            except Exception as error:  # noqa: BLE001  polls must go on
                self._tell.failed(f"{type(event).__name__} over CRI", error)

    async def _tell_agent(self, event: events.Event) -> None:
        if isinstance(event, events.ContainerUpdating):
            await self._update(event)
            return
        if isinstance(event, (events.ContainerStopped, events.ContainerRemoved)):
            self._refused.pop(event.container.id, None)
        await hearsay.tell(self._agent, event)

    async def _update(self, event: events.ContainerUpdating) -> None:
        """The runtime has resized it already. What cannot be had is tried again when others end."""
        id_ = event.container.id
        if (before := self._refused.pop(id_, None)) is not None:
            event = dataclasses.replace(event, limits=before.limits.changed(event.limits))
        try:
            answer = self._agent.update(event)
            if isinstance(answer, asyncio.Future):
                # Half a transaction is none: it goes on where polls end.
                await asyncio.shield(answer)
        except errors.Refused:
            self._refused[id_] = event
