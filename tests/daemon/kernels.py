"""A kernel's cpusets on a directory that can be told to refuse, to be slow, and to break a pass off."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from reconciler import observed
from reconciler.cpu import topology as topologies
from reconciler.sim import kernel

PATIENCE = 10.0
"""Seconds after which something that is waited for will not come any more."""


class Kernel(kernel.SimulatedCgroupfs):
    """Does what its attributes say, at each look and each write."""

    def __init__(self, root: str, topology: topologies.Topology) -> None:
        super().__init__(root, topology)
        self.refuses: dict[str, int] = {}
        """Error numbers by cgroup path: what a write there ends with."""
        self.fault: Exception | None = None
        """What a look raises, as only a mistake of the program could."""
        self.attempts: list[tuple[str, str, str]] = []
        """Path, file and text of each write that was tried."""
        self.looks: list[str] = []
        """Paths that were looked at."""
        self.quotas: list[tuple[str, str]] = []
        """Path and file of each quota that was read."""
        self._going = threading.Event()
        self._answering = threading.Event()
        self.release()

    def hold(self) -> None:
        """Let every look and write wait, as a kernel that is busy does."""
        self._going.clear()

    def hold_answers(self) -> None:
        """Let every write take effect and its writer wait."""
        self._answering.clear()

    def release(self) -> None:
        """Let them go on."""
        self._going.set()
        self._answering.set()

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """As `Cgroupfs.look`."""
        assert self._going.wait(PATIENCE)
        self.looks.append(path)
        self.quotas += [(path, file) for file in quotas]
        if self.fault is not None:
            raise self.fault
        return super().look(path, quotas)

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`."""
        assert self._going.wait(PATIENCE)
        self.attempts.append((path, file, text))
        number = self.refuses.get(path)
        if number is not None:
            raise self._error(f"{path}/{file}", "write", OSError(number, os.strerror(number)))
        super().write(path, file, text)
        assert self._answering.wait(PATIENCE)
