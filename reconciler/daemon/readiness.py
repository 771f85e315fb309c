"""When the node counts as served: systemd starts kubelet after that, where it is so ordered. On asyncio."""

from __future__ import annotations

import asyncio

from reconciler import errors
from reconciler.daemon import agent, logs, passes
from reconciler.host import notify

_LOOK = 0.05
"""Seconds between two looks at whether the first list has been taken over; none after that."""


class Readiness:
    """Tells the log and the service manager."""

    def __init__(self, notifier: notify.Notifier, log: logs.Log) -> None:
        self._notifier = notifier
        self._log = log

    def stands_by(self, why: str) -> None:
        """Another instance serves the node: nothing needs to wait for this one."""
        self._log.warning("instance.waits", reason=why)
        self._tell(f"standing by: {why}")

    async def serve(self, its_agent: agent.Agent, its_passes: passes.Passes) -> None:
        """Tell once what runs has been taken over, and a pass has followed. Goes on until cancelled."""
        while its_agent.settled is None:  # noqa: ASYNC110  what settles it is spread over many events
            await asyncio.sleep(_LOOK)
        await its_passes.passed()
        self._log.info("agent.ready", mode=its_agent.mode, reason=its_agent.reason)
        self._tell(f"serving by {its_agent.mode}: {its_agent.reason}")
        await asyncio.get_running_loop().create_future()

    def _tell(self, status: str) -> None:
        try:
            self._notifier.ready(status)
        except errors.HostFileError as error:
            self._log.warning("host.limited", reason=str(error))
