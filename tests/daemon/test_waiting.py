"""Who waits for a repair in a conflict is looked at when it is due, and what was told of it is not lost."""

# covers: PRD-7.14, PRD-7.22

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping

from reconciler import events
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.daemon import passes, walk
from reconciler.policy import state
from reconciler.sim import machine
from tests.daemon import node

A, B = events.ContainerId("a"), events.ContainerId("b")
NOW = state.State(terms=state.terms(topologies.parse(machine.vm()), schema.Config()))


class Walker(walk.Walker):
    """Makes passes that look at nothing; `held` is who has to wait after each, `meanwhile` is done in it."""

    def __init__(self) -> None:
        self.requests: list[walk.Request] = []
        self.held: Mapping[events.ContainerId, float] = {}
        self.meanwhile: Callable[[], object] = lambda: None

    def run(self, now: state.State, request: walk.Request) -> walk.Done:  # noqa: ARG002  the protocol's
        """As `walk.Walker.run`."""
        self.requests.append(request)
        self.meanwhile()
        return walk.Done(
            pass_id=len(self.requests), request=request, looked_at=0, verdicts={}, held=dict(self.held)
        )

    def scopes(self) -> list[frozenset[events.ContainerId] | None]:
        """What was looked at by each pass."""
        return [request.scope for request in self.requests]


@contextlib.asynccontextmanager
async def serving(walker: Walker) -> AsyncIterator[passes.Passes]:
    """Passes are made with this walker."""
    made = passes.Passes(walker, lambda: NOW, failed=lambda _: None)
    task = asyncio.create_task(made.serve())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_passes_over_others_put_nobody_off() -> None:
    walker = Walker()
    walker.held = {A: 0.1}
    async with serving(walker) as made:
        made.some((A,))
        await node.until(lambda: len(walker.requests) == 1)
        async with asyncio.timeout(node.PATIENCE):
            while frozenset({A}) not in walker.scopes()[1:]:
                made.signalled((B,), at=1.0)
                await asyncio.sleep(0.005)


async def test_many_that_are_due_one_after_the_other_are_looked_at_among_passes_over_others() -> None:
    walker = Walker()
    walker.held = {events.ContainerId(f"c{number}"): number / 1000 for number in range(300)}
    async with serving(walker) as made:
        made.some((A,))
        async with asyncio.timeout(node.PATIENCE):
            while not walker.held.keys() <= {id_ for scope in walker.scopes() for id_ in scope or ()}:
                made.signalled((B,), at=1.0)
                await asyncio.sleep(0.002)


async def test_what_was_told_of_someone_after_its_repair_is_not_forgotten_with_the_waiting() -> None:
    walker = Walker()
    walker.held = {A: 3600.0}
    loop = asyncio.get_running_loop()
    async with serving(walker) as made:
        made.some((A,))
        await node.until(lambda: A in made._held)

        def tell() -> None:
            told = threading.Event()
            loop.call_soon_threadsafe(made.signalled, (A,), 7.0)
            loop.call_soon_threadsafe(told.set)
            assert told.wait(node.PATIENCE)
            walker.meanwhile = lambda: None
            walker.held = {}

        walker.meanwhile = tell
        made.everything()
        await node.until(lambda: len(walker.requests) == 3)
    last = walker.requests[-1]
    assert (last.scope, last.found_at) == (frozenset({A}), {A: 7.0})


async def test_what_was_told_of_someone_who_goes_on_waiting_makes_no_pass() -> None:
    walker = Walker()
    walker.held = {A: 3600.0}
    async with serving(walker) as made:
        made.some((A,))
        await node.until(lambda: A in made._held)
        made.signalled((A,), 7.0)
        made.some((B,))
        await node.until(lambda: len(walker.requests) == 2)
        await asyncio.sleep(0.05)
    assert walker.scopes() == [frozenset({A}), frozenset({B})]
