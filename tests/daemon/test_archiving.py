"""When drifts are written: soon, in batches and in no pass; and what becomes of them where that cannot be."""

# covers: PRD-7.20, PRD-7.21

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from reconciler import errors
from reconciler.daemon import archive, archived, archiving, history
from tests.daemon import node, test_history

FULL = errors.Retryable("write drifts.sqlite: database or disk is full")


class Told:
    """Keeps what is told of the history."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []

    def archive(self, event: archiving.Event, **fields: object) -> None:
        """As `archiving.Tell.archive`."""
        self.told.append((event.removeprefix("history."), fields))


class Disk:
    """Opens files as `fault` lets it, and counts what is written in which thread."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.batches: list[int] = []
        self.threads: set[threading.Thread] = set()

    def make(self, path: str, run: int) -> archive.Archive:
        """As `archive.Archive`."""
        disk = self

        class Counted(archive.Archive):
            def write(self, rows: Sequence[history.Row]) -> None:
                if disk.fault is not None:
                    raise disk.fault
                disk.batches.append(len(rows))
                disk.threads.add(threading.current_thread())
                super().write(rows)

        return Counted(path, run)


class Ground:
    """A history that is written to a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = str(folder / "drifts.sqlite")
        self.ring = test_history.Ring()
        self.told = Told()
        self.disk = Disk()
        self.its = archiving.Archiving(
            self.path,
            self.ring.history,
            self.told,
            make=self.disk.make,
            epoch=lambda: 7.0,
            monotonic=lambda: 0.0,
        )

    def drift(self, number: int) -> None:
        """One is found, and repaired."""
        self.ring.passed(number, test_history.found(number), test_history.repaired(0.0))

    def drifts(self) -> list[object]:
        """What the file has."""
        return [row["drift"] for row in archived.read(self.path, archived.Query(), run=7000).rows]

    @contextlib.asynccontextmanager
    async def serving(self, *, dry: bool = False) -> AsyncIterator[None]:
        """It is written meanwhile."""
        task = asyncio.create_task(self.its.serve(dry=dry))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def ground(tmp_path: pathlib.Path) -> Ground:
    """One that nothing was written to."""
    return Ground(tmp_path)


async def test_a_drift_is_on_disk_soon_after_and_written_in_another_thread(ground: Ground) -> None:
    async with ground.serving():
        await asyncio.to_thread(ground.drift, 1)
        await node.until(lambda: ground.drifts() == ["7000-1"])
    assert threading.main_thread() not in ground.disk.threads


async def test_without_drifts_there_is_no_file(ground: Ground) -> None:
    async with ground.serving():
        await asyncio.to_thread(ground.ring.passed, 1.0)
        assert (await ground.its.answer(archived.Query())).rows == ()
    ground.its.finish()
    assert not os.path.exists(ground.path)


def test_a_burst_is_one_batch(ground: Ground) -> None:
    for number in range(100):
        ground.drift(number)
    ground.its.write()
    ground.its.write()
    assert ground.disk.batches == [100]


async def test_whoever_asks_sees_what_has_just_happened(ground: Ground) -> None:
    ground.ring.passed(1.0, test_history.found(1.0))
    [row] = (await ground.its.answer(archived.Query())).rows
    assert row["result"] == "found"
    ground.ring.passed(2.0, test_history.repaired(1000.0))
    [row] = (await ground.its.answer(archived.Query())).rows
    assert row["result"] == "repaired"


def test_the_end_of_the_agent_loses_nothing(ground: Ground) -> None:
    ground.drift(1)
    ground.its.finish()
    assert ground.drifts() == ["7000-1"]


def test_a_file_that_cannot_be_used_is_set_aside_and_another_is_begun(ground: Ground) -> None:
    pathlib.Path(ground.path).write_text("no database at all, but long enough to be taken for one " * 9)
    ground.drift(1)
    ground.its.write()
    [(what, fields)] = ground.told.told
    assert (what, fields["kept"]) == ("set-aside", f"{ground.path}.damaged")
    assert "is damaged: file is not a database" in str(fields["reason"])
    assert ground.drifts() == ["7000-1"]
    assert ground.its.document() == {"path": ground.path, "reason": "", "lost": 0}


async def test_a_file_that_cannot_be_used_is_found_at_the_start(ground: Ground) -> None:
    pathlib.Path(ground.path).write_text("x" * 999)
    async with ground.serving():
        await node.until(lambda: bool(ground.told.told))
    assert not os.path.exists(ground.path)


async def test_a_dry_run_reads_what_is_there_and_changes_nothing(ground: Ground) -> None:
    ground.drift(1)
    ground.its.finish()
    before = pathlib.Path(ground.path).read_bytes()
    dry = Ground(pathlib.Path(ground.path).parent)
    async with dry.serving(dry=True):
        [row] = (await dry.its.answer(archived.Query())).rows
    dry.its.finish()
    assert row["drift"] == "7000-1"
    assert dry.disk.batches == []
    assert pathlib.Path(ground.path).read_bytes() == before


def test_one_that_is_damaged_while_it_is_written_is_set_aside_too(ground: Ground) -> None:
    ground.drift(1)
    ground.its.write()
    ground.disk.fault = archive.Unusable(ground.path, "damaged", "is damaged: malformed")
    ground.drift(2)
    ground.its.write()
    assert [what for what, _ in ground.told.told] == ["set-aside", "failed"]
    ground.disk.fault = None
    ground.its.write()
    assert ground.drifts() == ["7000-2"]


def test_a_full_disk_is_told_once_and_costs_no_row_that_there_is_room_for(ground: Ground) -> None:
    ground.disk.fault = FULL
    for number in range(1, 6):
        ground.drift(number)
        ground.its.write()
    assert ground.told.told == [("failed", {"path": ground.path, "reason": str(FULL)})]
    assert ground.its.document() == {"path": ground.path, "reason": str(FULL), "lost": 0}
    ground.disk.fault = None
    ground.its.write()
    assert ground.told.told[1:] == [("saved", {"path": ground.path, "lost": 0})]
    assert ground.its.document()["reason"] == ""
    assert len(ground.drifts()) == 5


def test_what_there_is_no_room_for_is_counted(ground: Ground) -> None:
    ground.disk.fault = FULL
    for number in range(history.MOST_WAITING + 10):
        ground.drift(number)
    ground.its.write()
    ground.disk.fault = None
    ground.its.write()
    assert ground.told.told[1:] == [("saved", {"path": ground.path, "lost": 10})]
    assert ground.disk.batches == [history.MOST_WAITING]


@pytest.mark.parametrize("fault", [MemoryError(), ValueError("no such thing")], ids=["memory", "a mistake"])
def test_whatever_breaks_costs_the_history_and_nothing_else(ground: Ground, fault: Exception) -> None:
    ground.disk.fault = fault
    ground.drift(1)
    ground.its.write()
    assert type(fault).__name__ in str(ground.its.document()["reason"])


def test_a_file_that_somebody_has_removed_is_made_again(ground: Ground) -> None:
    ground.drift(1)
    ground.its.write()
    os.unlink(ground.path)
    ground.drift(2)
    ground.its.write()
    assert ground.drifts() == ["7000-2"]
    assert ground.told.told == []
