"""A log that cannot be written holds nobody up, and costs records only, which are counted."""

# covers: PRD-11.2

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import sys
from collections.abc import Iterator

import pytest

from reconciler.daemon import logs, outlet
from tests.daemon import process
from tests.faults import ground

PIPE = 16384
ROOM = 1000
LONGEST = 20_000


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends, the second of which blocks when it is full."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE)
    yield ends
    for end in ends:
        os.close(end)


def told(count: int) -> str:
    return f"lost {count}"


def drained(descriptor: int) -> str:
    """All that is in a pipe."""
    os.set_blocking(descriptor, False)
    pieces = []
    try:
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
    except BlockingIOError:
        pass
    return b"".join(pieces).decode()


def test_who_does_not_read_holds_nobody_up_and_finds_whole_lines_with_the_count_of_those_that_lack(
    pipe: tuple[int, int],
) -> None:
    out = outlet.Outlet(pipe[1], told, room=ROOM)
    said = ""
    for number in range(2000):
        out.write(f"record {number}\n")
    while more := drained(pipe[0]):
        said += more
        out.flush()
    out.write("last\n")
    said += drained(pipe[0])
    kept = [line for line in said.splitlines() if line.startswith("record ")]
    assert kept == [f"record {number}" for number in range(len(kept))]
    assert said.splitlines()[len(kept) :] == [f"lost {2000 - len(kept)}", "last"]
    assert PIPE * 3 // 4 <= len("\n".join(kept)) <= PIPE + ROOM + 100


def test_a_record_that_is_longer_than_the_pipe_goes_out_in_pieces_and_in_its_place(
    pipe: tuple[int, int],
) -> None:
    out = outlet.Outlet(pipe[1], told)
    long = "ä" * LONGEST
    out.write(f"{long}\n")
    out.write("next\n")
    raw = b""
    os.set_blocking(pipe[0], False)
    for _ in range(10):
        try:
            raw += os.read(pipe[0], 1 << 16)
        except BlockingIOError:
            break
        out.flush()
    assert raw.decode() == f"{long}\nnext\n"


def test_nobody_at_the_other_end_is_no_fault(pipe: tuple[int, int]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = outlet.Outlet(writer, told, room=ROOM)
    for number in range(2000):
        out.write(f"record {number}\n")
    os.dup2(pipe[1], writer)
    out.write("last\n")
    os.close(writer)
    said = drained(pipe[0]).splitlines()
    kept = len(said) - 2
    assert said == [*(f"record {number}" for number in range(kept)), f"lost {2000 - kept}", "last"]


def test_records_for_which_the_disk_had_no_room_come_when_it_has(tmp_path: pathlib.Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    out = outlet.Outlet(full, told)
    out.write("first\n")
    out.write("second\n")
    with open(tmp_path / "log", "wb") as file:
        os.dup2(file.fileno(), full)
        out.write("third\n")
    os.close(full)
    assert (tmp_path / "log").read_text() == "first\nsecond\nthird\n"


@pytest.fixture(params=["full pipe", "closed pipe", "full disk"])
def unwritable(request: pytest.FixtureRequest) -> Iterator[int]:
    """A descriptor that takes nothing."""
    if request.param == "full disk":
        ends = [os.open("/dev/full", os.O_WRONLY)]
    else:
        ends = list(reversed(os.pipe()))
        if request.param == "full pipe":
            os.write(ends[0], b"x" * fcntl.fcntl(ends[0], fcntl.F_GETPIPE_SZ))
        else:
            os.close(ends.pop())
    yield ends[0]
    for end in ends:
        os.close(end)


async def test_an_agent_whose_log_takes_nothing_places_on(unwritable: int) -> None:
    async with ground.machine() as its:
        agent = ground.Agent(its, output=unwritable)
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            shared = await ground.run(its, ground.WEB, ground.SHARED)
            container = await ground.run(its, ground.DB)
            await agent.status(lambda status: status["converged"])
            assert (its.cpus(container), its.cpus(shared)) == ("2-3", "0-1,4-7")
            assert its.runtime.plugins.dropped == []
            assert await agent.stop() == 0


async def test_an_agent_without_standard_error_places_on() -> None:
    async with ground.machine() as its:
        agent = ground.Agent(its, before=("sh", "-c", 'exec "$@" 2>&-', "sh"))
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            container = await ground.run(its, ground.DB)
            await agent.status(lambda status: status["converged"])
            assert its.cpus(container) == "2-3"
            assert await agent.stop() == 0
        assert agent.said() == ""


def test_who_reads_the_log_late_is_told_how_many_records_are_not_there(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        log = logs.configure("json")
        for number in range(10_000):
            log.info("pass.done", number=number)
        said = drained(pipe[0])
        while said.count("log.lost") == 0:
            log.info("agent.stopping")
            said += drained(pipe[0])
    records = [json.loads(line) for line in said.splitlines()]
    [lost] = [record for record in records if record["event"] == "log.lost"]
    numbers = [record["number"] for record in records if record["event"] == "pass.done"]
    assert numbers == list(range(len(numbers)))
    assert lost["count"] >= 10_000 - len(numbers) > 0
    assert (lost["level"], lost["timestamp"][-1]) == ("warning", "Z")
