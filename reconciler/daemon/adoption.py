"""Taking over what runs already: after a list of the runtime, every container that is new in it. On asyncio.

The first list confirms what is remembered of the time before the agent's start.
Its cgroups are looked at in the worker's thread; until that is done nobody is placed, for what runs may hold
any CPU.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeVar

from reconciler import events, inventory, observed, report
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import answers, current, guard, passes, telling
from reconciler.policy import checkpoint, lifecycle, moving, naming, restoring, state
from reconciler.runtime.nri import handler

_Asked = TypeVar("_Asked", events.ContainerCreating, events.ContainerUpdating)


class Adoption:
    """The adoption that is under way, if one is."""

    def __init__(
        self,
        its_passes: passes.Passes,
        its_guard: guard.Guard,
        its: current.Current,
        tell: telling.Teller,
    ) -> None:
        """`its` is the state that is worked on."""
        self._passes = its_passes
        self._guard = its_guard
        self._its = its
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._remembered: checkpoint.Saved | None = None
        self._restored: frozenset[events.ContainerId] = frozenset()
        self.done = False
        """Whether there has been one."""

    @property
    def unfinished(self) -> bool:
        """Whether it is under way, or the first is still to come."""
        return not self.done or self.under_way

    @property
    def known(self) -> inventory.Inventory:
        """Who is on the node by the latest list; before the first one, who was when that was saved."""
        return self._its.now.inventory if self._remembered is None else self._remembered.inventory

    def named(self, after: state.State) -> state.State:
        """The state after a list, in which everyone who is known by another name has what he had under it.

        Whoever was changed while nobody told of it is judged anew.
        """
        known = self.known
        shares = {
            id_: its.limits.shares for id_, its in known.containers.items() if its.limits.shares is not None
        }
        return restoring.confirm(naming.renamed(after, known), shares)

    @property
    def under_way(self) -> bool:
        """Whether somebody has to wait for it."""
        return self._task is not None

    def remember(self, saved: checkpoint.Saved) -> None:
        """Go on with this ledger; a list has to confirm it."""
        self._its.replace(dataclasses.replace(self._its.now, ledger=saved.ledger))
        self._remembered = saved

    def begin(self) -> None:
        """Begin, in place of one that is under way: its list is out of date."""
        if self._remembered is not None:
            self._confirm(self._remembered)
            self._remembered = None
        if not self.done:
            self._passes.hold()
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="adoption")

    def _confirm(self, saved: checkpoint.Saved) -> None:
        now = restoring.confirm(self._its.now, saved.shares)
        self._its.replace(now)
        self._restored = frozenset(restoring.placed(now))

    def then(self, decide: Callable[[_Asked], answers.Answer], event: _Asked) -> answers.Answer:
        """What `decide` answers, on the spot, or right after an adoption that is under way."""
        return asyncio.ensure_future(self._later(decide, event)) if self.under_way else decide(event)

    async def _later(self, decide: Callable[[_Asked], answers.Answer], event: _Asked) -> handler.Adjustment:
        await self.wait()
        if self._guard.has_given_up(event.container.id):
            return handler.Adjustment()
        answer = decide(event)
        return await answer if isinstance(answer, asyncio.Future) else answer

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
        now = self._its.now
        new = [id_ for id_ in now.inventory.containers if id_ not in now.ledger.intents]
        try:
            looks = await self._passes.looks(now, new if self.done else now.inventory.containers)
            running_on = observed.asked_for(looks)
            before = self._its.now
            now = lifecycle.retry(lifecycle.adopt(before, running_on))
            self._its.replace(now)
        except Exception as error:  # noqa: BLE001  it must be tried again, whatever broke it off
            self._tell.failed("adoption", error)
            return False
        self.done = True
        self._tell.adopted(now, new)
        moves = moving.moves(before.ledger, now.ledger)
        self._tell.moved((its for its in moves if not _is_there(now, its, running_on)), now.ledger)
        self._passes.go_on(self._restored)
        self._restored = frozenset()
        return True


def _is_there(now: state.State, move: moving.Move, running_on: Mapping[events.ContainerId, CpuSet]) -> bool:
    """Whether a container has been moved before, and only its claim had to catch up."""
    return any(
        running_on.get(its.id) == move.after
        for sandbox in now.inventory.sandboxes(move.key.uid)
        for its in now.inventory.attempts(sandbox, move.key.name)
    )
