"""The CRI side of a stand-in runtime: lists and statuses of its pods on a real socket. On asyncio.

It shows what `runtime.StandInRuntime` has, in the words of containerd 1.6 to 2.x or of CRI-O, and can be told
to fail, to hang and to show something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import TypeVar

import grpclib
from grpclib import const, protocol, server

from reconciler import events
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.sim import runtime, runtime_cri_messages

_SERVICE = "/runtime.v1.RuntimeService/"
_SECOND = 1_000_000_000

Request = TypeVar("Request")
Answer = TypeVar("Answer")
_Method = Callable[[Request], Answer | Awaitable[Answer]]


class CriSide:
    """Serves `runtime.v1.RuntimeService`, as far as a poller calls it. Use `serving`.

    `faults` are raised by the calls of that name, `hanging` calls wait for `released`, `calls` counts them.
    `reshape` may change the lists before they are sent.
    """

    def __init__(self, its_runtime: runtime.StandInRuntime) -> None:
        self.faults: dict[str, const.Status] = {}
        self.hanging: set[str] = set()
        self.released = asyncio.Event()
        self.calls: Counter[str] = Counter()
        self.reshape: Callable[[cri.ListContainersResponse | cri.ListPodSandboxResponse], None] = lambda _: (
            None
        )
        self._runtime = its_runtime
        self._ages: dict[str, int] = {}
        self._clock = itertools.count(_SECOND, _SECOND)

    def __mapping__(self) -> dict[str, const.Handler]:
        """The calls by their paths, as grpclib asks for them."""
        return dict(
            [
                self._handler("Version", self._version, cri.VersionRequest, cri.VersionResponse),
                self._handler(
                    "ListPodSandbox", self._sandboxes, cri.ListPodSandboxRequest, cri.ListPodSandboxResponse
                ),
                self._handler(
                    "ListContainers", self._containers, cri.ListContainersRequest, cri.ListContainersResponse
                ),
                self._handler(
                    "PodSandboxStatus",
                    self._sandbox,
                    cri.PodSandboxStatusRequest,
                    cri.PodSandboxStatusResponse,
                ),
                self._handler(
                    "ContainerStatus",
                    self._container,
                    cri.ContainerStatusRequest,
                    cri.ContainerStatusResponse,
                ),
                self._handler(
                    "UpdateContainerResources",
                    self._update,
                    cri.UpdateContainerResourcesRequest,
                    cri.UpdateContainerResourcesResponse,
                ),
            ]
        )

    def _handler(
        self, name: str, method: _Method[Request, Answer], request: type[Request], response: type[Answer]
    ) -> tuple[str, const.Handler]:
        async def call(stream: server.Stream[Request, Answer]) -> None:
            asked = await stream.recv_message()
            assert asked is not None  # noqa: S101  a unary call has one message
            self.calls[name] += 1
            if name in self.hanging:
                await self.released.wait()
            if name in self.faults:
                raise grpclib.GRPCError(self.faults[name], f"{name} fails")
            answer = method(asked)
            await stream.send_message(await answer if isinstance(answer, Awaitable) else answer)

        handler: Callable[[server.Stream[Request, Answer]], Awaitable[None]] = call
        return _SERVICE + name, const.Handler(handler, const.Cardinality.UNARY_UNARY, request, response)

    def _version(self, _: cri.VersionRequest) -> cri.VersionResponse:
        profile = self._runtime.profile
        return cri.VersionResponse(
            version="0.1.0",
            runtime_name=profile.runtime,
            runtime_version=profile.version,
            runtime_api_version="v1",
        )

    def _sandboxes(self, _: cri.ListPodSandboxRequest) -> cri.ListPodSandboxResponse:
        pods = self._runtime.pods.values()
        listed = cri.ListPodSandboxResponse(
            items=[runtime_cri_messages.sandbox(pod, self._age(pod.message.id)) for pod in pods]
        )
        self.reshape(listed)
        return listed

    def _containers(self, _: cri.ListContainersRequest) -> cri.ListContainersResponse:
        records = self._runtime.containers.values()
        listed = cri.ListContainersResponse(
            containers=[
                runtime_cri_messages.container(record, self._age(record.message.id)) for record in records
            ]
        )
        self.reshape(listed)
        return listed

    def _sandbox(self, asked: cri.PodSandboxStatusRequest) -> cri.PodSandboxStatusResponse:
        pod = self._runtime.pods.get(asked.pod_sandbox_id)
        if pod is None:
            raise grpclib.GRPCError(const.Status.NOT_FOUND, f"sandbox {asked.pod_sandbox_id} not found")
        answer = cri.PodSandboxStatusResponse(status=runtime_cri_messages.sandbox_status(pod))
        if asked.verbose:
            answer.info["info"] = runtime_cri_messages.sandbox_info(pod, self._runtime.profile)
        return answer

    def _container(self, asked: cri.ContainerStatusRequest) -> cri.ContainerStatusResponse:
        record = self._runtime.containers.get(asked.container_id)
        if record is None:
            raise grpclib.GRPCError(const.Status.NOT_FOUND, f"container {asked.container_id} not found")
        profile = self._runtime.profile
        answer = cri.ContainerStatusResponse(status=runtime_cri_messages.container_status(record, profile))
        if asked.verbose:
            answer.info["info"] = runtime_cri_messages.container_info(record, profile)
        return answer

    async def _update(
        self, asked: cri.UpdateContainerResourcesRequest
    ) -> cri.UpdateContainerResourcesResponse:
        """What is not set stays on record. The record is what containerd then writes."""
        record = self._runtime.containers.get(asked.container_id)
        if record is None:
            raise grpclib.GRPCError(const.Status.NOT_FOUND, f"container {asked.container_id} not found")
        if record.phase is events.Phase.STOPPED:
            raise grpclib.GRPCError(const.Status.UNKNOWN, f"container {asked.container_id} has exited")
        await self._runtime.update_container(asked.container_id, runtime_cri_messages.cpu(asked.linux))
        return cri.UpdateContainerResourcesResponse()

    def _age(self, id_: str) -> int:
        """Nanoseconds; ids in the order in which they were first listed."""
        if id_ not in self._ages:
            self._ages[id_] = next(self._clock)
        return self._ages[id_]


class _Server(server.Server):
    """One whose end closes its connections too, as the end of a process does."""

    def __init__(self, handlers: Collection[CriSide]) -> None:
        super().__init__(handlers)
        self._made: list[protocol.H2Protocol] = []

    def _protocol_factory(self) -> protocol.H2Protocol:
        self._made.append(made := super()._protocol_factory())
        return made

    def close(self) -> None:
        super().close()
        for made in self._made:
            made.connection.close()


@contextlib.asynccontextmanager
async def serving(path: str, its_runtime: runtime.StandInRuntime) -> AsyncIterator[CriSide]:
    """The CRI side of a runtime, listening at `path`."""
    side = CriSide(its_runtime)
    async with listening(path, side):
        yield side


@contextlib.asynccontextmanager
async def listening(path: str, side: CriSide) -> AsyncIterator[None]:
    """Listen at `path`; its end is the runtime's: connections are closed, what runs goes on."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    serves = _Server([side])
    await serves.start(path=path)
    try:
        yield
    finally:
        side.released.set()
        serves.close()
        await serves.wait_closed()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
