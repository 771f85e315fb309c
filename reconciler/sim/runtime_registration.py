"""How a stand-in runtime takes plugins in. On asyncio.

As pkg/adaptation of containerd/nri does it: strictly one after the other, with its time-outs, and with the
places where it forgets to hang up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence

from reconciler import errors
from reconciler.runtime.nri import envelope, nri_pb2
from reconciler.sim import runtime_plugins, runtime_profile, runtime_wire

_NAME = re.compile(r"[A-Za-z0-9_.+-]+", re.ASCII)
_INDEX = re.compile(r"[0-9]{2}", re.ASCII)
_ALL = 0

World = Callable[[], tuple[Sequence[nri_pb2.PodSandbox], Sequence[nri_pb2.Container]]]
"""What the runtime has now, for Synchronize."""


class LeftOpenError(errors.ReconcilerError):
    """A plugin is not registered, and the runtime forgets to close its connection."""


class Registrar:
    """Registers, configures and synchronizes plugins, and hands them to `plugins`."""

    def __init__(
        self, profile: runtime_profile.Profile, plugins: runtime_plugins.Plugins, world: World
    ) -> None:
        self.accepted: asyncio.Queue[runtime_wire.Wire] = asyncio.Queue()
        self._profile = profile
        self._plugins = plugins
        self._world = world

    async def accept(self) -> None:
        """Register whoever connects, for ever. A silent one delays all that come after it."""
        while True:
            wire = await self.accepted.get()
            wire.unblock()
            try:
                await self._register(wire)
            except (errors.ReconcilerError, TimeoutError) as error:
                self._plugins.dropped.append(str(error) or "plugin registration timed out")
                if not isinstance(error, LeftOpenError):
                    wire.close(str(error))

    def disconnect(self, why: str) -> None:
        """Hang up on all that wait for their turn."""
        while not self.accepted.empty():
            self.accepted.get_nowait().close(why)

    async def _register(self, wire: runtime_wire.Wire) -> None:
        async with asyncio.timeout(self._profile.registration_timeout):
            call = await wire.registration
        request = envelope.parse(nri_pb2.RegisterPluginRequest, call.payload)
        if bad := self._objection(request):
            wire.reply(call, envelope.failure(envelope.Code.UNKNOWN, bad))
            raise LeftOpenError(bad)
        if not self._profile.configures_first:
            wire.reply(call, envelope.reply(b""))
        configuring = self._configure(wire)
        if self._profile.configures_first:
            # The reply goes out while Configure is on its way.
            asyncio.get_running_loop().call_soon(wire.reply, call, envelope.reply(b""))
        events = await configuring
        plugin = runtime_plugins.Registered(request.plugin_idx, request.plugin_name, events, wire)
        async with self._plugins.registering():
            await self._synchronize(wire)
            self._plugins.admit(plugin)

    def _objection(self, request: nri_pb2.RegisterPluginRequest) -> str | None:
        if _INDEX.fullmatch(request.plugin_idx) is None:
            return f'invalid plugin index: "{request.plugin_idx}"'
        if not request.plugin_name:
            return "empty plugin name"
        if self._profile.checks_names and _NAME.fullmatch(request.plugin_name) is None:
            return f'invalid plugin name: "{request.plugin_name}"'
        return None

    async def _configure(self, wire: runtime_wire.Wire) -> int:
        profile = self._profile
        request = nri_pb2.ConfigureRequest(
            config=wire.config, runtime_name=profile.runtime, runtime_version=profile.version
        )
        if profile.says_timeouts:
            request.registration_timeout = round(profile.registration_timeout * 1000)
            request.request_timeout = round(profile.request_timeout * 1000)
        if profile.says_version:
            request.NRI_version = f"v{profile.nri}"
        reply = await wire.call("Configure", request.SerializeToString(), profile.request_timeout)
        runtime_plugins.check(reply)
        events = envelope.parse(nri_pb2.ConfigureResponse, reply.payload).events
        if events & ~profile.valid_events:
            raise runtime_plugins.RequestFailedError(
                f"invalid plugin events: {events & ~profile.valid_events:#x}"
            )
        return profile.valid_events if events == _ALL else events

    async def _synchronize(self, wire: runtime_wire.Wire) -> None:
        """Raises `LeftOpenError` where an old runtime does not close the connection after a failure."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._profile.request_timeout
        try:
            for part in self._parts():
                left = max(deadline - loop.time(), 0.001)
                reply = await wire.call("Synchronize", part.SerializeToString(), left)
                runtime_plugins.check(reply)
                response = envelope.parse(nri_pb2.SynchronizeResponse, reply.payload)
                if part.more and (not response.more or response.update):
                    raise runtime_plugins.RequestFailedError("plugin does not handle split sync requests")
        except (errors.ReconcilerError, TimeoutError) as error:
            if self._profile.makes_zombies:
                raise LeftOpenError(f"failed to synchronize plugin: {error}") from error
            raise

    def _parts(self) -> list[nri_pb2.SynchronizeRequest]:
        """Synchronize, in as many parts as its size asks for; pods and containers are divided on their own,
        so a container can come before its pod."""
        pods, containers = self._world()
        whole = nri_pb2.SynchronizeRequest(pods=pods, containers=containers)
        if not self._profile.splits or whole.ByteSize() <= self._profile.split_above:
            return [whole]
        count = -(-whole.ByteSize() // self._profile.split_above) + 1
        return [
            nri_pb2.SynchronizeRequest(
                pods=pods[len(pods) * n // count : len(pods) * (n + 1) // count],
                containers=containers[len(containers) * n // count : len(containers) * (n + 1) // count],
                more=n < count - 1,
            )
            for n in range(count)
        ]
