"""`explain`: what a running agent says of one container, and of one CPU."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator

import pytest

from reconciler import events
from reconciler.cli import explain, main
from reconciler.config import schema
from reconciler.daemon import api, questions
from tests.cli import program
from tests.daemon import node, pods

DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
LISTED = pods.guaranteed("listed", "4-5")
EXCLUSIVE = pods.container(LISTED, whole=2)
PICKY = pods.pod("picky", annotations={pods.FORBID: "1,6"})
SHARED = pods.container(PICKY)


@contextlib.asynccontextmanager
async def answering(folder: pathlib.Path) -> AsyncIterator[tuple[node.Node, str]]:
    """A node with three pods, and the socket of its agent."""
    async with node.running(folder, schema.Config(reserved_cpus="0")) as made:
        for pod, container in ((LISTED, EXCLUSIVE), (DB, INTEGER), (PICKY, SHARED)):
            await made.run(pod, container)
        socket = str(folder / "api.sock")
        async with api.serving(socket, questions.answers(made.agent, made.passes, made.book)):
            yield made, socket


async def said(socket: str, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What the command prints."""
    assert await asyncio.to_thread(main.main, ["explain", *arguments, "--api-socket", socket]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


async def test_an_integer_container(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(tmp_path) as (_, socket):
        out = await said(socket, capsys, "db/main")
    assert out.splitlines() == [
        "container  default/db/main",
        "id         db-main-1",
        "class      integer: Guaranteed pod with a whole CPU limit of 2",
        "cpus       6-7, exclusive, by the claim of the container",
        "memory     left alone",
        "state      in-sync",
        "observed   cpus 6-7, effective 6-7, mems -",
        "reason     Guaranteed pod with a whole CPU limit of 2: 6-7 is exclusive",
        "",
        "CANNOT HAVE  BECAUSE",
        "0            reserved",
        "4-5          held by annotated-exclusive default/listed",
        "",
        "Among 1-3,6-7, which is free now or its own, no choice is better.",
        "Less is better, and the first difference decides.",
        "",
        "PREFERENCE                 ITS CPUS  ON OTHER CORES",
        "CPUs                       6-7       2-3",
        "NUMA nodes                 1         1",
        "last-level caches          1         1",
        "free CPUs of these nodes   2         3",
        "free CPUs of these caches  2         3",
        "decided by                           free CPUs of these nodes",
    ]


async def test_an_annotated_container(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(tmp_path) as (_, socket):
        out = await said(socket, capsys, "default/listed/main")
    why = "annotation weka.io/cores-ids, whole CPUs with requests equal to limits"
    assert out.splitlines() == [
        "container  default/listed/main",
        "id         listed-main-1",
        f"class      annotated-exclusive: {why}",
        "cpus       4-5, exclusive, by the claim of the pod",
        "memory     from node 1, where its CPUs are",
        "state      in-sync",
        "observed   cpus 4-5, effective 4-5, mems 1",
        f"reason     {why}: 4-5 is exclusive",
    ]


async def test_a_shared_container(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(tmp_path) as (_, socket):
        out = await said(socket, capsys, "picky-")
    assert out.splitlines() == [
        "container  default/picky/main",
        "id         picky-main-1",
        "class      shared: no annotation and no integer semantics",
        "cpus       0,2-3, the shared pool",
        "memory     left alone",
        "state      in-sync",
        "observed   cpus 0,2-3, effective 0,2-3, mems -",
        "reason     no annotation and no integer semantics: shared pool 0-3, less the forbidden 1,6",
        "",
        "CANNOT HAVE  BECAUSE",
        "1,6          forbidden",
        "4-5          held by annotated-exclusive default/listed",
        "6-7          held by integer default/db container main",
    ]


async def test_what_is_refused_and_what_is_wrong_is_told(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    greedy = pods.guaranteed("greedy")
    wants = pods.container(greedy, whole=4)
    async with answering(tmp_path) as (made, socket):
        made.make(wants, "0-3")
        await made.start(greedy, wants)
        out = await said(socket, capsys, "greedy/main")
    why = (
        "4 exclusive CPUs wanted, 3 of 8 are free (4 held exclusively, 1 reserved); "
        "request fewer CPUs or remove a pod that holds some"
    )
    assert "cpus       0-3, the shared pool" in out.splitlines()
    assert "state      unsatisfied" in out.splitlines()
    assert f"reason     on the shared pool: {why}" in out.splitlines()
    assert f"refused    {why}" in out.splitlines()


async def test_a_container_that_is_left_alone(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web = pods.pod("web")
    async with node.running(tmp_path, schema.Config(unmanaged_namespaces=("default",))) as made:
        await made.run(web, pods.container(web))
        socket = str(tmp_path / "api.sock")
        async with api.serving(socket, questions.answers(made.agent, made.passes, made.book)):
            out = await said(socket, capsys, "web/main")
    assert out.splitlines() == [
        "container  default/web/main",
        "id         web-main-1",
        "class      unmanaged: left alone by configuration",
        "cpus       left as they are",
        "memory     left alone",
        "state      in-sync",
        "reason     left alone by configuration",
    ]


async def test_a_quota_that_is_lifted_is_told(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with node.running(tmp_path, schema.Config(cfs_quota="lift")) as made:
        await made.run(DB, INTEGER)
        socket = str(tmp_path / "api.sock")
        async with api.serving(socket, questions.answers(made.agent, made.passes, made.book)):
            out = await said(socket, capsys, "db/main")
    assert "quota      cpu.max max, ../cpu.max max" in out.splitlines()


async def test_an_exited_container_says_what_is_kept_for_it(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with answering(tmp_path) as (made, socket):
        made.over(INTEGER)
        made.agent.stopped(events.ContainerStopped(pod=DB, container=INTEGER))
        await made.quiet()
        out = await said(socket, capsys, "db/main")
    assert out.splitlines()[5:7] == [
        "state      gone",
        "reason     the container has exited; its claim to 6-7 holds for the next attempt",
    ]


async def test_a_cpu_that_is_somebodys_own(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with answering(tmp_path) as (_, socket):
        out = await said(socket, capsys, "--cpu", "6")
    assert out.splitlines() == [
        "CPU     6",
        "who     integer default/db container main, exclusively",
        "state   online",
        "core    6-7",
        "cache   4-7",
        "node    1",
        "socket  4-7",
        "",
        "SIBLING  WHO",
        "7        integer default/db container main, exclusively",
        "",
        "POD         CONTAINER  CLASS    DESIRED  CPUS  EFFECTIVE",
        "default/db  main       integer  yes      yes   yes",
    ]


async def test_a_cpu_of_the_pool(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with answering(tmp_path) as (_, socket):
        out = await said(socket, capsys, "--cpu", "0")
    assert out.splitlines()[:3] == ["CPU     0", "who     the shared pool", "state   online, reserved"]
    assert out.splitlines()[-1] == "default/picky  main       shared  yes      yes   yes"


def test_a_cpu_that_is_offline_has_no_place() -> None:
    out = explain.cpu_text(
        {
            "cpu": 7,
            "answer": "nobody: it is offline",
            **dict.fromkeys(("online", "isolated", "reserved"), False),
            **dict.fromkeys(("core", "cache", "node", "socket", "note")),
            "siblings": [],
            "containers": [],
        }
    )
    assert out.splitlines() == ["CPU    7", "who    nobody: it is offline", "state  offline"]


async def test_many_rows_are_counted(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with node.running(tmp_path) as made:
        for number in range(23):
            pod = pods.pod(f"web-{number:02}")
            await made.run(pod, pods.container(pod))
        socket = str(tmp_path / "api.sock")
        async with api.serving(socket, questions.answers(made.agent, made.passes, made.book)):
            out = await said(socket, capsys, "--cpu", "0")
            document = json.loads(await said(socket, capsys, "--cpu", "0", "--output", "json"))
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["default/web-19", "and"]
    assert out.splitlines()[-1] == "and 3 more, which --output json has"
    assert len(document["containers"]) == 23


async def test_json_is_the_status_of_the_container_and_its_explanation(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with answering(tmp_path) as (made, socket):
        told = json.loads(await said(socket, capsys, "db/main", "--output", "json"))
        [entry] = [each for each in made.status()["containers"] if each["pod"] == "db"]
        asked = await api.ask(socket, {"request": "explain", "container": "db/main"})
    assert told == asked
    assert {key: told[key] for key in entry} == entry
    assert set(told) - set(entry) == {
        *(
            "why",
            "warning",
            "exclusive",
            "claim_of",
            "restrictions",
            "memory",
            "choice",
            "unsatisfied",
            "note",
        )
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(
            ["web/main"], "container 'web/main': there is none of that name or id; there are", id="name"
        ),
        pytest.param(["--cpu", "8"], "CPU 8: this node has no such CPU; it has 0-7", id="CPU"),
    ],
)
async def test_what_is_not_there_is_told_in_one_sentence(
    tmp_path: pathlib.Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with answering(tmp_path) as (_, socket):
        code = await asyncio.to_thread(main.main, ["explain", *arguments, "--api-socket", socket])
    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert program.is_one_sentence(captured.err), captured.err
    assert words in captured.err


async def test_an_answer_that_may_be_out_of_date_says_so(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with answering(tmp_path) as (made, socket):
        made.agent.disconnected("the runtime closed the connection")
        container = await said(socket, capsys, "db/main")
        cpu = await said(socket, capsys, "--cpu", "6")
    note = "no runtime is connected (the runtime closed the connection): the node may have changed"
    assert f"note       {note}" in container.splitlines()
    assert f"note    {note}" in cpu.splitlines()
