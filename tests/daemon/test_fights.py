"""Somebody who does not stop writing costs neither the log nor the processor, and loses in the end."""

from __future__ import annotations

import pathlib
import threading

from reconciler import events
from reconciler.config import schema
from tests.daemon import node, pods

# covers: PRD-7.14

COUNT = 20
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


class Vandal:
    """Writes to the cpusets of containers from a thread of its own, as fast as it can, until told to stop."""

    def __init__(self, made: node.Node, paths: list[str]) -> None:
        self._root = pathlib.Path(made.host.root)
        self._paths = paths
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.writes = 0

    def __enter__(self) -> Vandal:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.0005):
            for path in self._paths:
                text = str(self.writes % 8)
                (self._root / path / "cpuset.cpus").write_text(f"{text}\n")
                self.writes += 1


async def fight(made: node.Node, right: str, *containers: events.Container) -> int:
    """Let somebody write to all of these until there were seven repairs of each; returns when they have what
    is right. How often was written."""
    made.kernel.attempts.clear()
    with Vandal(made, [str(container.cgroup) for container in containers]) as vandal:
        await node.until(lambda: len(made.kernel.attempts) >= 7 * len(containers))
    await node.until(lambda: {made.cpus(container) for container in containers} == {right})
    await made.quiet()
    assert made.status()["converged"]
    assert made.book.fights.conflicts().keys() == {container.id for container in containers}
    return vandal.writes


async def test_a_container_that_is_written_without_an_end_is_looked_at_and_told_of_now_and_then(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path, watch=True) as made:
        await made.run(DB, INTEGER)
        await made.quiet()
        made.kernel.looks.clear()
        before = len(made.records())
        writes = await fight(made, "2-3", INTEGER)
        repairs = len(made.kernel.attempts)
        assert writes > 20 * repairs
        # One look finds what was written, another follows the repair, and those of full passes come on top.
        assert len(made.kernel.looks) < 8 * repairs + 20
        told = [record["event"] for record in made.records()[before:] if record["event"] != "pass.done"]
        assert told.count("conflict.raised") == 1
        assert len(told) <= 2 * 3 + 1 + repairs.bit_length() + 1
        counters = made.book.counters
        assert (counters.found, counters.unrepaired) == (counters.repaired, 0)


async def test_many_at_once_all_come_back(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=True) as made:
        web = pods.pod("web")
        containers = [pods.container(web, f"c{number}") for number in range(COUNT)]
        for container in containers:
            await made.run(web, container)
        await made.run(DB, INTEGER)
        await made.quiet()
        await fight(made, "0-1,4-7", *containers)


async def test_a_start_does_not_wait_for_a_repair_that_does(tmp_path: pathlib.Path) -> None:
    config = schema.Config(fights=schema.Fights(longest_pause_seconds=60))
    async with node.running(tmp_path, config, watch=True) as made:
        web = pods.pod("web")
        shared = pods.container(web)
        await made.run(web, shared)
        adjustment = await made.create(DB, INTEGER)
        made.make(INTEGER, adjustment.cpus, adjustment.mems)
        await node.until(lambda: made.cpus(shared) == "0-1,4-7")
        for text in ("4", "5"):
            made.put(shared, text)
            await node.until(lambda: made.cpus(shared) == "0-1,4-7")
            await made.quiet()
        # The pause after the next repair is longer than anything here takes.
        made.book.fights.draw = lambda: 1000.0
        made.put(shared, "6")
        await node.until(lambda: made.cpus(shared) == "0-1,4-7")
        made.put(shared, "2-3")
        await node.until(lambda: bool(made.book.fights.held()))
        await made.quiet()
        assert made.cpus(shared) == "2-3"
        await made.start(DB, INTEGER)
        assert made.cpus(shared) == "0-1,4-7"
