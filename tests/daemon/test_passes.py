"""When passes are made, and over what."""

# covers: PRD-7.6

from __future__ import annotations

import asyncio
import errno
import pathlib
import threading

import pytest

from reconciler import observed
from tests.daemon import node, pods

EVERYTHING = "0-7"
WEB = pods.pod("web")
SHARED = pods.container(WEB)
OTHERS = [pods.container(WEB, f"other-{number}") for number in range(5)]
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


def passes_in(made: node.Node) -> list[dict[str, object]]:
    """What was told of the passes so far."""
    return made.records("pass.done")


async def test_requests_that_come_during_a_pass_are_one_pass(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        for container in [SHARED, *OTHERS]:
            await made.run(WEB, container)
        made.kernel.hold()
        made.passes.everything()
        await asyncio.sleep(0.02)
        before = len(passes_in(made))
        for container in OTHERS:
            made.passes.some((container.id,), hook=True)
            made.passes.signalled((container.id, SHARED.id), at=1.0)
        made.kernel.release()
        await node.until(lambda: len(passes_in(made)) == before + 2)
        await asyncio.sleep(0.02)
        assert [record["looked_at"] for record in passes_in(made)[before:]] == [6, 6]


async def test_while_a_repair_is_not_counted_yet_the_node_is_not_converged(tmp_path: pathlib.Path) -> None:
    """Whoever sees that all is right, and is told that all has converged, finds it among the drifts."""
    async with node.running(tmp_path, watch=True) as made:
        await made.run(DB, INTEGER)
        await made.quiet()
        assert made.status()["converged"]
        made.kernel.hold_answers()
        made.put(INTEGER, EVERYTHING)
        await node.until(lambda: made.cpus(INTEGER) == "2-3")
        assert (made.status()["converged"], made.status()["drift"]["found"]) == (False, 0)
        made.kernel.release()
        await node.until(lambda: bool(made.status()["converged"]))
        assert made.status()["drift"] == {"found": 1, "repaired": 1, "unrepaired": 0}


async def test_looks_that_find_nothing_leave_the_node_converged(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        await made.quiet()
        made.kernel.hold()
        made.passes.everything()
        await asyncio.sleep(0.02)
        assert made.passes.seconds() > 0
        assert made.status()["converged"]


async def test_a_pass_works_on_the_newest_state(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.hold()
        made.passes.everything()
        await asyncio.sleep(0.02)
        await made.create(DB, INTEGER)
        other = pods.guaranteed("other", cores="6-7")
        await made.create(other, pods.container(other, whole=2))
        made.kernel.release()
        await made.quiet()
        texts = [text for path, _, text in made.kernel.attempts if path == SHARED.cgroup]
        assert texts == ["0-1,4-5"], "nobody is moved twice for two creations"


@pytest.mark.parametrize("scope", ["some", "everything"])
async def test_a_pass_is_asked_for_a_part_or_for_everything(tmp_path: pathlib.Path, scope: str) -> None:
    async with node.running(tmp_path) as made:
        for container in [SHARED, *OTHERS]:
            await made.run(WEB, container)
        made.kernel.looks.clear()
        before = len(passes_in(made))
        if scope == "some":
            made.passes.some((SHARED.id,), hook=True)
        else:
            made.passes.everything()
        await node.until(lambda: len(passes_in(made)) > before)
        assert len(made.kernel.looks) == (1 if scope == "some" else 6)


async def test_what_inotify_cannot_see_is_found_by_a_pass_over_everything(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=True) as made:
        await made.run(WEB, SHARED)
        parent = str(SHARED.cgroup).rpartition("/")[0]
        made.host.make(parent, "0-3")
        await asyncio.sleep(0.02)
        assert made.records("drift.found") == []
        await made.passes.passed()
        [found] = made.records("drift.found")
        assert (found["file"], found["observed"]) == ("cpuset.cpus.effective", "0-3")
        assert found["found_by"] == "pass"
        made.host.write(parent, observed.CPUS, "")
        await node.until(lambda: bool(made.records("drift.repaired")))


async def test_what_was_never_signalled_is_repaired_by_a_pass_over_everything(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=False) as made:
        await made.run(WEB, SHARED)
        made.put(SHARED, "0-2")
        await made.passes.passed()
        assert made.cpus(SHARED) == EVERYTHING
    assert [record["found_by"] for record in made.records("drift.found")] == ["pass"]


async def test_a_failed_write_is_tried_again_by_itself(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EBUSY
        made.put(SHARED, "0-2")
        await made.passes.passed()
        assert made.status()["containers"][0]["state"] == "drifted"
        tried = len(made.kernel.attempts)
        await node.until(lambda: len(made.kernel.attempts) >= tried + 2)
        made.kernel.refuses.clear()
        await node.until(lambda: made.cpus(SHARED) == EVERYTHING)
        await made.quiet()
    assert len(made.records("drift.unrepairable")) == 1, "told once, however often it is tried"
    [repaired] = made.records("drift.repaired")
    assert repaired["attempt"] >= 3


async def test_a_pass_that_breaks_off_is_told_and_is_not_the_last(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.fault = RuntimeError("a mistake")
        await made.passes.passed()
        made.kernel.fault = None
        made.put(SHARED, "0-2")
        await made.passes.passed()
        assert made.cpus(SHARED) == EVERYTHING
    [told] = made.records("agent.failed")
    assert (told["what"], told["error"], told["level"]) == ("pass", "RuntimeError: a mistake", "error")
    assert "Traceback" in told["exception"]


@pytest.mark.looptime
async def test_a_pass_that_broke_off_is_made_again_by_itself(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.fault = RuntimeError("a mistake")
        made.put(SHARED, "0-2")
        await made.passes.passed()
        made.kernel.fault = None
        while made.cpus(SHARED) != EVERYTHING:  # noqa: ASYNC110  the worker's thread is waited for
            await asyncio.sleep(1)


async def test_who_asks_for_a_pass_waits_for_one_that_began_afterwards(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.hold()
        made.passes.everything()
        await asyncio.sleep(0.02)
        made.put(SHARED, "0-2")
        asked = asyncio.ensure_future(made.passes.passed())
        made.kernel.release()
        await asked
        assert made.cpus(SHARED) == EVERYTHING


async def test_only_what_a_hook_decided_counts_as_busy(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.hold()
        made.passes.everything()
        await asyncio.sleep(0.02)
        assert not made.passes.busy
        made.passes.everything(hook=True)
        assert made.passes.busy


async def test_the_worker_ends_with_the_passes(tmp_path: pathlib.Path) -> None:
    def workers() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name.startswith("writer")]

    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        assert len(workers()) == 1
    assert workers() == []
