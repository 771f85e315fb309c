"""The file of drifts: what was written comes back, it does not grow, and what is none of ours is noticed."""

# covers: PRD-7.20, PRD-7.21

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator

import pytest

from reconciler import errors
from reconciler.daemon import archive, archived, history

ROW = history.Row(
    number=1,
    found=1000.0,
    latest=1000.5,
    owner={"id": "c0ffee", "namespace": "shop", "pod": "web-0", "container": "nginx"},
    files=(history.File(file="cpuset.cpus", desired="2-3", observed="0-7"),),
    effective="0-7",
    found_by="inotify",
    result="found",
)


def row(number: int, *, pod: str = "web-0", latest: float = 1000.5, reason: str = "") -> history.Row:
    owner = {**ROW.owner, "pod": pod}
    return dataclasses.replace(ROW, number=number, owner=owner, latest=latest, reason=reason)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    """Where the file is to be."""
    return str(tmp_path / "a state?#%" / "drifts.sqlite")


@pytest.fixture
def made(path: str) -> Iterator[archive.Archive]:
    """An empty one."""
    os.mkdir(os.path.dirname(path))
    opened = archive.Archive(path, 7)
    yield opened
    opened.close()


def numbers(page: archived.Page) -> list[object]:
    """Which drifts these are, in their order."""
    return [each["drift"] for each in page.rows]


def test_what_was_written_is_read(made: archive.Archive, path: str) -> None:
    made.write([ROW])
    page = archived.read(path, archived.Query(), run=7)
    assert page == archived.Page(rows=({"drift": "7-1", "rev": 1, **ROW.document()},), more=False)


def test_a_row_that_has_changed_is_there_once_and_comes_after_all_others(
    made: archive.Archive, path: str
) -> None:
    made.write([row(1), row(2), row(3)])
    before = archived.read(path, archived.Query())
    made.write([row(1, reason="busy")])
    after = archived.read(path, archived.Query())
    assert (numbers(before), numbers(after)) == (["7-1", "7-2", "7-3"], ["7-2", "7-3", "7-1"])
    [changed] = archived.read(path, archived.Query(after=3)).rows
    assert (changed["drift"], changed["reason"], changed["rev"]) == ("7-1", "busy", 4)


def test_rows_are_asked_for_by_time_and_by_pod(made: archive.Archive, path: str) -> None:
    made.write([row(1, latest=10.0), row(2, latest=20.0, pod="db-0"), row(3, latest=30.0)])
    assert numbers(archived.read(path, archived.Query(since=20.0))) == ["7-2", "7-3"]
    assert numbers(archived.read(path, archived.Query(pod="shop/web-0"))) == ["7-1", "7-3"]
    assert numbers(archived.read(path, archived.Query(pod="default/web-0"))) == []


def test_many_rows_are_read_in_pages(made: archive.Archive, path: str) -> None:
    made.write([row(number) for number in range(archived.MOST_READ + 2)])
    first = archived.read(path, archived.Query())
    rest = archived.read(path, archived.Query(after=int(str(first.rows[-1]["rev"]))))
    assert (len(first.rows), first.more) == (archived.MOST_READ, True)
    assert (len(rest.rows), rest.more) == (2, False)


def test_where_there_is_no_file_there_are_no_rows_and_none_is_made(tmp_path: pathlib.Path) -> None:
    assert archived.read(str(tmp_path / "drifts.sqlite"), archived.Query()) == archived.Page()
    assert list(tmp_path.iterdir()) == []


def test_only_its_owner_may_read_it(made: archive.Archive, path: str) -> None:
    made.write([ROW])
    modes = {stat.S_IMODE(its.stat().st_mode) for its in pathlib.Path(path).parent.iterdir()}
    assert modes == {0o600}


def test_the_next_agent_goes_on_with_it(made: archive.Archive, path: str) -> None:
    made.write([row(1)])
    made.close()
    after = archive.Archive(path, 8)
    after.write([row(1)])
    after.close()
    assert os.listdir(os.path.dirname(path)) == ["drifts.sqlite"]
    assert numbers(archived.read(path, archived.Query())) == ["7-1", "8-1"]


def test_how_a_drift_ended_is_unknown_where_its_agent_has_ended_before(
    made: archive.Archive, path: str
) -> None:
    repaired = dataclasses.replace(ROW, number=2, ended=1001.0, result="repaired")
    made.write([ROW, repaired])
    seen = [archived.read(path, archived.Query(), run=run).rows for run in (7, 0)]
    assert [[its["result"] for its in rows] for rows in seen] == [
        ["found", "repaired"],
        ["unknown", "repaired"],
    ]


def test_what_was_written_is_there_after_a_kill(
    made: archive.Archive, path: str, tmp_path: pathlib.Path
) -> None:
    """The files as they are while the agent has them open are what a killed one leaves."""
    made.write([row(number) for number in range(500)])
    shutil.copytree(os.path.dirname(path), tmp_path / "after")
    left = str(tmp_path / "after" / "drifts.sqlite")
    assert len(archived.read(left, archived.Query()).rows) == 500
    after = archive.Archive(left, 8)
    after.write([row(1)])
    after.close()
    assert len(archived.read(left, archived.Query()).rows) == 501


def test_the_rows_of_which_nothing_was_heard_for_the_longest_make_room(path: str) -> None:
    os.mkdir(os.path.dirname(path))
    made = archive.Archive(path, 7, most=3)
    made.write([row(1), row(2), row(3)])
    made.write([row(1, reason="busy")])
    made.write([row(4), row(5)])
    made.close()
    assert numbers(archived.read(path, archived.Query())) == ["7-1", "7-4", "7-5"]


def test_the_file_stays_as_large_as_it_may_be_and_a_batch(path: str) -> None:
    os.mkdir(os.path.dirname(path))
    made = archive.Archive(path, 7, largest=1 << 20)
    for first in range(0, 4000, 100):
        made.write([row(number, reason="x" * 4000) for number in range(first, first + 100)])
    found = archived.read(path, archived.Query(after=0))
    wal = os.path.getsize(f"{path}-wal")
    made.close()
    assert os.path.getsize(path) < (1 << 20) + 100 * 5000
    assert wal < 3 << 20
    assert numbers(found)[-1] == "7-3999"
    assert 150 < len(found.rows) < 260


def _garbage(path: str) -> None:
    pathlib.Path(path).write_bytes(b"SQLite format 4\0" + b"x" * 5000)


def _torn(path: str) -> None:
    made = archive.Archive(path, 7)
    made.write([row(number, reason="x" * 100) for number in range(500)])
    made.close()
    with open(path, "r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 40_000)


def _truncated(path: str) -> None:
    made = archive.Archive(path, 7)
    made.write([row(number) for number in range(500)])
    made.close()
    os.truncate(path, 9000)


def _another_program(path: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE drifts (x)")
    connection.close()


def _newer(path: str) -> None:
    archive.Archive(path, 7).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()


def _other_columns(path: str) -> None:
    archive.Archive(path, 7).close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE drifts ADD COLUMN x")
    connection.close()


BAD = [
    pytest.param(_garbage, "damaged", "is damaged: file is not a database", id="garbage"),
    pytest.param(_torn, "damaged", "is damaged: ", id="overwritten"),
    pytest.param(_truncated, "damaged", "is damaged: ", id="truncated"),
    pytest.param(_another_program, "foreign", "is no history of drifts", id="another program's"),
    pytest.param(_newer, "newer", "is of version 2, and this program knows 1", id="newer"),
    pytest.param(_other_columns, "foreign", "has a table of other columns: rev, ", id="other columns"),
    pytest.param(os.mkdir, "foreign", "is no regular file", id="a directory"),
    pytest.param(lambda path: os.symlink("x", path), "foreign", "is no regular file", id="a link"),
]


@pytest.mark.parametrize(("spoil", "reason", "why"), BAD)
def test_what_cannot_be_used_is_not_written(
    spoil: Callable[[str], object], reason: str, why: str, tmp_path: pathlib.Path
) -> None:
    path = str(tmp_path / "drifts.sqlite")
    spoil(path)
    with pytest.raises(archive.Unusable, match=why) as raised:
        archive.Archive(path, 8)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("spoil", "why"), [(bad.values[0], bad.values[2]) for bad in BAD], ids=[b.id for b in BAD]
)
def test_what_cannot_be_used_is_not_read(
    spoil: Callable[[str], object], why: str, tmp_path: pathlib.Path
) -> None:
    path = str(tmp_path / "drifts.sqlite")
    spoil(path)
    with pytest.raises(archive.Unusable, match=why):
        archived.read(path, archived.Query())


def test_a_file_that_was_made_and_never_written_is_taken(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "drifts.sqlite")
    pathlib.Path(path).touch()
    made = archive.Archive(path, 7)
    made.write([ROW])
    made.close()
    assert numbers(archived.read(path, archived.Query())) == ["7-1"]


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"a":' * 99_999], ids=["torn", "list", "number", "deep"])
def test_a_row_that_is_no_document_is_damage(made: archive.Archive, path: str, text: str) -> None:
    made.write([ROW])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE drifts SET row = ?", (text,))
    connection.close()
    with pytest.raises(archive.Unusable, match="is damaged: a row is no JSON"):
        archived.read(path, archived.Query())


def test_a_file_that_was_removed_or_replaced_is_noticed(made: archive.Archive, path: str) -> None:
    seen = [made.is_current]
    os.rename(path, f"{path}.away")
    seen.append(made.is_current)
    pathlib.Path(path).touch()
    seen.append(made.is_current)
    assert seen == [True, False, False]


def test_where_there_is_no_folder_it_may_work_later(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.Retryable, match=r"open .*/nowhere/drifts\.sqlite: No such file or directory"):
        archive.Archive(str(tmp_path / "nowhere" / "drifts.sqlite"), 7)


def test_three_of_each_kind_are_kept_with_their_logs(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "drifts.sqlite")
    kept = []
    for number in range(4):
        pathlib.Path(path).write_text(f"file {number}")
        pathlib.Path(f"{path}-wal").write_text(f"log {number}")
        kept.append(archive.set_aside(path, "damaged"))
    assert len(set(kept)) == 3
    assert not os.path.exists(path)
    assert not os.path.exists(f"{path}-wal")
    for name in set(kept):
        file, log = (pathlib.Path(name + suffix).read_text() for suffix in ("", "-wal"))
        assert file.split()[1] == log.split()[1] != "0"
