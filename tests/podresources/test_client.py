"""What kubelet answers, and what comes of a kubelet that does not."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import AsyncIterator, Callable

import grpclib
import pytest
from grpclib import const, server

from reconciler import errors
from reconciler.cpu.idset import CpuSet
from reconciler.runtime.podresources import client
from reconciler.runtime.podresources import podresources_pb2 as podresources

# covers: PRD-7.13

Request = podresources.ListPodResourcesRequest
Response = podresources.ListPodResourcesResponse
_Answer = Callable[[], Response]


class Kubelet:
    """Answers List with what it is told to."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    def __mapping__(self) -> dict[str, const.Handler]:
        """The call by its path, as grpclib asks for it."""

        async def call(stream: server.Stream[Request, Response]) -> None:
            await stream.recv_message()
            await stream.send_message(self._answer())

        handler = const.Handler(call, const.Cardinality.UNARY_UNARY, Request, Response)
        return {"/v1.PodResourcesLister/List": handler}


@contextlib.asynccontextmanager
async def listening(answer: _Answer) -> AsyncIterator[str]:
    """One that answers so; the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="kubelet-") as folder:
        path = str(pathlib.Path(folder, "kubelet.sock"))
        serves = server.Server([Kubelet(answer)])
        await serves.start(path=path)
        try:
            yield path
        finally:
            serves.close()
            await serves.wait_closed()


def answer(*cpu_ids: int) -> Response:
    """A pod of three containers, of which the first has these CPUs and the last has 7."""
    containers = [
        podresources.ContainerResources(name="main", cpu_ids=cpu_ids),
        podresources.ContainerResources(name="side"),
        podresources.ContainerResources(name="last", cpu_ids=[7]),
    ]
    return Response(
        pod_resources=[podresources.PodResources(name="db", namespace="default", containers=containers)]
    )


async def test_who_has_cpus_of_their_own_is_named_and_nobody_else() -> None:
    async with listening(lambda: answer(3, 1)) as path:
        assert await client.owned(path) == {
            ("default", "db", "main"): CpuSet((1, 3)),
            ("default", "db", "last"): CpuSet((7,)),
        }


async def test_fields_are_read_under_their_published_numbers() -> None:
    # api.proto: PodResources name 1, namespace 2, containers 3; ContainerResources name 1, cpu_ids 3, packed.
    wire = b"\x0a\x12\x0a\x02db\x12\x01n\x1a\x09\x0a\x01c\x1a\x02\x01\x03\x22\x00"
    async with listening(lambda: Response.FromString(wire)) as path:
        assert await client.owned(path) == {("n", "db", "c"): CpuSet((1, 3))}


async def test_nobody_with_cpus_of_their_own_is_an_answer() -> None:
    async with listening(Response) as path:
        assert await client.owned(path) == {}


@pytest.mark.parametrize("id_", [-1, 8192, 1 << 40])
async def test_a_cpu_that_cannot_be_is_no_answer(id_: int) -> None:
    async with listening(lambda: answer(id_)) as path:
        with pytest.raises(errors.Retryable, match="outside 0-8191"):
            await client.owned(path)


async def test_a_kubelet_that_has_no_time_is_to_be_asked_again() -> None:
    def refuse() -> Response:
        raise grpclib.GRPCError(const.Status.RESOURCE_EXHAUSTED, "rejected by rate limit")

    async with listening(refuse) as path:
        with pytest.raises(errors.Retryable, match="rejected by rate limit"):
            await client.owned(path)


async def test_no_socket_is_to_be_asked_again(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.Retryable, match="PodResources List"):
        await client.owned(str(tmp_path / "none.sock"))


async def test_one_that_never_answers_costs_the_deadline_and_no_more(tmp_path: pathlib.Path) -> None:
    gone = asyncio.Event()

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    path = str(tmp_path / "s")
    async with await asyncio.start_unix_server(ignore, path):
        with pytest.raises(errors.Retryable, match=r"no answer from .* in 0\.05 s"):
            await client.owned(path, seconds=0.05)
        gone.set()


async def test_one_that_speaks_something_else_is_to_be_asked_again(tmp_path: pathlib.Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
        await writer.drain()
        writer.close()

    path = str(tmp_path / "s")
    async with await asyncio.start_unix_server(babble, path):
        with pytest.raises(errors.Retryable):
            await client.owned(path, seconds=2.0)
