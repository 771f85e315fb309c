"""What ttrpc messages carry: a call's service, method and payload, a reply's status and payload. Pure.

Statuses are gRPC codes (google.rpc.Code).
"""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeVar

from google.protobuf import message

from reconciler import errors
from reconciler.runtime.nri import ttrpc_pb2

_MAX_TEXT = 700


class Code(enum.IntEnum):
    """The gRPC codes that are sent or told apart here."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12


_M = TypeVar("_M", bound=message.Message)


class Call(NamedTuple):
    """A decoded call. `timeout` is what the caller grants, in seconds; 0 or less where it does not say."""

    stream: int
    service: str
    method: str
    payload: bytes
    timeout: float


class Reply(NamedTuple):
    """A decoded reply. With a `code` other than 0 the payload means nothing and `text` says why."""

    stream: int
    code: int
    text: str
    payload: bytes


def parse(kind: type[_M], payload: bytes) -> _M:
    """The message of that kind in `payload`; fields that are not declared are skipped.

    Raises Malformed, naming the kind, where it cannot be decoded.
    """
    try:
        return kind.FromString(payload)
    except message.DecodeError as error:
        raise errors.Malformed(
            kind.DESCRIPTOR.name, f"{len(payload)} bytes do not decode: {error}"
        ) from error


def parse_call(stream: int, body: bytes) -> Call:
    """The call in the body of a request. Raises Malformed."""
    request = parse(ttrpc_pb2.Request, body)
    return Call(stream, request.service, request.method, request.payload, request.timeout_nano / 1e9)


def parse_reply(stream: int, body: bytes) -> Reply:
    """The reply in the body of a response. Raises Malformed."""
    response = parse(ttrpc_pb2.Response, body)
    return Reply(stream, response.status.code, response.status.message, response.payload)


def call(service: str, method: str, payload: bytes, *, timeout: float = 0) -> bytes:
    """The body of a request. `timeout` is in seconds, 0 for none."""
    request = ttrpc_pb2.Request(
        service=service, method=method, payload=payload, timeout_nano=round(timeout * 1e9)
    )
    return request.SerializeToString()


def reply(payload: bytes) -> bytes:
    """The body of a response that grants the call."""
    return ttrpc_pb2.Response(payload=payload).SerializeToString()


def failure(code: Code, text: str) -> bytes:
    """The body of a response that fails the call. `text` is made one line of at most 700 characters, since
    it ends up in a pod's events."""
    line = " ".join(text.split())[:_MAX_TEXT].encode(errors="replace").decode()
    status = ttrpc_pb2.Status(code=code, message=line)
    return ttrpc_pb2.Response(status=status).SerializeToString()
