"""How the agent is started: the command line as values."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Literal

from reconciler.runtime.nri import dial, session

Source = Literal["auto", "nri", "cri", "cgroup"]

NRI_SOCKET = "/var/run/nri/nri.sock"
"""Where containerd and CRI-O listen for NRI plugins by default."""
CRI_SOCKET = "/run/containerd/containerd.sock"
STATE_DIR = "/var/lib/cpuset-reconciler"
API_SOCKET = "/run/cpuset-reconciler/api.sock"
_LAUNCHED_PATIENCE = 2.0
"""Seconds for which a plugin that the runtime started waits for the instance before it to end. It has five
to register, from its start on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`config` None means all defaults. `host_root` is where the host's file system is mounted.

    `simulated`: the tree below `host_root` is a plain directory that stands for a machine. `dry`: stop
    after planning. `launch` is what the runtime gave a plugin that it started itself.
    """

    config: str | None = None
    source: Source = "auto"
    nri_socket: str = NRI_SOCKET
    cri_socket: str = CRI_SOCKET
    host_root: str = "/"
    state_dir: str = STATE_DIR
    api_socket: str = API_SOCKET
    simulated: bool = False
    dry: bool = False
    log_format: Literal["json", "text"] = "json"
    launch: tuple[session.Identity, dial.Dial] | None = None

    @property
    def cgroup_root(self) -> str:
        """The cgroup2 mount of the host."""
        return posixpath.join(self.host_root, "sys/fs/cgroup")

    @property
    def checkpoint(self) -> str:
        """The file in which claims outlive the agent."""
        return posixpath.join(self.state_dir, "checkpoint.json")

    @property
    def drifts(self) -> str:
        """The file in which drifts outlive the agent."""
        return drifts(self.state_dir)

    @property
    def host_slices(self) -> str:
        """The file that names the host's slices which are confined."""
        return posixpath.join(self.state_dir, "host-slices")

    @property
    def lock(self) -> str:
        """The file that one instance per host holds."""
        return posixpath.join(self.state_dir, "instance.lock")

    @property
    def patience(self) -> float | None:
        """Seconds for which to wait for another instance's end; None for as long as it takes."""
        return None if self.launch is None else _LAUNCHED_PATIENCE


def drifts(state_dir: str) -> str:
    """The file in that directory in which drifts outlive the agent."""
    return posixpath.join(state_dir, "drifts.sqlite")
