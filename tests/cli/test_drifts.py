"""`drifts`: what has drifted, told by the agent, or by its file where none answers."""

# covers: PRD-7.20

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import AsyncIterator

import pytest

from reconciler import errors
from reconciler.cli import drifts, main
from reconciler.daemon import api, archive, archived, archiving, options, questions
from tests.cli import program
from tests.daemon import node, pods, test_archive, test_archiving

WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


@contextlib.asynccontextmanager
async def answering(
    made: node.Node, folder: pathlib.Path, disk: test_archiving.Disk | None = None
) -> AsyncIterator[list[str]]:
    """The options with which this node's agent is asked. Its file is in `folder`."""
    make = (disk or test_archiving.Disk()).make
    its = archiving.Archiving(options.drifts(str(folder)), made.tell.history, made.tell, make=make)
    answers = questions.answers(made.agent, made.passes, made.book, drifts=its)
    socket = str(folder / "api.sock")
    async with api.serving(socket, answers):
        yield ["drifts", "--api-socket", socket, "--state-dir", str(folder)]
    its.finish()


async def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says; it succeeds without a word on standard error."""
    code = await asyncio.to_thread(main.main, arguments)
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


async def drift(made: node.Node) -> None:
    """Both containers drift, one after the other."""
    await made.run(DB, INTEGER)
    await made.run(WEB, SHARED)
    await made.quiet()
    for container in (INTEGER, SHARED):
        made.put(container, "0-7")
        await made.quiet()


async def test_json_has_each_drift_the_oldest_first(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with node.running(tmp_path) as made, answering(made, tmp_path) as ask:
        await drift(made)
        document = json.loads(await printed(capsys, *ask, "--output", "json"))
    db, web = document["drifts"]
    assert (db["pod"], db["files"]) == (
        "db",
        [{"file": "cpuset.cpus", "desired": "2-3", "observed": "0-7"}],
    )
    assert (web["namespace"], web["pod"], web["container"], web["id"]) == (
        "default",
        "web",
        "main",
        SHARED.id,
    )
    assert [its["result"] for its in (db, web)] == ["repaired", "repaired"]
    assert db["found"] <= db["ended"] <= web["ended"]
    assert made.book.counters.found == sum(its["drifts"] for its in (db, web)) == 2


async def test_text_is_for_people(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with node.running(tmp_path) as made, answering(made, tmp_path) as ask:
        assert await printed(capsys, *ask) == "no drifts\n"
        await drift(made)
        header, *rows = (await printed(capsys, *ask)).splitlines()
    assert tuple(header.split()) == drifts.HEADER
    assert [row.split()[1:7] for row in rows] == [
        ["default/db", "main", "cpuset.cpus", "2-3", "0-7", "pass"],
        ["default/web", "main", "cpuset.cpus", "0-1,4-7", "0-7", "pass"],
    ]
    assert all(row.split()[0].endswith("Z") and row.endswith("  1       repaired  -") for row in rows)


async def test_one_pod_is_asked_for_and_a_time(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with node.running(tmp_path) as made, answering(made, tmp_path) as ask:
        await drift(made)
        web = json.loads(await printed(capsys, *ask, "--pod", "default/web", "--output", "json"))
        recent = json.loads(await printed(capsys, *ask, "--since", "1h", "--output", "json"))
        none = json.loads(await printed(capsys, *ask, "--since", "0s", "--output", "json"))
    assert [its["pod"] for its in web["drifts"]] == ["web"]
    assert (len(recent["drifts"]), none["drifts"]) == (2, [])


async def test_where_no_agent_answers_the_file_does(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with node.running(tmp_path) as made, answering(made, tmp_path) as ask:
        await drift(made)
        asked = json.loads(await printed(capsys, *ask, "--output", "json"))
    assert await asyncio.to_thread(main.main, [*ask, "--output", "json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == asked
    assert captured.err.startswith(f"note: no agent answers at {tmp_path}/api.sock")
    assert captured.err.endswith(f"; this is from {tmp_path}/drifts.sqlite\n")


def test_where_there_is_neither_that_is_told(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["drifts", "--api-socket", str(tmp_path / "api.sock"), "--state-dir", str(tmp_path)]
    assert main.main(asked) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert program.is_one_sentence(captured.err), captured.err
    assert "no agent answers at" in captured.err


def test_a_file_that_cannot_be_used_is_told(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drifts.sqlite").write_text("x" * 999)
    asked = ["drifts", "--api-socket", str(tmp_path / "api.sock"), "--state-dir", str(tmp_path)]
    assert main.main(asked) == 1
    assert f"{tmp_path}/drifts.sqlite is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("writer", "opponent", "said"),
    [
        (None, None, "-"),
        (None, "kubelet", "kubelet?"),
        (
            {
                "pid": 12,
                "command": "runc",
                "cmdline": "runc update",
                "unit": "containerd.service",
                "container": "",
            },
            "systemd",
            "runc (pid 12, containerd.service)",
        ),
        ({"pid": 0, "command": "", "is_new": 1}, None, "a process of another pid namespace"),
    ],
    ids=["unknown", "guessed", "seen", "another namespace"],
)
def test_who_wrote_is_named_as_in_the_log(
    writer: dict[str, object] | None, opponent: str | None, said: str
) -> None:
    document = {**test_archive.ROW.document(), "writer": writer, "opponent": opponent}
    [cells] = drifts.lines(document)
    assert cells[-1] == said


def test_more_rows_than_one_answer_takes_are_all_printed(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = archived.MOST_READ + 5
    made = archive.Archive(options.drifts(str(tmp_path)), 7)
    made.write([test_archive.row(number) for number in range(count)])
    made.close()
    asked = ["drifts", "--api-socket", str(tmp_path / "api.sock"), "--state-dir", str(tmp_path)]
    assert main.main([*asked, "--output", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["drifts"]
    assert len({row["drift"] for row in rows}) == len(rows) == count


async def test_what_could_not_be_written_is_told(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = test_archiving.Disk()
    disk.fault = test_archiving.FULL
    async with node.running(tmp_path) as made, answering(made, tmp_path, disk) as ask:
        await drift(made)
        assert await asyncio.to_thread(main.main, ask) == 0
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("no drifts\n", f"note: not all is written: {disk.fault}\n")
        disk.fault = None
        assert len((await printed(capsys, *ask)).splitlines()) == 3


@contextlib.asynccontextmanager
async def following(tmp_path: pathlib.Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command as a process of its own, which does not outlive the test."""
    socket = ["--api-socket", str(tmp_path / "api.sock"), "--state-dir", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        # What runs in the background of a shell ignores interrupts, and so does what it starts.
        *("env", "--default-signal=INT", *program.COMMAND, "drifts", "--follow", "--output", "json", *socket),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=program.ENVIRONMENT,
        limit=1 << 20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_following_tells_what_comes_through_a_restart_of_the_agent(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made, contextlib.AsyncExitStack() as stack:
        async with answering(made, tmp_path):
            await drift(made)
            before = time.time()
            process = await stack.enter_async_context(following(tmp_path))
            assert process.stdout is not None
            told: list[str] = []
            # It begins with what comes after its start, which takes as long as it takes.
            async with asyncio.timeout(program.PATIENCE):
                reading = asyncio.ensure_future(process.stdout.readline())
                while not reading.done():
                    made.put(INTEGER, "0-7")
                    await made.quiet()
                    await asyncio.sleep(0.05)
            first = json.loads(reading.result())
        async with answering(made, tmp_path), asyncio.timeout(program.PATIENCE):
            made.put(SHARED, "0-7")
            await made.quiet()
            while not any('"web"' in line for line in told):
                told.append((await process.stdout.readline()).decode())
        # Python drops an interrupt that comes while an object is cleared away: it is sent again, as by hand.
        async with asyncio.timeout(program.PATIENCE):
            while process.returncode is None:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 5)
        assert process.returncode == 0
    assert (first["pod"], first["ended"] is None or first["ended"] >= before) == ("db", True)
    assert os.path.exists(options.drifts(str(tmp_path)))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("7d", 604800), ("0s", 0)], ids=str
)
def test_a_duration_is_numbers_with_units(text: str, seconds: float) -> None:
    assert drifts.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1w", "-1h", "1h ", "1.5h", "\u0661h", "9999999999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no duration"):
        drifts.duration(text)


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ({"since": -1}, "since"),
        ({"since": "1h"}, "since"),
        ({"pod": "web"}, "pod"),
        ({"pod": "a/b/c"}, "pod"),
        ({"after": 1 << 63}, "after"),
        ({"before": 1}, "before"),
    ],
    ids=str,
)
async def test_a_request_that_cannot_be_right_is_refused_with_its_key(
    tmp_path: pathlib.Path, asked: dict[str, object], key: str
) -> None:
    async with node.running(tmp_path) as made, answering(made, tmp_path):
        with pytest.raises(errors.Retryable, match=f"request drifts: .*{key}"):
            await api.ask(str(tmp_path / "api.sock"), {"request": "drifts", **asked})
