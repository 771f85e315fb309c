"""The log's records as others read them: events, levels and fields of docs/reference/log.md."""

from __future__ import annotations

import asyncio
import errno
import pathlib
import re

import pytest

from reconciler import errors, events
from reconciler.runtime.nri import handler
from tests.daemon import node, pods

REFERENCE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "log.md"
WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
ALWAYS = {"event", "level", "timestamp"}
OWNER = {"id", "namespace", "pod", "container"}


async def test_a_placement_is_told_with_its_owner_class_and_reason(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.create(DB, INTEGER)
        await made.quiet()
    [record] = made.records("placement.admitted")
    assert set(record) == ALWAYS | OWNER | {"class", "cpus", "mems", "reason"}
    assert [record[key] for key in ("id", "namespace", "pod", "container")] == [
        "db-main-1",
        "default",
        "db",
        "main",
    ]
    assert (record["class"], record["cpus"], record["mems"]) == ("integer", "2-3", None)
    assert record["reason"] == "Guaranteed pod with a whole CPU limit of 2: 2-3 is exclusive"


async def test_every_record_of_a_pass_carries_its_number(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.put(SHARED, "0-2")
        await made.passes.passed()
    found, repaired, done = made.records()[-3:]
    assert [record["event"] for record in (found, repaired, done)] == [
        "drift.found",
        "drift.repaired",
        "pass.done",
    ]
    assert found["pass_id"] == repaired["pass_id"] == done["pass_id"] > 0
    assert set(found) == ALWAYS | OWNER | {
        *("pass_id", "file", "desired", "observed", "effective", "found_by"),
    }
    assert set(repaired) == ALWAYS | OWNER | {
        *("pass_id", "observed", "effective", "attempt", "lasted_ms", "result"),
    }
    assert set(done) == ALWAYS | {
        *("pass_id", "found_by", "looked_at", "differences", "writes", "failed", "ms"),
    }
    assert (found["level"], repaired["level"], done["level"]) == ("warning", "info", "info")


async def test_a_pass_with_a_failed_write_is_a_warning(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.put(SHARED, "0-2")
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EBUSY
        await made.passes.passed()
        [done] = [record for record in made.records("pass.done") if record["failed"]]
        assert (done["level"], done["failed"], done["writes"]) == ("warning", 1, 1)
        [told] = made.records("drift.unrepairable")
        assert set(told) == ALWAYS | OWNER | {"pass_id", "reason", "attempt"}
        assert "errno 16" in told["reason"]


async def test_a_change_of_ours_that_fails_is_no_drift(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EBUSY
        await made.create(DB, INTEGER)
        await made.quiet()
        [told] = made.records("placement.failed")
        assert (told["pod"], told["level"]) == ("web", "warning")
    assert made.records("drift.found", "drift.unrepairable") == []


@pytest.mark.parametrize(
    ("event", "level"), [("nri.retry", "warning"), ("nri.handler-failed", "error")], ids=["ours", "theirs"]
)
async def test_what_the_connection_tells_is_in_the_log(
    tmp_path: pathlib.Path, event: str, level: str
) -> None:
    async with node.running(tmp_path) as made:
        made.tell.notice(handler.Notice(event, "a sentence"))
    [record] = made.records(event)
    assert set(record) == ALWAYS | {"reason"}
    assert (record["reason"], record["level"]) == ("a sentence", level)


async def test_a_host_that_is_lacking_is_told(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        made.tell.complain(errors.HostFileError("inotify", "open", errno.EMFILE, "too many"))
    [record] = made.records("host.limited")
    assert (record["reason"], record["level"]) == ("open inotify: too many (errno 24)", "warning")


async def test_every_event_that_is_told_stands_in_the_reference(tmp_path: pathlib.Path) -> None:
    listed = set(re.findall(r"`([a-z]+\.[a-z-]+)`", REFERENCE.read_text()))
    greedy = pods.guaranteed("greedy")
    async with node.running(tmp_path, watch=True) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        with pytest.raises(errors.Refused):
            await made.create(greedy, pods.container(greedy, whole=16))
        made.put(INTEGER, "0-7")
        await node.until(lambda: bool(made.records("drift.repaired")))
        made.kernel.fault = RuntimeError("a mistake")
        with pytest.raises(errors.Refused):
            await made.start(DB, INTEGER)
        made.kernel.fault = None
        made.agent.stopped(events.ContainerStopped(pod=DB, container=INTEGER))
        made.agent.disconnected("gone")
        await asyncio.sleep(0)
        await made.quiet()
    told = {record["event"] for record in made.records()}
    assert len(told) >= 9
    assert told - listed == set()
