"""A small HTTP server for what probes and Prometheus ask: GET, one answer a connection. On asyncio.

It shares the event loop with hooks, so that whoever connects must cost little: a request has a bounded size
and time, and more connections than a few are closed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from reconciler import errors

LARGEST_REQUEST = 8 << 10
"""Bytes of the request line and the headers; Prometheus and kubelet send less than 1 KiB."""
MOST_CONNECTIONS = 16
_LEFTOVERS = 8
"""Reads of what a client goes on sending."""
PATIENCE = 5.0
"""Seconds from the connection to the end of the answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: the body, its type, and the status code."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: http.HTTPStatus = http.HTTPStatus.OK


Pages = Mapping[str, Callable[[], Awaitable[Reply]]]
"""What gives the reply, by path."""


@contextlib.asynccontextmanager
async def serving(address: tuple[str, int] | None, pages: Pages) -> AsyncIterator[None]:
    """Serve these pages at an IP address and a port, or nothing. Raises Usage where they cannot be had."""
    if address is None:
        yield
        return
    listener = Listener(pages)
    try:
        server = await asyncio.start_server(listener.serve, *address, limit=LARGEST_REQUEST)
    except OSError as error:
        where = f"{address[0]}:{address[1]}"
        raise errors.Usage(f"metrics.listen: {where}: {error.strerror or error}") from error
    try:
        yield
    finally:
        server.close()


class Listener:
    """Answers connections."""

    def __init__(self, pages: Pages, *, patience: float = PATIENCE) -> None:
        self._pages = pages
        self._patience = patience
        self.connections = 0
        """How many there are now."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close. Raises nothing."""
        self.connections += 1
        try:
            # asyncio cancels this task where the agent ends, and up to 3.11 complains if it lets itself be.
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                if self.connections <= MOST_CONNECTIONS:
                    async with asyncio.timeout(self._patience):
                        await self._exchange(reader, writer)
        finally:
            self.connections -= 1
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            method, reply = "", _refusal(http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            method, reply = await self._answer(head)
        writer.write(_head(reply))
        if method != "HEAD":
            writer.write(reply.body)
        writer.write_eof()
        # The client closes when it has the answer; closing first could cost it what is still on its way.
        await writer.drain()
        for _ in range(_LEFTOVERS):
            if not await reader.read(LARGEST_REQUEST):
                break

    async def _answer(self, head: bytes) -> tuple[str, Reply]:
        """The method, and the reply to it."""
        line = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(line) != 3 or not line[2].startswith("HTTP/1."):
            return "", _refusal(http.HTTPStatus.BAD_REQUEST)
        method, target, _ = line
        page = self._pages.get(target.partition("?")[0])
        if method not in ("GET", "HEAD"):
            return method, _refusal(http.HTTPStatus.METHOD_NOT_ALLOWED)
        if page is None:
            return method, _refusal(http.HTTPStatus.NOT_FOUND)
        try:
            return method, await page()
        except Exception as error:  # noqa: BLE001  whoever asks waits for an answer
            text = f"{type(error).__name__}: {error}\n".encode()
            return method, Reply(text, status=http.HTTPStatus.INTERNAL_SERVER_ERROR)


def _refusal(status: http.HTTPStatus) -> Reply:
    return Reply(f"{status.phrase}\n".encode(), status=status)


def _head(reply: Reply) -> bytes:
    lines = [
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
        *(["Allow: GET, HEAD"] if reply.status is http.HTTPStatus.METHOD_NOT_ALLOWED else []),
        "Connection: close",
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
