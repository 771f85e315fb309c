"""The plugins of a stand-in runtime: how they are called and their answers merged. On asyncio.

As pkg/adaptation of containerd/nri does it, its traps included: whoever is too late is dropped and the
request goes on without it, a status fails the request, and two plugins that set the same thing fail it too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler import errors
from reconciler.runtime.nri import envelope, nri_pb2
from reconciler.sim import runtime_gate, runtime_profile, runtime_wire

if TYPE_CHECKING:
    from google.protobuf import message

_CODES = {
    2: "Unknown",
    3: "InvalidArgument",
    4: "DeadlineExceeded",
    9: "FailedPrecondition",
    12: "Unimplemented",
}
_OWN_CALLS = {
    nri_pb2.RUN_POD_SANDBOX: "RunPodSandbox",
    nri_pb2.STOP_POD_SANDBOX: "StopPodSandbox",
    nri_pb2.REMOVE_POD_SANDBOX: "RemovePodSandbox",
    nri_pb2.POST_CREATE_CONTAINER: "PostCreateContainer",
    nri_pb2.START_CONTAINER: "StartContainer",
    nri_pb2.POST_START_CONTAINER: "PostStartContainer",
    nri_pb2.POST_UPDATE_CONTAINER: "PostUpdateContainer",
    nri_pb2.REMOVE_CONTAINER: "RemoveContainer",
}


class RequestFailedError(errors.ReconcilerError):
    """A request of the CRI client failed; the text is what reaches the pod's owner."""


@dataclass(slots=True, eq=False)
class Registered:
    """An active plugin."""

    index: str
    name: str
    events: int
    wire: runtime_wire.Wire
    no_own_calls: bool = False

    @property
    def label(self) -> str:
        """How the runtime's errors name it."""
        return f"{self.index}-{self.name}"

    def wants(self, event: nri_pb2.Event) -> bool:
        """Whether it subscribed to that event."""
        return bool(self.events >> (event - 1) & 1)


@dataclass(slots=True)
class Merged:
    """What the plugins made of one request: the cpuset, and who set what."""

    cpu: nri_pb2.LinuxCPU
    owners: dict[str, str] = field(default_factory=dict)

    def overlay(self, cpu: nri_pb2.LinuxCPU, who: str) -> None:
        """Take what a plugin set. Raises RequestFailedError for what another has set already."""
        for name, label in (("cpus", "CPUSetCPUs"), ("mems", "CPUSetMems")):
            value = getattr(cpu, name)
            if not value:
                continue
            other = self.owners.setdefault(name, who)
            if other != who:
                raise RequestFailedError(f'plugins "{who}" and "{other}" both tried to set {label}')
            setattr(self.cpu, name, value)


class Plugins:
    """The active plugins, in the order of their indices."""

    def __init__(self, profile: runtime_profile.Profile) -> None:
        self.active: list[Registered] = []
        self.dropped: list[str] = []
        """Why plugins were let go, oldest first."""
        self._changed = asyncio.Event()
        self._gate = runtime_gate.Gate()
        self._profile = profile
        self._mutex = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Around every request of the CRI client: what registering waits for, where it does."""
        if not self._profile.registers_alone:
            yield
            return
        async with self._gate.shared():
            yield

    def registering(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Around the registration of a plugin."""
        return self._gate.alone() if self._profile.registers_alone else self._mutex

    def admit(self, plugin: Registered) -> None:
        """Call this plugin too from now on."""
        self.active.append(plugin)
        self.active.sort(key=lambda active: active.index)
        self._changed.set()

    async def wait_for(self, count: int) -> None:
        """Return once so many plugins are active."""
        while len(self.active) < count:
            self._changed.clear()
            await self._changed.wait()

    async def notify(
        self, event: nri_pb2.Event, pod: nri_pb2.PodSandbox, container: nri_pb2.Container | None = None
    ) -> None:
        """Tell all who want to know. Raises RequestFailedError with the first one's objection."""
        async with self._mutex:
            for plugin in self._wanting(event):
                reply = await self._event(plugin, event, pod, container)
                check(reply)

    async def create(self, pod: nri_pb2.PodSandbox, container: nri_pb2.Container) -> Merged:
        """The cpuset that a new container gets; each plugin sees what those before it set. Raises
        RequestFailedError."""
        merged = Merged(container.linux.resources.cpu)
        async with self._mutex:
            for plugin in self._wanting(nri_pb2.CREATE_CONTAINER):
                request = nri_pb2.CreateContainerRequest(pod=pod, container=container)
                reply = await self._call(plugin, "CreateContainer", request)
                check(reply)
                if reply is None:
                    continue
                response = envelope.parse(nri_pb2.CreateContainerResponse, reply.payload)
                for update in response.update:
                    if update.container_id == container.id:
                        text = f'plugin "{plugin.label}" asked update of "{container.id}" during creation'
                        raise RequestFailedError(text)
                merged.overlay(response.adjust.linux.resources.cpu, plugin.label)
        return merged

    async def update(
        self, pod: nri_pb2.PodSandbox, container: nri_pb2.Container, asked: nri_pb2.LinuxCPU
    ) -> Merged:
        """What a resize shall set, with the plugins' answers laid over what was asked. Raises
        RequestFailedError."""
        merged = Merged(nri_pb2.LinuxCPU())
        merged.cpu.CopyFrom(asked)
        async with self._mutex:
            for plugin in self._wanting(nri_pb2.UPDATE_CONTAINER):
                request = nri_pb2.UpdateContainerRequest(
                    pod=pod, container=container, linux_resources=nri_pb2.LinuxResources(cpu=merged.cpu)
                )
                reply = await self._call(plugin, "UpdateContainer", request)
                check(reply)
                if reply is None:
                    continue
                for update in envelope.parse(nri_pb2.UpdateContainerResponse, reply.payload).update:
                    if update.container_id == container.id:
                        merged.overlay(update.linux.resources.cpu, plugin.label)
        return merged

    async def stop(self, pod: nri_pb2.PodSandbox, container: nri_pb2.Container) -> None:
        """Tell that a container is gone; objections are only logged."""
        async with self._mutex:
            for plugin in self._wanting(nri_pb2.STOP_CONTAINER):
                await self._call(plugin, "StopContainer", nri_pb2.Lifecycle(pod=pod, container=container))

    def disconnect(self, why: str) -> None:
        """Hang up on everyone."""
        for plugin in self.active:
            plugin.wire.close(why)
        self.active.clear()

    def _wanting(self, event: nri_pb2.Event) -> list[Registered]:
        return [plugin for plugin in self.active if plugin.wants(event)]

    async def _event(
        self,
        plugin: Registered,
        event: nri_pb2.Event,
        pod: nri_pb2.PodSandbox,
        container: nri_pb2.Container | None,
    ) -> envelope.Reply | None:
        if self._profile.own_calls and not plugin.no_own_calls:
            reply = await self._call(
                plugin, _OWN_CALLS[event], nri_pb2.Lifecycle(pod=pod, container=container)
            )
            if reply is None or reply.code != envelope.Code.UNIMPLEMENTED:
                return reply
            plugin.no_own_calls = True
        change = nri_pb2.StateChangeEvent(event=event, pod=pod, container=container)
        return await self._call(plugin, "StateChange", change)

    async def _call(self, plugin: Registered, method: str, request: message.Message) -> envelope.Reply | None:
        """The reply, or None if the plugin is gone: too late means gone, and gone means unadjusted."""
        try:
            return await plugin.wire.call(method, request.SerializeToString(), self._profile.request_timeout)
        except (runtime_wire.ClosedError, TimeoutError, errors.Malformed) as error:
            why = str(error) or f"{method}: context deadline exceeded"
            self.dropped.append(f"{plugin.label}: {why}")
            plugin.wire.close(why)
            if plugin in self.active:
                self.active.remove(plugin)
            return None


def check(reply: envelope.Reply | None) -> None:
    """Raises RequestFailedError for a status that is no success."""
    if reply is not None and reply.code:
        code = _CODES.get(reply.code, str(reply.code))
        raise RequestFailedError(f"rpc error: code = {code} desc = {reply.text}")
