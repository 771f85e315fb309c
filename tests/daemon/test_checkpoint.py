"""The checkpoint on disk: whole or not at all, set aside where it cannot be used, never in anyone's way."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pathlib
import stat
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from reconciler import errors, events
from reconciler.daemon import checkpoint as disk
from reconciler.daemon import saving
from reconciler.policy import checkpoint, lifecycle, restoring, state
from reconciler.sim import machine
from tests.pipeline import samples

# covers: PRD-6.7

EIGHT = machine.Shape(sockets=1, cores=4, adjacent=True)
FRESH = samples.fresh(EIGHT)
DB = samples.pod("db", qos=samples.GUARANTEED)
ORIGIN = checkpoint.Origin(machine="one", boot="first")


def holding(name: str) -> state.State:
    """A node on which the pod of that name holds CPUs."""
    pod = samples.pod(name, qos=samples.GUARANTEED)
    its = samples.container(pod, limits=samples.whole(2))
    return lifecycle.admit(FRESH, samples.creating(pod, its))[0]


OLD, NEW = holding("old"), holding("new")


class Told:
    """What the log would be told."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str]] = []
        self.paths: set[str] = set()

    def checkpoint_restored(
        self, path: str, saved: checkpoint.Saved, misfits: Iterable[restoring.Misfit], *, rebooted: bool
    ) -> None:
        """As `saving.Tell`."""
        dropped = ", ".join(its.claim.holder for its in misfits)
        self.paths.add(path)
        self.records.append(("restored", f"{len(saved.ledger.claims)} {rebooted} {dropped}".strip()))

    def checkpoint_set_aside(self, path: str, kept: str, reason: str) -> None:
        """As `saving.Tell`."""
        self.paths.add(path)
        self.records.append((f"set aside {os.path.basename(kept)}".strip(), reason))

    def checkpoint_failed(self, path: str, reason: str) -> None:
        """As `saving.Tell`."""
        self.paths.add(path)
        self.records.append(("failed", reason))

    def checkpoint_saved(self, path: str) -> None:
        """As `saving.Tell`."""
        self.paths.add(path)
        self.records.append(("saved", ""))


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    """Where the checkpoint is."""
    return str(tmp_path / "checkpoint.json")


def write(path: str, now: state.State, on: disk.Disk | None = None) -> None:
    disk.write(path, checkpoint.encode(now, ORIGIN), on or disk.Disk())


def restore(path: str, told: Told, origin: checkpoint.Origin = ORIGIN, *, dry: bool = False) -> Any:
    saved = saving.restore(path, origin, FRESH.terms, told, dry=dry)
    return None if saved is None else {claim.pod for claim in saved.ledger.claims.values()}


def test_what_was_written_is_read_and_is_nobody_elses_to_read(path: str) -> None:
    write(path, OLD)
    write(path, NEW)
    assert restore(path, Told()) == {"test/new"}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(path)) == ["checkpoint.json"]


class Step(disk.Disk):
    """A disk that does something in the place of its `number`-th step, or right after it."""

    def __init__(self, number: int, do: Callable[[], None], *, after: bool = False) -> None:
        self.steps = 0
        self._number = number
        self._do = do
        self._after = after

    def _step(self, done: Callable[[], Any]) -> Any:
        self.steps += 1
        if self.steps == self._number and not self._after:
            self._do()
        result = done()
        if self.steps == self._number and self._after:
            self._do()
        return result

    def create(self, path: str) -> int:
        """As `Disk.create`."""
        made: int = self._step(lambda: disk.Disk.create(self, path))
        return made

    def write(self, descriptor: int, piece: bytes) -> None:
        """As `Disk.write`."""
        self._step(lambda: disk.Disk.write(self, descriptor, piece))

    def sync(self, descriptor: int) -> None:
        """As `Disk.sync`."""
        self._step(lambda: disk.Disk.sync(self, descriptor))

    def rename(self, before: str, after: str) -> None:
        """As `Disk.rename`."""
        self._step(lambda: disk.Disk.rename(self, before, after))


class KilledError(BaseException):
    """The process ends here."""


def kill() -> None:
    raise KilledError


STEPS = 9
"""Create, five pieces, sync, rename, sync of the folder."""
RENAME = 8


def test_a_write_has_the_steps_that_these_tests_break_off(path: str) -> None:
    counting = Step(0, kill)
    write(path, NEW, counting)
    assert counting.steps == STEPS


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, STEPS + 1))
def test_whoever_is_killed_at_any_step_leaves_the_old_document_or_the_new(
    path: str, number: int, *, after: bool
) -> None:
    write(path, OLD)
    with pytest.raises(KilledError):
        write(path, NEW, Step(number, kill, after=after))
    renamed = number > RENAME or (number == RENAME and after)
    assert restore(path, Told()) == {"test/new" if renamed else "test/old"}
    write(path, NEW)
    assert restore(path, Told()) == {"test/new"}
    assert os.listdir(os.path.dirname(path)) == ["checkpoint.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO])
@pytest.mark.parametrize("number", range(1, STEPS))
def test_a_write_that_fails_leaves_the_old_document_and_nothing_else(
    path: str, number: int, code: int
) -> None:
    def fail() -> None:
        raise OSError(code, os.strerror(code))

    write(path, OLD)
    with pytest.raises(errors.HostFileError, match=os.strerror(code)) as caught:
        write(path, NEW, Step(number, fail))
    assert (caught.value.errno, caught.value.path) == (code, path)
    assert restore(path, Told()) == {"test/old"}
    assert os.listdir(os.path.dirname(path)) == ["checkpoint.json"]


def test_where_there_is_none_there_is_nothing_to_tell(path: str) -> None:
    told = Told()
    assert restore(path, told) is None
    assert told.records == []


def _garbage(path: str) -> None:
    pathlib.Path(path).write_bytes(b'{"version": 1, "claims": [')


def _newer(path: str) -> None:
    pathlib.Path(path).write_bytes(b'{"version": 99}')


def _foreign(path: str) -> None:
    disk.write(path, checkpoint.encode(OLD, checkpoint.Origin(machine="two")), disk.Disk())


def _huge(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(checkpoint.LIMIT + 5)


def _folder(path: str) -> None:
    os.makedirs(os.path.join(path, "inside"))


def _link(path: str) -> None:
    os.symlink("/dev/zero", path)


def _pipe(path: str) -> None:
    os.mkfifo(path)


UNUSABLE = {
    "damaged": (_garbage, "damaged", "truncated"),
    "newer": (_newer, "newer", "99 is newer than 2"),
    "foreign": (_foreign, "foreign", "made on machine two"),
    "huge": (_huge, "damaged", "more than"),
    "a directory": (_folder, "damaged", "no regular file"),
    "a link": (_link, "damaged", "symbolic link"),
    "a pipe": (_pipe, "damaged", "no regular file"),
}


@pytest.mark.parametrize(("make", "reason", "why"), UNUSABLE.values(), ids=UNUSABLE)
def test_one_that_cannot_be_used_is_set_aside_with_one_warning(
    path: str, make: Callable[[str], None], reason: str, why: str
) -> None:
    told = Told()
    make(path)
    assert restore(path, told) is None
    [(what, told_why)] = told.records
    assert told.paths == {path}
    assert what == f"set aside checkpoint.json.{reason}"
    assert why in told_why
    assert os.listdir(os.path.dirname(path)) == [f"checkpoint.json.{reason}"]
    write(path, NEW)
    assert restore(path, told) == {"test/new"}


def test_one_that_cannot_be_used_stays_where_it_is_in_a_dry_run(path: str) -> None:
    told = Told()
    _garbage(path)
    assert restore(path, told, dry=True) is None
    assert [what for what, _ in told.records] == ["set aside"]
    assert os.path.exists(path)


def test_of_those_that_were_set_aside_the_last_are_kept(path: str) -> None:
    for number in range(6):
        pathlib.Path(path).write_text(f"garbage {number}")
        restore(path, Told())
    folder = pathlib.Path(path).parent
    kept = {file.read_text() for file in folder.iterdir()}
    assert len(kept) == 3
    assert "garbage 5" in kept


def test_one_that_cannot_be_set_aside_is_told_and_costs_nothing_else(path: str) -> None:
    told = Told()
    _folder(path)
    for number in ("", ".2", ".3"):
        _folder(f"{path}.damaged{number}")
    assert restore(path, told) is None
    [(what, why)] = told.records
    assert what == "set aside"
    assert "no regular file" in why
    assert "Directory not empty" in why


@pytest.mark.parametrize(("boot", "rebooted"), [("first", False), ("second", True)])
def test_what_was_restored_is_told(path: str, boot: str, *, rebooted: bool) -> None:
    told = Told()
    write(path, OLD)
    assert restore(path, told, checkpoint.Origin(machine="one", boot=boot)) == {"test/old"}
    assert told.records == [("restored", f"1 {rebooted}")]


def test_claims_that_do_not_fit_are_told(path: str) -> None:
    told = Told()
    write(path, OLD)
    two = samples.fresh(machine.Shape(sockets=1, cores=1)).terms
    saved = saving.restore(path, ORIGIN, two, told)
    assert saved is not None
    assert dict(saved.ledger.claims) == {}
    assert told.records == [("restored", "0 False test/old container main")]


def test_the_origin_is_what_the_host_says_of_itself(tmp_path: pathlib.Path) -> None:
    assert disk.origin(str(tmp_path)) == checkpoint.Origin()
    for file, text in (("proc/sys/kernel/random/boot_id", "b-1\n"), ("etc/machine-id", "m-1\n")):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text)
    assert disk.origin(str(tmp_path)) == checkpoint.Origin(machine="m-1", boot="b-1")


class Shelf:
    """A place for documents that may fail, or hold a write up until it is told to go on."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.why = ""
        self.held_up: threading.Event | None = None
        self.threads: set[int] = set()

    def write(self, path: str, pieces: Iterable[bytes]) -> None:
        """As `checkpoint.write`."""
        self.threads.add(threading.get_ident())
        if self.held_up is not None:
            assert self.held_up.wait(30)
        if self.why:
            raise errors.HostFileError(path, "write", errno.ENOSPC, self.why)
        self.kept.append(b"".join(pieces))


class Writing:
    """A saver over a shelf; `now` is the agent's state."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, dry: bool = False) -> None:
        monkeypatch.setattr(saving, "BURST", 0.001)
        monkeypatch.setattr(saving, "PAUSE", 0.01)
        monkeypatch.setattr(saving, "FIRST_RETRY", 0.02)
        self.shelf = Shelf()
        self.told = Told()
        self.now: state.State | None = FRESH
        write_ = None if dry else self.shelf.write
        self.saver = saving.Saver("there", ORIGIN, lambda: self.now, self.told, write=write_)

    def become(self, now: state.State | None) -> None:
        """The agent has decided something."""
        self.now = now
        self.saver.changed()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the saver work until the condition holds."""
        async with asyncio.timeout(30):
            serving = asyncio.create_task(self.saver.serve())
            try:
                while not condition():  # noqa: ASYNC110  a thread is waited for
                    await asyncio.sleep(0.001)
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)


@pytest.fixture
def its(monkeypatch: pytest.MonkeyPatch) -> Writing:
    """A saver that does not wait long."""
    return Writing(monkeypatch)


def pods(text: bytes) -> set[str]:
    return {claim.pod for claim in checkpoint.decode(text).ledger.claims.values()}


async def test_a_burst_of_changes_is_written_once_and_in_a_thread(its: Writing) -> None:
    for number in range(50):
        its.become(holding(f"pod-{number}"))
    await its.until(lambda: bool(its.shelf.kept))
    assert [pods(text) for text in its.shelf.kept] == [{"test/pod-49"}]
    assert threading.get_ident() not in its.shelf.threads
    assert its.saver.document() == {"path": "there", "saved": True, "reason": ""}


async def test_nothing_is_written_while_a_decision_can_be_taken_back(its: Writing) -> None:
    looks = 0

    def now() -> state.State | None:
        nonlocal looks
        looks += 1
        return None if looks < 4 else OLD

    its.saver._now = now
    its.saver.changed()
    await its.until(lambda: bool(its.shelf.kept))
    assert looks == 4
    assert pods(its.shelf.kept[0]) == {"test/old"}


async def test_the_same_ledger_is_not_written_again(its: Writing) -> None:
    its.become(OLD)
    await its.until(lambda: len(its.shelf.kept) == 1)
    its.become(lifecycle.absorb(OLD, events.ContainerStopped(pod=DB, container=samples.container(DB))))
    its.saver.finish()
    its.become(NEW)
    await its.until(lambda: len(its.shelf.kept) == 2)
    assert [pods(text) for text in its.shelf.kept] == [{"test/old"}, {"test/new"}]


async def test_what_was_not_written_yet_is_written_at_the_end(its: Writing) -> None:
    its.become(OLD)
    its.saver.finish()
    assert [pods(text) for text in its.shelf.kept] == [{"test/old"}]
    its.become(None)
    its.saver.finish()
    assert len(its.shelf.kept) == 1


async def test_a_write_that_is_under_way_at_the_end_does_not_come_after_the_last_one(its: Writing) -> None:
    its.shelf.held_up = threading.Event()
    its.become(OLD)
    await its.until(lambda: bool(its.shelf.threads))
    its.become(NEW)
    ending = asyncio.create_task(asyncio.to_thread(its.saver.finish))
    its.shelf.held_up.set()
    await ending
    assert pods(its.shelf.kept[-1]) == {"test/new"}


async def test_a_disk_that_is_full_is_told_once_and_tried_again_with_longer_pauses(its: Writing) -> None:
    its.shelf.why = "No space left on device"
    its.become(OLD)
    pauses: list[float] = []

    def seen() -> bool:
        if its.saver._pause not in pauses:
            pauses.append(its.saver._pause)
        return len(pauses) == 4

    await its.until(seen)
    [(what, why)] = its.told.records
    assert what == "failed"
    assert "No space left on device" in why
    assert pauses == [0.01, 0.02, 0.04, 0.08]
    document = its.saver.document()
    assert (document["saved"], document["reason"]) == (False, why)
    its.shelf.why = ""
    its.saver.changed()
    await its.until(lambda: bool(its.shelf.kept))
    await its.until(lambda: its.told.records[-1] == ("saved", ""))
    assert its.saver.document()["saved"] is True
    its.become(NEW)
    assert its.saver.document()["saved"] is False


async def test_another_reason_is_told_again(its: Writing) -> None:
    its.become(OLD)
    for why in ("No space left on device", "Read-only file system"):
        its.shelf.why = why
        its.saver.changed()
        await its.until(lambda why=why: bool(its.told.records) and why in its.told.records[-1][1])  # type: ignore[misc]
    assert len(its.told.records) == 2


async def test_a_fault_of_ours_is_told_like_a_disk_that_fails(its: Writing) -> None:
    def fail(path: str, pieces: Iterable[bytes]) -> None:
        raise ValueError("no such letter")

    its.saver._write = fail
    its.become(OLD)
    await its.until(lambda: bool(its.told.records))
    assert its.told.records == [("failed", "ValueError: no such letter")]


async def test_a_dry_run_writes_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    its = Writing(monkeypatch, dry=True)
    its.become(OLD)
    its.saver.finish()
    assert its.shelf.kept == []
    assert its.saver.document() == {"path": "there", "saved": False, "reason": "a dry run writes none"}


def test_a_checkpoint_is_a_document_of_one_line(path: str) -> None:
    write(path, OLD)
    text = pathlib.Path(path).read_text()
    assert text.count("\n") == 1
    assert json.loads(text)["version"] == checkpoint.VERSION
