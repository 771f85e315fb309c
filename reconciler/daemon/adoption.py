"""Taking over what runs already: after a list of the runtime, every container that is new in it. On asyncio.

Its cgroups are looked at in the worker's thread; until that is done nobody is placed, for what runs may hold
any CPU.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from reconciler import observed, report
from reconciler.daemon import passes, telling
from reconciler.policy import lifecycle, state


class Adoption:
    """The adoption that is under way, if one is."""

    def __init__(
        self,
        its_passes: passes.Passes,
        now: Callable[[], state.State],
        become: Callable[[state.State], None],
        tell: telling.Teller,
    ) -> None:
        """`now` gives the state, and `become` replaces it."""
        self._passes = its_passes
        self._now = now
        self._become = become
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self.done = False
        """Whether there has been one."""

    @property
    def under_way(self) -> bool:
        """Whether somebody has to wait for it."""
        return self._task is not None

    def begin(self) -> None:
        """Begin, in place of one that is under way: its list is out of date."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="adoption")

    async def wait(self) -> None:
        """Return when none is under way."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        """Give every container that is new an intent, and a claim if it can have one."""
        me = asyncio.current_task()
        pause = report.FIRST_RETRY_SECONDS
        try:
            while not await self._attempt():
                await asyncio.sleep(pause)
                pause = min(pause * 2, report.LAST_RETRY_SECONDS)
        finally:
            if self._task is me:
                self._task = None

    async def _attempt(self) -> bool:
        now = self._now()
        new = [id_ for id_ in now.inventory.containers if id_ not in now.ledger.intents]
        try:
            looks = await self._passes.looks(now, new)
            self._become(lifecycle.retry(lifecycle.adopt(self._now(), observed.asked_for(looks))))
        except Exception as error:  # noqa: BLE001  it must be tried again, whatever broke it off
            self._tell.failed("adoption", error)
            return False
        self.done = True
        self._tell.adopted(self._now(), new)
        self._passes.everything()
        return True
