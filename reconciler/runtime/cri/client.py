"""A client of the runtime's CRI socket: one method a call, each with a deadline. I/O, on asyncio.

Not a view of the node: it keeps nothing but its connection, which it makes on the first call and makes again
after the runtime restarted.
"""

from __future__ import annotations

from typing import Self, TypeVar

import grpclib
from google.protobuf import message
from grpclib import client as grpc
from grpclib import const

from reconciler import errors
from reconciler.runtime import broken
from reconciler.runtime.cri import cri_pb2 as cri

_SERVICE = "/runtime.v1.RuntimeService/"
_LIST_SECONDS = 10.0
_CHANGE_SECONDS = 120.0
"""What kubelet gives a call (runtime-request-timeout) is two minutes."""
_PASSING = frozenset(
    {
        const.Status.UNAVAILABLE,
        const.Status.DEADLINE_EXCEEDED,
        const.Status.RESOURCE_EXHAUSTED,
        const.Status.ABORTED,
        const.Status.CANCELLED,
    }
)

Request = TypeVar("Request", bound=message.Message)
Answer = TypeVar("Answer", bound=message.Message)


class Client:
    """Calls of `runtime.v1.RuntimeService` on a unix socket; make it inside a running loop.

    Every call raises Retryable where the runtime is away, slow or busy, Gone for an id that it does not
    know, and Refused, with the runtime's own text, for everything else that it does not do.
    """

    def __init__(self, socket: str, *, list_seconds: float = _LIST_SECONDS) -> None:
        """`socket` is a path; `list_seconds` the deadline of calls that only read."""
        self._socket = socket
        self._list_seconds = list_seconds
        self._channel = grpc.Channel(path=socket)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; no call may follow."""
        self._channel.close()

    async def version(self) -> cri.VersionResponse:
        """The runtime's name and version."""
        return await self._read("Version", cri.VersionRequest(version="v1"), cri.VersionResponse)

    async def status(self) -> cri.StatusResponse:
        """The runtime's conditions, such as RuntimeReady."""
        return await self._read("Status", cri.StatusRequest(), cri.StatusResponse)

    async def list_sandboxes(self) -> cri.ListPodSandboxResponse:
        """All sandboxes, with their pods' labels and annotations."""
        return await self._read("ListPodSandbox", cri.ListPodSandboxRequest(), cri.ListPodSandboxResponse)

    async def list_containers(self) -> cri.ListContainersResponse:
        """All containers, exited ones included; neither resources nor pids are in it."""
        return await self._read("ListContainers", cri.ListContainersRequest(), cri.ListContainersResponse)

    async def sandbox_status(self, sandbox: str, *, verbose: bool = False) -> cri.PodSandboxStatusResponse:
        """One sandbox; verbose adds `info["info"]`, JSON text: `pid`, `runtimeSpec`, maybe `config`."""
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=verbose)
        return await self._read("PodSandboxStatus", request, cri.PodSandboxStatusResponse)

    async def container_status(self, container: str, *, verbose: bool = False) -> cri.ContainerStatusResponse:
        """One container; verbose adds `info["info"]`, a JSON text with `pid` and `runtimeSpec`."""
        request = cri.ContainerStatusRequest(container_id=container, verbose=verbose)
        return await self._read("ContainerStatus", request, cri.ContainerStatusResponse)

    async def update_resources(self, container: str, linux: cri.LinuxContainerResources) -> None:
        """Change the fields that are set; the others stay as the runtime's record has them."""
        request = cri.UpdateContainerResourcesRequest(container_id=container, linux=linux)
        await self._change("UpdateContainerResources", request, cri.UpdateContainerResourcesResponse)

    async def run_sandbox(self, config: cri.PodSandboxConfig) -> str:
        """Start a pod's sandbox; gives its id."""
        request = cri.RunPodSandboxRequest(config=config)
        return (await self._change("RunPodSandbox", request, cri.RunPodSandboxResponse)).pod_sandbox_id

    async def stop_sandbox(self, sandbox: str) -> None:
        """Stop a sandbox and what runs in it."""
        request = cri.StopPodSandboxRequest(pod_sandbox_id=sandbox)
        await self._change("StopPodSandbox", request, cri.StopPodSandboxResponse)

    async def remove_sandbox(self, sandbox: str) -> None:
        """Forget a sandbox and its containers."""
        request = cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox)
        await self._change("RemovePodSandbox", request, cri.RemovePodSandboxResponse)

    async def create_container(
        self, sandbox: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig
    ) -> str:
        """Create a container without starting it; gives its id."""
        request = cri.CreateContainerRequest(
            pod_sandbox_id=sandbox, config=config, sandbox_config=sandbox_config
        )
        return (await self._change("CreateContainer", request, cri.CreateContainerResponse)).container_id

    async def start_container(self, container: str) -> None:
        """Let a created container's first instruction run."""
        request = cri.StartContainerRequest(container_id=container)
        await self._change("StartContainer", request, cri.StartContainerResponse)

    async def stop_container(self, container: str, grace: int = 0) -> None:
        """Stop a container: SIGTERM, and SIGKILL after `grace` seconds."""
        request = cri.StopContainerRequest(container_id=container, timeout=grace)
        await self._change("StopContainer", request, cri.StopContainerResponse)

    async def remove_container(self, container: str) -> None:
        """Forget a container; a running one is killed."""
        request = cri.RemoveContainerRequest(container_id=container)
        await self._change("RemoveContainer", request, cri.RemoveContainerResponse)

    async def execute(self, container: str, command: list[str]) -> cri.ExecSyncResponse:
        """Run a command in a container and wait for its end."""
        request = cri.ExecSyncRequest(container_id=container, cmd=command, timeout=int(_CHANGE_SECONDS))
        return await self._change("ExecSync", request, cri.ExecSyncResponse)

    async def _read(self, call: str, request: Request, answer: type[Answer]) -> Answer:
        return await self._call(call, request, answer, self._list_seconds)

    async def _change(self, call: str, request: Request, answer: type[Answer]) -> Answer:
        return await self._call(call, request, answer, _CHANGE_SECONDS)

    async def _call(self, call: str, request: Request, answer: type[Answer], seconds: float) -> Answer:
        method = grpc.UnaryUnaryMethod(self._channel, _SERVICE + call, type(request), answer)
        try:
            return await method(request, timeout=seconds)
        except grpclib.GRPCError as error:
            raise _typed(call, error) from error
        except TimeoutError as error:
            raise errors.Retryable(f"{call}: no answer from {self._socket} in {seconds:g} s") from error
        except broken.BROKEN as error:
            raise errors.Retryable(f"{call}: {self._socket}: {error}") from error


def _typed(call: str, error: grpclib.GRPCError) -> errors.ReconcilerError:
    text = f"{call}: {error.message or error.status.name}"
    if error.status in _PASSING:
        return errors.Retryable(text)
    if error.status is const.Status.NOT_FOUND:
        return errors.Gone(text)
    return errors.Refused(text, "runtime")
