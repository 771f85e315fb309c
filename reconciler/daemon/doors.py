"""The ladder of doors: NRI where it works, else CRI, else the cgroup tree. On asyncio.

Claims belong to pods and names, and ids are the runtime's own at every door, so a change of doors is one
more full list to the agent. Only one door tells it anything at a time: polls begin when NRI is lost, and end
with the `Synchronize` of the next connection; walks through the tree begin when polls fail, and end when one
does not.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import Protocol

from reconciler import events
from reconciler.config import schema
from reconciler.daemon import agent, births, options, polling, scanning, telling, watching
from reconciler.host import births as watches
from reconciler.host import pods
from reconciler.runtime.nri import dial, handler, plugin

LOST_SECONDS = 5.0
"""Seconds without NRI after which polls begin: a restart of the runtime takes less."""
SILENT_SECONDS = 10.0
"""Seconds without an answer over CRI after which walks begin: the tree knows no names, and a runtime that is
restarted on a busy node is back by then."""

_Part = Coroutine[object, object, None]
MakePolling = Callable[[polling.Mode], polling.Polling]
MakeScanning = Callable[[scanning.Mode], scanning.Scanning]


class Ladder:
    """Implements `runtime.nri.handler.Handler` for the agent; polls while there is no NRI, and walks through
    the cgroup tree while polls fail too.

    What NRI asks goes straight to the agent; only the beginning and the end of a connection matter here.
    """

    def __init__(
        self, its_agent: agent.Agent, make: MakePolling, make_scanning: MakeScanning, tell: telling.Teller
    ) -> None:
        """`make` gives what polls, for one time without NRI; `make_scanning` what walks, for one without
        either."""
        self._agent = its_agent
        self._make = make
        self._make_scanning = make_scanning
        self._tell = tell
        self._why = "it has not synchronized yet"
        self._was_connected = False
        self._serves = False
        self._why_no_cri = ""
        self._wanted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._polling: polling.Polling | None = None
        self._silent = asyncio.Event()
        self._silence: asyncio.TimerHandle | None = None
        self._scanning: scanning.Scanning | None = None
        self.create = its_agent.create
        self.start = its_agent.start
        self.update = its_agent.update
        self.stopped = its_agent.stopped
        self.removed = its_agent.removed
        self.pod_started = its_agent.pod_started
        self.pod_stopped = its_agent.pod_stopped
        self.pod_removed = its_agent.pod_removed
        self.guard = its_agent.guard

    async def run(self) -> None:
        """Poll whenever there is no NRI, until cancelled; raises what a poll's fault raises."""
        if not self._serves:
            self._soon()
        try:
            while True:
                await self._wanted.wait()
                self._polling = polls = self._make(self._mode)
                await _until_it_ends(polls)
        finally:
            self._cancel_timer()
            self._end_of_silence()

    async def scan(self) -> None:
        """Walk through the tree whenever polls fail, until cancelled; raises what a walk's fault raises."""
        while True:
            await self._silent.wait()
            if not self._silent.is_set():
                continue
            if self._polling is not None:
                self._polling.afresh()
            self._scanning = walks = self._make_scanning(self._walked)
            await _until_it_ends(walks)

    def connected(self, peer: handler.Peer) -> None:
        """As `Handler.connected`. Polls go on until the list comes, which may take minutes."""
        self._was_connected = True
        self._why = "it has not synchronized yet"
        if self._polling is None:
            self._agent.connected(peer)

    def synchronized(self, event: events.Synchronized, peer: handler.Peer) -> None:
        """As `Handler.synchronized`: from here on NRI alone tells what happens."""
        self._serves = True
        self._cancel_timer()
        self._wanted.clear()
        self._end_of_silence()
        if self._polling is not None:
            self._polling.stop()
            self._polling = None
            self._agent.connected(peer)
        self._agent.synchronized(event)

    def disconnected(self, reason: str) -> None:
        """As `Handler.disconnected`: polls begin, if NRI does not come back soon."""
        self._why = reason
        self._serves = False
        if self._polling is None:
            self._agent.disconnected(reason)
            self._soon()

    def notice(self, notice: handler.Notice) -> None:
        """Takes the plugin's notices. Where NRI cannot be had at the start there is nothing to wait for."""
        self._tell.notice(notice)
        if notice.event == "nri.retry":
            self._why = notice.text.partition("; next attempt")[0]
            if not self._was_connected:
                self._wanted.set()

    def limited(self, ids: Iterable[events.ContainerId]) -> None:
        """The limits of these containers may have changed, which NRI would have told."""
        if self._polling is not None:
            self._polling.limited(ids)

    def _soon(self) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(LOST_SECONDS, self._wanted.set)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _mode(self, mode: str, reason: str) -> None:
        """Takes what polls say of themselves, until they are stopped."""
        if self._polling is None:
            return
        if mode != "none":
            self._end_of_silence()
        else:
            self._why_no_cri = reason
            if self._scanning is not None:
                return
            if self._silence is None:
                loop = asyncio.get_running_loop()
                self._silence = loop.call_later(SILENT_SECONDS, self._silent.set)
        self._agent.set_mode(mode, f"{reason}; no NRI: {self._why}")

    def _walked(self, mode: str, reason: str) -> None:
        """Takes what walks say of themselves."""
        self._agent.set_mode(mode, f"{reason}; no CRI: {self._why_no_cri}; no NRI: {self._why}")

    def _end_of_silence(self) -> None:
        self._silent.clear()
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self._scanning is not None:
            self._scanning.stop()
            self._scanning = None


def parts(  # noqa: PLR0913  all that the doors lead to
    chosen: options.Options,
    nri: schema.Nri,
    its_agent: agent.Agent,
    watched: watching.Watching,
    tell: telling.Teller,
    *,
    agree: polling.Agree | None = None,
) -> list[_Part]:
    """What has to run for the agent to be told of the runtime, by the door or doors that were chosen.

    Raises Usage for a name or an index of the plugin that no runtime takes.
    """

    def watcher() -> births.Births:
        opened = watching.opened(watches.Births, chosen.cgroup_root, tell.complain)
        return births.Births(opened, complain=tell.complain)

    def make(mode: polling.Mode) -> polling.Polling:
        runtime = polling.Runtime(socket=chosen.cri_socket)
        return polling.Polling(runtime, its_agent, mode, watcher(), tell, agree=agree)

    def make_scanning(mode: scanning.Mode) -> scanning.Scanning:
        walk = functools.partial(pods.walk, chosen.cgroup_root)
        return scanning.Scanning(walk, its_agent, mode, watcher(), tell)

    match chosen.source:
        case "nri":
            return [_plugin(chosen, nri, its_agent, tell.notice, tell.counters).run()]
        case "cri":
            polls = make(its_agent.set_mode)
            watched.on_limits = polls.limited
            return [_until_it_ends(polls)]
        case "auto":
            ladder = Ladder(its_agent, make, make_scanning, tell)
            watched.on_limits = ladder.limited
            return [
                ladder.run(),
                ladder.scan(),
                _plugin(chosen, nri, ladder, ladder.notice, tell.counters).run(),
            ]
        case "cgroup":
            return [_until_it_ends(make_scanning(its_agent.set_mode))]


class _Door(Protocol):
    def start(self) -> asyncio.Task[None]: ...

    def stop(self) -> None: ...


def _plugin(
    chosen: options.Options,
    nri: schema.Nri,
    its_handler: handler.Handler,
    report: handler.Report,
    meter: handler.Meter,
) -> plugin.Plugin:
    identity, via = chosen.launch or (
        dial.identity(nri.plugin_name, nri.plugin_index),
        dial.UnixDial(chosen.nri_socket),
    )
    return plugin.Plugin(identity=identity, via=via, handler=its_handler, report=report, meter=meter)


async def _until_it_ends(door: _Door) -> None:
    """Poll, or walk, until told to stop, or cancelled; raises what a fault raises."""
    task = door.start()
    try:
        await asyncio.wait([task])
    finally:
        door.stop()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
