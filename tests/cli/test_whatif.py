"""`whatif`: what a running agent would do with a pod, and that it does nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator

import pytest

from reconciler.cli import main
from reconciler.daemon import api, questions
from tests.cli import program
from tests.daemon import node, pods

DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
LISTED = pods.guaranteed("listed", "4-5")
EXCLUSIVE = pods.container(LISTED, whole=2)
WEB = pods.pod("web")
SHARED = pods.container(WEB)


@contextlib.asynccontextmanager
async def answering(folder: pathlib.Path) -> AsyncIterator[tuple[node.Node, str]]:
    """A node with three pods, and the socket of its agent."""
    async with node.running(folder) as made:
        for pod, container in ((DB, INTEGER), (LISTED, EXCLUSIVE), (WEB, SHARED)):
            await made.run(pod, container)
        socket = str(folder / "api.sock")
        async with api.serving(socket, questions.answers(made.agent, made.passes, made.book)):
            yield made, socket


async def said(
    made: node.Node, socket: str, capsys: pytest.CaptureFixture[str], *arguments: str, code: int
) -> str:
    """What the command prints; the node must be as before."""
    await made.quiet()
    before, state, records = made.status(), made.agent.state, made.records("placement.refused", "plan.write")
    assert await asyncio.to_thread(main.main, ["whatif", *arguments, "--api-socket", socket]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    assert made.agent.state is state
    assert (made.status(), made.records("placement.refused", "plan.write")) == (before, records)
    return captured.out


async def test_an_integer_pod(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(tmp_path) as (made, socket):
        out = await said(made, socket, capsys, "--cpus", "2", code=0)
        later = pods.guaranteed("later")
        adjustment = await made.create(later, pods.container(later, whole=2))
    assert adjustment.cpus == "6-7"
    assert out.splitlines() == [
        "admitted  yes",
        "class     integer: Guaranteed pod with a whole CPU limit of 2",
        "cpus      6-7, exclusive",
        "memory    left alone",
        "pool      0-1,6-7 -> 0-1; shared containers that follow: 1",
        "",
        "Among 0-1,6-7, which is free now or its own, no choice is better.",
        "Less is better, and the first difference decides.",
        "",
        "PREFERENCE                 ITS CPUS  ON OTHER CORES",
        "CPUs                       6-7       0-1",
        "NUMA nodes                 1         1",
        "last-level caches          1         1",
        "CPU 0                      0         1",
        "free CPUs of these nodes   2         2",
        "free CPUs of these caches  2         2",
        "the core of CPU 0          0         1",
        "decided by                           CPU 0",
    ]


async def test_a_list_that_moves_others(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(tmp_path) as (made, socket):
        out = await said(made, socket, capsys, "--cores-ids", "3", "--cpus", "1", code=0)
        later = pods.guaranteed("later", "3")
        await made.run(later, pods.container(later, whole=1))
        document = made.status()
    claims = {entry["pod"]: entry["claim"] for entry in document["containers"]}
    assert (claims["db"], claims["later"], document["pools"]["shared"]) == ("6-7", "3", "0-2")
    why = "annotation weka.io/cores-ids, whole CPUs with requests equal to limits"
    assert out.splitlines() == [
        "admitted  yes",
        f"class     annotated-exclusive: {why}",
        "cpus      3, exclusive",
        "memory    from node 0, where its CPUs are",
        "pool      0-1,6-7 -> 0-2; shared containers that follow: 1",
        "",
        "MOVED POD   CONTAINER  FROM  TO",
        "default/db  main       2-3   6-7",
    ]


async def test_a_list_that_is_held(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(tmp_path) as (made, socket):
        out = await said(made, socket, capsys, "--cores-ids", "5-6", code=1)
    conflict = "annotation weka.io/cores-ids=5-6 conflicts with CPUs that are held: "
    holder = "CPU 5 by annotated-exclusive default/listed; choose other CPUs or remove that pod"
    assert out.splitlines() == [
        "admitted  no",
        "class     annotated-shared: annotation weka.io/cores-ids, no integer semantics",
        f"reason    {conflict}{holder}",
        "pool      0-1,6-7, unchanged",
    ]


async def test_a_shared_pod(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(tmp_path) as (made, socket):
        out = await said(made, socket, capsys, "--forbid-core-ids", "1,", code=0)
    fault = "annotation weka.io/forbid-core-ids at position 2: CPU or range expected"
    assert out.splitlines() == [
        "admitted  yes",
        "class     shared: no annotation and no integer semantics",
        f"warning   {fault}; the list is ignored",
        "cpus      0-1,6-7, shared",
        "memory    left alone",
        "pool      0-1,6-7, unchanged",
    ]


async def test_the_only_choice_has_nothing_beside_it(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with answering(tmp_path) as (made, socket):
        out = await said(made, socket, capsys, "--cpus", "3", code=0)
    _, heading, table = out.split("\n\n")
    assert heading.splitlines() == [
        "Among 0-1,6-7, which is free now or its own, no choice is better.",
        "On other cores there are not enough.",
    ]
    assert table.splitlines()[0] == "PREFERENCE                      ITS CPUS"
    assert "decided by" not in table


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--cpus", "2"], 0), (["--cpus", "9"], 1)], ids=["yes", "no"]
)
async def test_json_is_what_the_agent_answers(
    tmp_path: pathlib.Path, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async with answering(tmp_path) as (made, socket):
        out = await said(made, socket, capsys, *arguments, "--output", "json", code=code)
        asked = {"request": "whatif", "cpus": int(arguments[1])}
        assert json.loads(out) == await api.ask(socket, asked)
    assert json.loads(out)["admitted"] is (code == 0)


def test_where_no_agent_answers_is_told(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    socket = str(tmp_path / "api.sock")
    assert main.main(["whatif", "--cpus", "2", "--api-socket", socket]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert program.is_one_sentence(captured.err), captured.err
