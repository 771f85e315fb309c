"""The HTTP server: what it answers to whom, and what clients can cost that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from reconciler import errors
from reconciler.daemon import listener
from tests.daemon import node

# covers: PRD-12.6

PATIENCE = 10.0


async def hello() -> listener.Reply:
    return listener.Reply(b"hello\n")


async def large() -> listener.Reply:
    return listener.Reply(b"x" * (8 << 20))


async def broken() -> listener.Reply:
    raise ValueError("it is broken")


PAGES: listener.Pages = {"/hello": hello, "/large": large, "/broken": broken}


@contextlib.asynccontextmanager
async def serving(its: listener.Listener | None = None) -> AsyncIterator[tuple[str, int]]:
    """A server at a port of its own."""
    serve = (its or listener.Listener(PAGES)).serve
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=listener.LARGEST_REQUEST)
    try:
        host, port = server.sockets[0].getsockname()
        yield host, port
    finally:
        server.close()


async def ask(address: tuple[str, int], request: bytes) -> bytes:
    """All that is answered to these bytes."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("request_", "line", "body"),
    [
        pytest.param(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b"hello\n", id="a page"),
        pytest.param(b"GET /hello?x=/broken HTTP/1.0\r\n\r\n", b"200 OK", b"hello\n", id="with a query"),
        pytest.param(b"HEAD /hello HTTP/1.1\r\n\r\n", b"200 OK", b"", id="its head"),
        pytest.param(b"GET /other HTTP/1.1\r\n\r\n", b"404 Not Found", b"Not Found\n", id="no page"),
        pytest.param(b"GET /hello/ HTTP/1.1\r\n\r\n", b"404 Not Found", b"Not Found\n", id="a page below"),
        pytest.param(
            b"POST /hello HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            b"405 Method Not Allowed",
            b"Method Not Allowed\n",
            id="another method",
        ),
        pytest.param(
            b"GET /broken HTTP/1.1\r\n\r\n",
            b"500 Internal Server Error",
            b"ValueError: it is broken\n",
            id="a page that breaks",
        ),
        pytest.param(b"GET /hello\r\n\r\n", b"400 Bad Request", b"Bad Request\n", id="HTTP 0.9"),
        pytest.param(b"GET  /hello HTTP/1.1\r\n\r\n", b"400 Bad Request", b"Bad Request\n", id="two blanks"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\n", b"400 Bad Request", b"Bad Request\n", id="HTTP 2"),
        pytest.param(b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request", b"Bad Request\n", id="TLS"),
        pytest.param(b"\xff\xfe \x00 \r\n\r\n", b"400 Bad Request", b"Bad Request\n", id="garbage"),
        pytest.param(
            b"GET /hello HTTP/1.1\r\nX: " + b"x" * listener.LARGEST_REQUEST + b"\r\n\r\n",
            b"431 Request Header Fields Too Large",
            b"Request Header Fields Too Large\n",
            id="too long",
        ),
    ],
)
async def test_every_request_is_answered_once_and_the_connection_closed(
    request_: bytes, line: bytes, body: bytes
) -> None:
    async with serving() as address:
        answer = await ask(address, request_)
    head, _, said = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + line + b"\r\n")
    assert said == body
    assert b"Connection: close" in head
    length = b"6" if request_.startswith(b"HEAD") else str(len(body)).encode()
    assert b"Content-Length: " + length in head


async def test_a_large_answer_arrives_whole() -> None:
    async with serving() as address:
        answer = await ask(address, b"GET /large HTTP/1.1\r\n\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == b"x" * (8 << 20)


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionResetError):
            return await reader.read()
    return b""


@pytest.mark.parametrize(
    "said", [b"", b"GET /hello HTTP/1.1\r\n", b"x"], ids=["nothing", "half a request", "a byte"]
)
async def test_a_client_that_does_not_go_on_is_cut_off_without_a_word(said: bytes) -> None:
    async with serving(listener.Listener(PAGES, patience=0.1)) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(said)
        assert await closed(reader) == b""
        writer.close()


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    its = listener.Listener(PAGES, patience=0.5)
    async with serving(its) as address:
        with socket.create_connection(address) as client:
            client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            client.settimeout(PATIENCE)
            await node.until(lambda: its.connections == 1)
            await node.until(lambda: its.connections == 0)
            got = await asyncio.to_thread(_drain, client)
    assert got < 8 << 20


def _drain(client: socket.socket) -> int:
    got = 0
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(1 << 16):
            got += len(data)
    return got


async def test_a_client_that_hangs_up_costs_nothing() -> None:
    async with serving() as address:
        for said in (b"", b"GET /hel", b"GET /large HTTP/1.1\r\n\r\n"):
            _, writer = await asyncio.open_connection(*address)
            writer.write(said)
            await writer.drain()
            writer.transport.abort()
        assert (await ask(address, b"GET /hello HTTP/1.1\r\n\r\n")).endswith(b"hello\n")


async def test_more_connections_than_a_few_are_closed_at_once_and_the_others_are_served() -> None:
    async with serving() as address:
        many = [await asyncio.open_connection(*address) for _ in range(listener.MOST_CONNECTIONS + 3)]
        for reader, _ in many[listener.MOST_CONNECTIONS :]:
            assert await closed(reader) == b""
        for reader, writer in many[: listener.MOST_CONNECTIONS]:
            writer.write(b"GET /hello HTTP/1.1\r\n\r\n")
            assert (await closed(reader)).endswith(b"hello\n")
        for _, writer in many:
            writer.close()
        assert (await ask(address, b"GET /hello HTTP/1.1\r\n\r\n")).endswith(b"hello\n")


async def test_an_address_that_cannot_be_had_is_refused_with_the_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            errors.Usage, match=rf"^metrics.listen: 127.0.0.1:{port}: .*[Aa]ddress already in use"
        ):
            async with listener.serving(("127.0.0.1", port), PAGES):
                pass


async def test_nothing_listens_without_an_address() -> None:
    async with listener.serving(None, PAGES):
        pass
