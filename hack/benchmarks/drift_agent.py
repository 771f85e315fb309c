"""The agent over a plain directory tree, with a witness of what its passes saw. I/O.

Usage: drift_agent.py FOLDER

In FOLDER are `host`, which stands for the machine, and the sockets. The witness counts how often a look has
found a container wrong that the look before had found right: so many drifts there are to report. What the
agent has written last is right. The count is in `seen` when the agent has ended.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import sys
from collections.abc import Sequence

from hack.benchmarks import agent_plugin
from reconciler import observed
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import logs, options, supervisor


class Witness(agent_plugin.GrantingTree):
    """Counts what looks find."""

    seen = 0

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._right: dict[str, CpuSet] = {}
        self._wrong: set[str] = set()

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """As `Cgroupfs.look`."""
        look = super().look(path, quotas)
        right = self._right.get(path)
        if isinstance(look, observed.Present) and right is not None:
            if look.outer.cpus == right:
                self._wrong.discard(path)
            elif path not in self._wrong:
                self._wrong.add(path)
                self.seen += 1
        return look

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`."""
        super().write(path, file, text)
        if file == observed.CPUS:
            self._right[path] = CpuSet.parse(text, what=file)

    def _put(self, descriptor: int, data: bytes) -> None:
        # A plain file keeps the end of what was longer.
        os.write(descriptor, data.rstrip().ljust(os.fstat(descriptor).st_size - 1) + b"\n")


def main() -> None:
    """Serve until told to stop."""
    folder = pathlib.Path(sys.argv[1])
    chosen = options.Options(
        nri_socket=str(folder / "nri.sock"),
        source="nri",
        host_root=str(folder / "host"),
        state_dir=str(folder / "state"),
        api_socket=str(folder / "api.sock"),
        simulated=True,
    )
    tree = Witness(chosen.cgroup_root)
    asyncio.run(supervisor.run(chosen, tree, logs.configure("json")))
    (folder / "seen").write_text(f"{tree.seen}\n")


if __name__ == "__main__":
    main()
