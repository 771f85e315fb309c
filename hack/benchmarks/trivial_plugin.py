"""The plugin with a handler that decides nothing: what the protocol alone costs.

Usage: trivial_plugin.py SOCKET
"""

from __future__ import annotations

import asyncio
import gc
import sys

from reconciler import events
from reconciler.runtime.nri import dial, handler, plugin

_ANSWER = handler.Adjustment("0-1")


class Constant:
    """Answers a constant."""

    def connected(self, peer: handler.Peer) -> None: ...

    def disconnected(self, reason: str) -> None: ...

    def synchronized(self, event: events.Synchronized, peer: handler.Peer) -> None: ...

    def create(self, event: events.ContainerCreating) -> handler.Adjustment:  # noqa: ARG002  a constant
        return _ANSWER

    def start(self, event: events.ContainerStarting) -> None: ...

    def update(self, event: events.ContainerUpdating) -> handler.Adjustment:  # noqa: ARG002
        return _ANSWER

    def stopped(self, event: events.ContainerStopped) -> None: ...

    def removed(self, event: events.ContainerRemoved) -> None: ...

    def pod_started(self, event: events.PodStarted) -> None: ...

    def pod_stopped(self, event: events.PodStopped) -> None: ...

    def pod_removed(self, event: events.PodRemoved) -> None: ...

    def guard(self, event: events.Event) -> handler.Adjustment | None: ...


def main() -> None:
    """Serve until killed."""
    gc.freeze()  # as floor_plugin.py does
    serving = plugin.Plugin(
        identity=dial.identity("trivial", "90"),
        via=dial.UnixDial(sys.argv[1]),
        handler=Constant(),
        report=lambda notice: print(notice.event, notice.text, file=sys.stderr),
    )
    asyncio.run(serving.run())


if __name__ == "__main__":
    main()
