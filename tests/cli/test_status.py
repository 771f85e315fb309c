"""`status`: what a running agent says of its node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator

import pytest

from reconciler.cli import main, status
from reconciler.daemon import api
from tests.cli import program
from tests.daemon import node, pods

WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


@contextlib.asynccontextmanager
async def answering(made: node.Node, folder: pathlib.Path) -> AsyncIterator[str]:
    """The socket of this node's agent."""

    async def status(_: api.Request) -> api.Document:
        unready = "" if made.agent.mode == "nri" else "no runtime is connected"
        return {**made.status(), "ready": not unready, "unready": unready}

    async with api.serving(str(folder / "api.sock"), {"status": api.Answer(api.Request, status)}):
        yield str(folder / "api.sock")


async def test_json_is_the_document_that_the_agent_gave(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with node.running(tmp_path) as made, answering(made, tmp_path) as socket:
        await made.run(DB, INTEGER)
        code = await asyncio.to_thread(
            main.main, ["status", "--api-socket", socket, "--output", "json", "--check"]
        )
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        assert json.loads(captured.out) == {**made.status(), "ready": True, "unready": ""}


async def test_text_is_for_people(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with node.running(tmp_path) as made, answering(made, tmp_path) as socket:
        await made.run(DB, INTEGER)
        await made.run(WEB, SHARED)
        assert await asyncio.to_thread(main.main, ["status", "--api-socket", socket]) == 0
    head, table = capsys.readouterr().out.split("\n\n")
    assert head.splitlines() == [
        "mode       nri ()",
        "converged  yes",
        "ready      yes",
        "shared     0-1,4-7",
        "exclusive  2-3",
        "reserved   -",
        "offline    -",
        "drift      0 found, 0 repaired, 0 not",
    ]
    header, *rows = table.splitlines()
    assert header == "POD          CONTAINER  CLASS    DESIRED  CPUS     EFFECTIVE  MEMS  STATE    REASON"
    assert [row.split()[:8] for row in rows] == [
        ["default/db", "main", "integer", "2-3", "2-3", "2-3", "-", "in-sync"],
        ["default/web", "main", "shared", "0-1,4-7", "0-1,4-7", "0-1,4-7", "-", "in-sync"],
    ]
    assert rows[0].endswith("in-sync  Guaranteed pod with a whole CPU limit of 2: 2-3 is exclusive")


@pytest.mark.parametrize(
    ("contained", "said"),
    [
        (None, []),
        ("kubepods/pod1", ["contained  the agent keeps to the shared pool by its pod's kubepods/pod1"]),
    ],
    ids=["on the host", "in a container"],
)
async def test_by_what_the_agent_keeps_itself_off_others_cpus_is_said(
    tmp_path: pathlib.Path, contained: str | None, said: list[str]
) -> None:
    async with node.running(tmp_path) as made:
        text = status.text({**made.status(), "ready": True, "unready": "", "contained": contained})
    assert [line for line in text.splitlines() if line.startswith("contained")] == said


@pytest.mark.parametrize("why", ["a container is pending", "no runtime is connected"])
async def test_a_check_fails_where_something_is_on_its_way(
    tmp_path: pathlib.Path, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with node.running(tmp_path) as made, answering(made, tmp_path) as socket:
        if why == "no runtime is connected":
            made.agent.disconnected("the runtime closed the connection")
        else:
            await made.create(WEB, SHARED)
        without = await asyncio.to_thread(main.main, ["status", "--api-socket", socket])
        code = await asyncio.to_thread(main.main, ["status", "--api-socket", socket, "--check"])
    assert (without, code) == (0, 1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("connected", "code"), [(True, 0), (False, 1)], ids=["connected", "disconnected"])
async def test_readiness_asks_less_than_a_check(
    tmp_path: pathlib.Path, connected: bool, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async with node.running(tmp_path) as made, answering(made, tmp_path) as socket:
        await made.create(WEB, SHARED)
        if not connected:
            made.agent.disconnected("the runtime closed the connection")
        arguments = ["status", "--api-socket", socket]
        assert await asyncio.to_thread(main.main, [*arguments, "--check"]) == 1
        assert await asyncio.to_thread(main.main, [*arguments, "--ready"]) == code
    said = "yes" if connected else "no runtime is connected"
    assert f"ready      {said}\n" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["text", "json"])
def test_where_no_agent_answers_is_told(
    tmp_path: pathlib.Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = str(tmp_path / "api.sock")
    assert main.main(["status", "--api-socket", socket, "--output", output]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert program.is_one_sentence(captured.err), captured.err
    assert f"no agent answers at {socket}" in captured.err
