"""The third door: the agent is told what the cgroup tree shows, where no runtime answers. On asyncio.

As over CRI nobody waits for an answer, so nothing is refused. Walks are made in a thread, a second apart; a
cgroup that is made under a pod's brings the next one at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Set

from reconciler import errors, events, observed
from reconciler.daemon import agent, births, hearsay, telling
from reconciler.runtime import tree

PERIOD = 1.0
"""Seconds between two walks that nothing calls for, as between two polls: what exits is found by them."""
GAP = 0.05
"""Seconds between two walks at least. A new cgroup is looked at so often until it can be told what it is."""

Walk = Callable[[Set[str]], tuple[observed.PodGroup, ...]]
"""Gives the pods' cgroups; of the containers' whose paths are given only whether a process is in them. Raises
ReconcilerError where it cannot be whole."""
Mode = Callable[[str, str], None]
"""Is told `cgroup` or `none`, and the reason."""


class Scanning:
    """Walks through the tree from `start` to `stop`, and tells the agent; used once."""

    def __init__(
        self,
        walk: Walk,
        its_agent: agent.Agent,
        mode: Mode,
        its_births: births.Births,
        tell: telling.Teller,
    ) -> None:
        """`its_births` is closed in the end."""
        self._walk = walk
        self._agent = its_agent
        self._mode = mode
        self._births = its_births
        self._tell = tell
        self._view = tree.View(its_agent.known, tell.complain)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Walk; the task ends by itself only with a fault."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="cgroup")
        return self._task

    def stop(self) -> None:
        """Tell the agent nothing more, from now on."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._births.listen(loop, self._made)
            while True:
                await self._serve(loop)
                await self._pause(loop)
        finally:
            self._births.close(loop)

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """One walk, and what follows from it. Of one that fails nothing follows: what is known stays."""
        self._wake.clear()
        try:
            found = await asyncio.to_thread(self._walk, self._view.paths)
        except errors.ReconcilerError as error:
            self._mode("none", str(error))
            return
        news = self._view.news(found, self._agent.state.ledger, loop.time())
        self._mode("cgroup", "no runtime tells; pods and containers are those of the cgroup tree")
        for event in news:
            await self._take(event)
        if self._births.know(self._view.directories()):
            self._wake.set()

    async def _pause(self, loop: asyncio.AbstractEventLoop) -> None:
        await asyncio.sleep(GAP)
        if self._view.expects(loop.time()):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PERIOD):
                await self._wake.wait()

    def _made(self, paths: Collection[str]) -> None:  # noqa: ARG002  the walk finds them
        self._wake.set()

    async def _take(self, event: events.Event) -> None:
        """Tell the agent. A fault of ours costs the one event."""
        try:
            await hearsay.tell(self._agent, event)
        except Exception as error:  # noqa: BLE001  walks must go on
            self._tell.failed(f"{type(event).__name__} from the cgroup tree", error)
