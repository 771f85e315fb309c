"""Questions to the running agent over its unix socket. On asyncio.

One JSON object on a line asks, one JSON object on a line answers: `{"request": "status"}`, with further keys
where the request takes some. An answer with the key `error` says why there is none. Whoever may open the
socket (mode 0600) may ask; nothing can be changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from reconciler import errors

Document = Mapping[str, object]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request that takes nothing but its name; others add what they take."""

    request: str


_Asked = TypeVar("_Asked", bound=Request)


@dataclass(frozen=True, slots=True)
class Answer(Generic[_Asked]):
    """What one request takes, and what gives the answer. It may raise `ReconcilerError`."""

    takes: type[_Asked]
    give: Callable[[_Asked], Awaitable[Document]]

    async def to(self, asked: Mapping[str, object]) -> Document:
        """The answer. Raises `msgspec.ValidationError` for what it does not take."""
        return await self.give(msgspec.convert(asked, self.takes))


Answers = Mapping[str, Answer[Any]]
"""Requests by their names."""

LARGEST_ANSWER = 64 << 20
"""Bytes of one answer; a status is about 500 bytes a container."""
_LARGEST_REQUEST = 64 << 10
_PATIENCE = 10.0
"""Seconds that one side gives the other."""


@contextlib.asynccontextmanager
async def serving(path: str, answers: Answers) -> AsyncIterator[None]:
    """Answer requests by their names at the socket `path`, in place of a socket that was left there.

    Raises Usage where the socket cannot be made, as where there is a file that is none.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # asyncio cancels this task where the agent ends, and up to 3.11 complains if it lets itself be.
            with contextlib.suppress(
                OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError
            ):
                async with asyncio.timeout(_PATIENCE):
                    document = await _answer(await _line(reader), answers)
                    writer.write(json.dumps(document, separators=(",", ":")).encode() + b"\n")
                    await writer.drain()
        finally:
            writer.close()

    try:
        old_mask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(serve, path, limit=_LARGEST_REQUEST)
        finally:
            os.umask(old_mask)
    except OSError as error:
        raise errors.Usage(f"API socket {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(OSError):
            os.unlink(path)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        return b""


async def _answer(line: bytes, answers: Answers) -> Document:
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):
        return {"error": f"a request is one JSON object on one line of at most {_LARGEST_REQUEST} bytes"}
    name = asked.get("request") if isinstance(asked, dict) else None
    answer = answers.get(name) if isinstance(name, str) else None
    if answer is None:
        return {"error": f"unknown request {name!r}; known: {', '.join(sorted(answers))}"}
    try:
        return await answer.to(asked)
    except msgspec.ValidationError as error:
        return {"error": f"request {name}: {error}"}
    except errors.ReconcilerError as error:
        return {"error": str(error)}
    except Exception as error:  # noqa: BLE001  whoever asks waits for an answer
        return {"error": f"{type(error).__name__}: {error}"}


async def ask(path: str, request: Document) -> dict[str, object]:
    """The agent's answer.

    Raises Retryable where no agent answers, and for an answer that is an error; Usage for a request that is
    too long for any.
    """
    line = json.dumps(request).encode() + b"\n"
    if len(line) > _LARGEST_REQUEST:
        raise errors.Usage(f"a request of {len(line)} bytes: the agent takes at most {_LARGEST_REQUEST}")
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_unix_connection(path, limit=LARGEST_ANSWER)
            try:
                writer.write(line)
                answer = json.loads(await reader.readuntil(b"\n"))
            finally:
                writer.close()
    except TimeoutError as error:
        raise errors.Retryable(f"the agent at {path} did not answer within {_PATIENCE:.0f} s") from error
    except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise errors.Retryable(f"no agent answers at {path}: {why}") from error
    if not isinstance(answer, dict):
        raise errors.Retryable(f"the agent at {path} answered something else than a JSON object")
    if "error" in answer:
        raise errors.Retryable(f"the agent at {path}: {answer['error']}")
    return answer
