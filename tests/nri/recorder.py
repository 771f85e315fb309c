"""A handler that writes down what it hears, and a plugin that serves it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from reconciler import events
from reconciler.runtime.nri import dial, handler, levels, plugin, session
from reconciler.runtime.nri.handler import Adjustment
from reconciler.sim import runtime

PATIENCE = 5.0
IDENTITY = session.Identity("test", "90")
PEER = handler.Peer(
    runtime="containerd",
    version="v2.1.9",
    level=levels.Level(0, 8, 0),
    registration_timeout=5.0,
    request_timeout=2.0,
    events=levels.EVENTS,
)


@dataclass
class Recorder:
    """Answers what its attributes say."""

    heard: list[str] = field(default_factory=list)
    seen: list[events.Event] = field(default_factory=list)
    peers: list[handler.Peer] = field(default_factory=list)
    notices: list[handler.Notice] = field(default_factory=list)
    on_create: Callable[[events.ContainerCreating], Adjustment | Awaitable[Adjustment]] = lambda _: (
        Adjustment("2-3", "0")
    )
    on_start: Callable[[events.ContainerStarting], Awaitable[None] | None] = lambda _: None
    on_update: Callable[[events.ContainerUpdating], Adjustment | Awaitable[Adjustment]] = lambda _: (
        Adjustment("4-5")
    )
    on_guard: Callable[[events.Event], Adjustment | None] = lambda _: Adjustment("0")
    on_any: Callable[[str], None] = lambda _: None
    synchronized_by: handler.Peer | None = None

    def of(self, name: str) -> list[handler.Notice]:
        """The notices of that kind."""
        return [notice for notice in self.notices if notice.event == name]

    def _note(self, what: str, event: events.Event | None = None) -> None:
        self.heard.append(what)
        if event is not None:
            self.seen.append(event)
        self.on_any(what)

    def connected(self, peer: handler.Peer) -> None:
        self.peers.append(peer)
        self._note("connected")

    def disconnected(self, reason: str) -> None:
        self._note(f"disconnected: {reason}")

    def synchronized(self, event: events.Synchronized, peer: handler.Peer) -> None:
        self.synchronized_by = peer
        self._note("synchronized", event)

    def create(self, event: events.ContainerCreating) -> Adjustment | Awaitable[Adjustment]:
        self._note("create", event)
        return self.on_create(event)

    def start(self, event: events.ContainerStarting) -> Awaitable[None] | None:
        self._note("start", event)
        return self.on_start(event)

    def update(self, event: events.ContainerUpdating) -> Adjustment | Awaitable[Adjustment]:
        self._note("update", event)
        return self.on_update(event)

    def stopped(self, event: events.ContainerStopped) -> None:
        self._note("stopped", event)

    def removed(self, event: events.ContainerRemoved) -> None:
        self._note("removed", event)

    def pod_started(self, event: events.PodStarted) -> None:
        self._note("pod_started", event)

    def pod_stopped(self, event: events.PodStopped) -> None:
        self._note("pod_stopped", event)

    def pod_removed(self, event: events.PodRemoved) -> None:
        self._note("pod_removed", event)

    def guard(self, event: events.Event) -> Adjustment | None:
        self._note("guard", event)
        return self.on_guard(event)


@dataclass
class Cgroups:
    """Cgroups as a dictionary of path to (cpus, mems), and a diary."""

    made: dict[str, tuple[str, str]] = field(default_factory=dict)
    diary: list[str] = field(default_factory=list)

    def create(self, path: str, cpus: str, mems: str, quota: str = "") -> None:  # noqa: ARG002  not looked at
        self.made[path] = (cpus, mems)
        self.diary.append(f"create {path}")

    def remove(self, path: str) -> None:
        del self.made[path]
        self.diary.append(f"remove {path}")


def no_pause() -> plugin.Backoff:
    """Pauses of no length: tests in real time must not wait."""
    return plugin.Backoff(lambda: -1.0)


@contextlib.asynccontextmanager
async def serving(
    stand_in: runtime.StandInRuntime,
    recorder: Recorder,
    *,
    identity: session.Identity = IDENTITY,
    active: bool = True,
) -> AsyncIterator[plugin.Plugin]:
    """A plugin that is registered, or just started if not `active`."""
    its_plugin = plugin.Plugin(
        identity=identity,
        via=dial.UnixDial(stand_in.socket_path),
        handler=recorder,
        report=recorder.notices.append,
        backoff=no_pause(),
    )
    before = len(stand_in.plugins.active)
    running = asyncio.create_task(its_plugin.run())
    try:
        if active:
            async with asyncio.timeout(PATIENCE):
                await stand_in.plugins.wait_for(before + 1)
        yield its_plugin
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fails after some seconds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  the condition is anyone's, there is nothing to set
            await asyncio.sleep(0.001)
