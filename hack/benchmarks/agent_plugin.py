"""The agent itself over a plain directory tree, with the files' real cost and no kernel behind them.

Usage: agent_plugin.py SOCKET HOST_ROOT

Nothing derives `cpuset.cpus.effective` in a plain directory, so what was written counts as granted; the file
is read all the same.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Sequence

from reconciler import observed
from reconciler.daemon import logs, options, supervisor
from reconciler.host import cgroupfs


class GrantingTree(cgroupfs.Cgroupfs):
    """Grants what is written."""

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """As `Cgroupfs.look`."""
        look = super().look(path, quotas)
        if not isinstance(look, observed.Present) or not look.outer.cpus:
            return look
        outer = dataclasses.replace(look.outer, effective_cpus=look.outer.cpus)
        return dataclasses.replace(look, outer=outer)


def main() -> None:
    """Serve until killed."""
    socket, root = sys.argv[1:]
    chosen = options.Options(
        nri_socket=socket,
        host_root=root,
        state_dir=f"{root}/state",
        api_socket=f"{root}/api.sock",
        simulated=True,
    )
    with open(f"{root}/agent.log", "w", encoding="utf-8") as log:
        tree = GrantingTree(chosen.cgroup_root)
        asyncio.run(supervisor.run(chosen, tree, logs.configure("json", log)))


if __name__ == "__main__":
    main()
