"""Questions over the agent's socket, good ones and bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import socket
import stat
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import msgspec
import pytest

from reconciler import errors
from reconciler.daemon import api


class Greeting(api.Request, frozen=True):
    """A request that takes something."""

    name: Annotated[str, msgspec.Meta(max_length=8)]
    times: int = 1

    def __post_init__(self) -> None:
        if self.name == "nobody":
            raise ValueError("greet somebody")


class Answers:
    """What the agent says, and how many wait for `slow`."""

    def __init__(self) -> None:
        self.waiting = 0
        self.go = asyncio.Event()

    async def status(self, _: api.Request) -> api.Document:
        """Answers at once."""
        return {"mode": "nri", "pod": "Müller"}

    async def greet(self, asked: Greeting) -> api.Document:
        """Answers with what it was given."""
        return {"greeting": f"{asked.name} " * asked.times}

    async def slow(self, _: api.Request) -> api.Document:
        """Answers when told to."""
        self.waiting += 1
        await self.go.wait()
        return {"waited": self.waiting}

    async def failing(self, _: api.Request) -> api.Document:
        """Has no answer."""
        raise errors.Retryable("the tree is being felled")

    async def broken(self, _: api.Request) -> api.Document:
        """Has a mistake in it."""
        raise RuntimeError("a mistake")


@contextlib.asynccontextmanager
async def served(folder: pathlib.Path) -> AsyncIterator[tuple[str, Answers]]:
    """A socket that is answered."""
    answers = Answers()
    path = str(folder / "api.sock")
    known: dict[str, api.Answer[Any]] = {
        name: api.Answer(api.Request, getattr(answers, name))
        for name in ("status", "slow", "failing", "broken")
    }
    known["greet"] = api.Answer(Greeting, answers.greet)
    async with api.serving(path, known):
        yield path, answers


async def say(path: str, data: bytes, *, end: bool = False) -> dict[str, Any]:
    """What comes back for these bytes, as any client gets it."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
            if end:
                writer.write_eof()
        line = await asyncio.wait_for(reader.readline(), 10)
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer
    finally:
        writer.close()


async def test_a_request_is_answered_with_one_line(tmp_path: pathlib.Path) -> None:
    async with served(tmp_path) as (path, _):
        assert await api.ask(path, {"request": "status"}) == {"mode": "nri", "pod": "Müller"}


async def test_a_request_may_take_something(tmp_path: pathlib.Path) -> None:
    async with served(tmp_path) as (path, _):
        assert await api.ask(path, {"request": "greet", "name": "Ada"}) == {"greeting": "Ada "}
        answer = await api.ask(path, {"request": "greet", "name": "Ada", "times": 2})
        assert answer == {"greeting": "Ada Ada "}


async def test_a_request_that_no_agent_takes_is_not_sent(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.Usage, match="a request of 100033 bytes: the agent takes at most 65536"):
        await api.ask(str(tmp_path / "api.sock"), {"request": "greet", "name": "x" * 100_000})


async def test_only_the_owner_may_ask(tmp_path: pathlib.Path) -> None:
    before = os.umask(0)
    try:
        async with served(tmp_path) as (path, _):
            mode = os.stat(path).st_mode
            assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
        assert os.umask(0) == 0, "the process keeps its own mask"
    finally:
        os.umask(before)


async def test_two_clients_are_served_at_once(tmp_path: pathlib.Path) -> None:
    async with served(tmp_path) as (path, answers):
        slow = [asyncio.ensure_future(api.ask(path, {"request": "slow"})) for _ in range(2)]
        while answers.waiting < 2:  # noqa: ASYNC110  the clients set nothing
            await asyncio.sleep(0.001)
        assert (await api.ask(path, {"request": "status"}))["mode"] == "nri"
        answers.go.set()
        assert await asyncio.gather(*slow) == [{"waited": 2}, {"waited": 2}]


NOT_A_REQUEST = "a request is one JSON object on one line of at most 65536 bytes"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"status\n", NOT_A_REQUEST, id="no JSON"),
        pytest.param(b"\xff\xfe\n", NOT_A_REQUEST, id="no UTF-8"),
        pytest.param(b"\n", NOT_A_REQUEST, id="an empty line"),
        pytest.param(b"x" * 100_000 + b"\n", NOT_A_REQUEST, id="too long"),
        pytest.param(b"[" * 60_000 + b"\n", NOT_A_REQUEST, id="nested too deeply"),
        pytest.param(
            b'{"request": "fly"}\n',
            "unknown request 'fly'; known: broken, failing, greet, slow, status",
            id="unknown",
        ),
        pytest.param(b'{"request": ["status"]}\n', "unknown request", id="no name"),
        pytest.param(b'"status"\n', "unknown request None", id="no object"),
        pytest.param(b"{}\n", "unknown request None", id="nothing asked"),
        pytest.param(
            b'{"request": "status", "of": "web"}\n',
            "request status: Object contains unknown field `of`",
            id="a key that the request does not take",
        ),
        pytest.param(
            b'{"request": "greet"}\n',
            "request greet: Object missing required field `name`",
            id="a missing key",
        ),
        pytest.param(
            b'{"request": "greet", "name": 7}\n',
            "request greet: Expected `str`, got `int` - at `$.name`",
            id="a value of another type",
        ),
        pytest.param(
            b'{"request": "greet", "name": "a long name"}\n',
            "request greet: Expected `str` of length <= 8 - at `$.name`",
            id="a value out of range",
        ),
        pytest.param(
            b'{"request": "greet", "name": "nobody"}\n',
            "request greet: greet somebody",
            id="values that do not go together",
        ),
        pytest.param(b'{"request": "failing"}\n', "the tree is being felled", id="an answer that fails"),
        pytest.param(b'{"request": "broken"}\n', "RuntimeError: a mistake", id="an answer with a mistake"),
    ],
)
async def test_what_cannot_be_answered_is_told_why(tmp_path: pathlib.Path, data: bytes, error: str) -> None:
    async with served(tmp_path) as (path, _):
        answer = await say(path, data)
        assert list(answer) == ["error"]
        assert error in answer["error"]
        assert (await api.ask(path, {"request": "status"}))["mode"] == "nri"


@pytest.mark.parametrize("data", [b"", b'{"request": "sta'], ids=["nothing", "half a line"])
async def test_a_client_that_leaves_early_disturbs_nobody(tmp_path: pathlib.Path, data: bytes) -> None:
    async with served(tmp_path) as (path, _):
        assert await say(path, data, end=True) == {}
        assert (await api.ask(path, {"request": "status"}))["mode"] == "nri"


async def test_a_client_that_never_ends_its_line_is_cut_off(tmp_path: pathlib.Path) -> None:
    async with served(tmp_path) as (path, _):
        # What it sent and nobody read makes the kernel reset the connection, maybe before the answer.
        with contextlib.suppress(ConnectionError):
            assert "error" in await say(path, b"x" * 1_000_000)
        assert (await api.ask(path, {"request": "status"}))["mode"] == "nri"


async def test_a_client_that_says_nothing_does_not_hold_up_the_end(tmp_path: pathlib.Path) -> None:
    async with served(tmp_path) as (path, _):
        _, writer = await asyncio.open_unix_connection(path)
        await api.ask(path, {"request": "status"})
    assert not os.path.exists(path)
    writer.close()


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: pathlib.Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "api.sock"))
    left.close()
    async with served(tmp_path) as (path, _):
        assert (await api.ask(path, {"request": "status"}))["mode"] == "nri"
    assert not os.path.exists(path)


@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_what_is_no_socket_is_left_alone(tmp_path: pathlib.Path, kind: str) -> None:
    path = tmp_path / "api.sock"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    with pytest.raises(errors.Usage, match=r"API socket .*/api\.sock: "):
        async with served(tmp_path):
            pass
    assert path.is_dir() if kind == "folder" else path.read_text() == "precious"


@pytest.mark.parametrize(
    "path", ["missing/api.sock", "x" * 120], ids=["in no folder", "longer than a socket's path may be"]
)
async def test_a_socket_that_cannot_be_made_is_a_fault_of_usage(tmp_path: pathlib.Path, path: str) -> None:
    with pytest.raises(errors.Usage, match="API socket "):
        async with api.serving(str(tmp_path / path), {}):
            pass


@contextlib.asynccontextmanager
async def answering(folder: pathlib.Path, line: bytes) -> AsyncIterator[str]:
    """Something else than an agent, which answers this to everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(line)
        writer.close()

    path = str(folder / "other.sock")
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield path
    finally:
        server.close()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param(b"", "no agent answers at ", id="nothing"),
        pytest.param(b"HTTP/1.1 400 Bad Request\n", "no agent answers at ", id="no JSON"),
        pytest.param(b'{"mode": ', "no agent answers at ", id="half an answer"),
        pytest.param(b"[" * 100_000 + b"\n", "no agent answers at ", id="nested too deeply"),
        pytest.param(b"[]\n", "answered something else than a JSON object", id="no object"),
        pytest.param(b'{"error": "not today"}\n', "other.sock: not today", id="an error"),
    ],
)
async def test_who_asks_something_else_than_an_agent_is_told(
    tmp_path: pathlib.Path, line: bytes, why: str
) -> None:
    async with answering(tmp_path, line) as path:
        with pytest.raises(errors.Retryable, match=why):
            await api.ask(path, {"request": "status"})


def refusing(path: pathlib.Path) -> None:
    """A socket at which nobody listens."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(lambda _: None, "No such file or directory", id="no socket"),
        pytest.param(refusing, "Connection refused", id="nobody listens"),
        pytest.param(lambda path: path.write_text(""), "Connection refused", id="a file"),
    ],
)
async def test_where_nobody_answers_is_told(
    tmp_path: pathlib.Path, make: Callable[[pathlib.Path], object], why: str
) -> None:
    path = tmp_path / "api.sock"
    make(path)
    with pytest.raises(errors.Retryable, match=f"no agent answers at {path}: {why}"):
        await api.ask(str(path), {"request": "status"})


@pytest.mark.looptime
async def test_an_agent_that_never_answers_is_given_up(tmp_path: pathlib.Path) -> None:
    """Its listener takes connections into its queue and never looks at them."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "api.sock"))
        listener.listen()
        with pytest.raises(errors.Retryable, match="did not answer within 10 s"):
            await api.ask(str(tmp_path / "api.sock"), {"request": "status"})


@pytest.mark.looptime
async def test_a_client_that_never_asks_is_given_up(tmp_path: pathlib.Path) -> None:
    async with served(tmp_path) as (path, _):
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
