"""Notices that the configuration or the CPUs of the machine have changed. I/O: reads both, by polling.

Neither tells: a ConfigMap changes by a symbolic link, and sysfs by the kernel.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from reconciler import errors
from reconciler.config import load, schema
from reconciler.cpu import topology as topologies
from reconciler.daemon import logs
from reconciler.host import sysfs

PAUSE = 2.0
"""Seconds between two looks: one stat of the file and two small reads of sysfs."""

Follow = Callable[[topologies.Topology, schema.Config], None]


class Renewal:
    """Holds what is in force, and tells `follow` when it is something else."""

    def __init__(self, path: str | None, host_root: str, log: logs.Log) -> None:
        """Reads both for the first time. Raises Usage for the configuration, Unsuitable, HostFileError or
        Malformed for the topology."""
        self._path = path
        self._root = host_root
        self._log = log
        self._complaints: dict[str, str] = {}
        self._stamp = self._stat()
        self._fingerprint = sysfs.fingerprint(host_root)
        self.config = schema.Config() if path is None else load.read(path)
        self.topology = sysfs.topology(host_root)

    async def serve(self, follow: Follow) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(PAUSE)
            if self.look():
                follow(self.topology, self.config)

    def look(self) -> bool:
        """Whether something else is in force now. What cannot be used keeps the old in force, and is told."""
        return self._look_at_config() | self._look_at_cpus()

    def _look_at_config(self) -> bool:
        stamp = self._stat()
        if self._path is None or stamp == self._stamp:
            return False
        try:
            config = load.read(self._path)
        except errors.Usage as error:
            # What could not even be read may be readable the next time without having changed.
            if not isinstance(error.__cause__, OSError):
                self._stamp = stamp
            self._complain("config.rejected", str(error), kept="the configuration before it")
            return False
        self._stamp = stamp
        self._complaints.pop("config.rejected", None)
        if config == self.config:
            return False
        if config.nri != self.config.nri:
            self._log.warning("config.restart-needed", key="nri", reason="a plugin keeps its name and index")
        if config.metrics != self.config.metrics:
            self._log.warning("config.restart-needed", key="metrics", reason="a listener keeps its address")
        if config.startup_taint != self.config.startup_taint:
            reason = "the taint is taken off once, when the node is served first"
            self._log.warning("config.restart-needed", key="startupTaint", reason=reason)
        if config.attribution != self.config.attribution:
            reason = "writers are watched from the start on, or not at all"
            self._log.warning("config.restart-needed", key="attribution", reason=reason)
        self.config = config
        self._log.info("config.reloaded", path=self._path)
        return True

    def _look_at_cpus(self) -> bool:
        try:
            fingerprint = sysfs.fingerprint(self._root)
            is_new = fingerprint != self._fingerprint
            topology = sysfs.topology(self._root) if is_new else self.topology
        except errors.ReconcilerError as error:
            self._complain("topology.unreadable", str(error))
            return False
        self._complaints.pop("topology.unreadable", None)
        if not is_new:
            return False
        self._fingerprint = fingerprint
        before, self.topology = self.topology, topology
        self._log.warning(
            "topology.changed",
            online=str(topology.online),
            went=str(before.online - topology.online),
            came=str(topology.online - before.online),
        )
        return True

    def _complain(self, event: str, reason: str, **more: str) -> None:
        """Tell what cannot be used, once for each reason: the next look finds it again."""
        if self._complaints.get(event) != reason:
            self._complaints[event] = reason
            self._log.warning(event, reason=reason, **more)

    def _stat(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
