"""The start-up taint goes once the node is served, whatever the API server says before."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

from reconciler import errors
from reconciler.daemon import logs, tainting, telling
from reconciler.host import cluster
from reconciler.runtime import backoff

# covers: PRD-8.19
KEY = "weka.io/cpus-not-ready"


class Server(cluster.Server):
    """One that does what it is told, in order."""

    calls: list[str]
    results: list[bool | errors.ReconcilerError]

    def untaint(self, key: str) -> bool:
        """As `cluster.Server.untaint`."""
        assert threading.current_thread() is not threading.main_thread(), "the event loop would wait"
        self.calls.append(key)
        result = self.results.pop(0)
        if isinstance(result, errors.ReconcilerError):
            raise result
        return result


class Scene:
    """Who takes the taint off, of a node that is served when `why` is ""."""

    def __init__(self, key: str, *results: bool | errors.ReconcilerError) -> None:
        self.server = Server(host="h", port=1, node="n")
        object.__setattr__(self.server, "calls", [])
        object.__setattr__(self.server, "results", [*results])
        self.why = ""
        self.asked = 0
        self._log = io.StringIO()
        self.its = tainting.Tainting(
            key,
            self._unready,
            telling.Teller(logs.configure("json", self._log)),
            lambda: self.server,
            backoff.Backoff(0.0, 0.0),
        )

    def _unready(self) -> str:
        self.asked += 1
        return self.why

    def records(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self._log.getvalue().splitlines()]


@contextlib.asynccontextmanager
async def serving(its: Scene) -> AsyncIterator[None]:
    """While it serves. It must not end by itself: the agent would end with it."""
    task = asyncio.create_task(its.its.serve())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(its: Scene, *events: str) -> list[dict[str, Any]]:
    """The records, once they are of these events."""
    async with asyncio.timeout(60):
        while [record["event"] for record in its.records()] != [*events]:  # noqa: ASYNC110  a thread works
            await asyncio.sleep(0.01)
    return its.records()


async def test_the_taint_stays_until_the_node_is_served() -> None:
    its = Scene(KEY, True)
    its.why = "the node has not converged yet"
    async with serving(its):
        async with asyncio.timeout(60):
            while its.asked < 2:  # noqa: ASYNC110  it looks by itself
                await asyncio.sleep(0.01)
        assert its.server.calls == []
        its.why = ""
        [told] = await until(its, "taint.removed")
    assert (told["key"], its.server.calls) == (KEY, [KEY])


async def test_a_node_without_the_taint_is_told_as_such() -> None:
    its = Scene(KEY, False)
    async with serving(its):
        await until(its, "taint.absent")


async def test_it_is_tried_until_it_is_off_and_each_reason_is_told_once() -> None:
    forbidden = [errors.Usage("403 nodes is forbidden") for _ in range(3)]
    its = Scene(KEY, *forbidden, errors.Retryable("connection refused"), True)
    async with serving(its):
        told = await until(its, "host.limited", "host.limited", "taint.removed")
    assert told[0]["reason"] == f"the taint {KEY} stays on the node: 403 nodes is forbidden"
    assert len(its.server.calls) == 5


async def test_without_a_key_nobody_is_asked_for_anything() -> None:
    its = Scene("")
    async with serving(its):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert (its.asked, its.server.calls, its.records()) == (0, [], [])
