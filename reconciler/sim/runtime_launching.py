"""How a stand-in runtime starts the plugins of its plugin directory. On asyncio; processes.

As pkg/adaptation of containerd/nri does it: three variables and nothing else in the environment, the
connection as descriptor 3, /dev/null for the standard streams, SIGKILL at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable

from reconciler.sim import runtime_wire

_DESCRIPTOR = 3


class Launched:
    """A plugin's process."""

    def __init__(self, pid: int, wire: runtime_wire.Wire) -> None:
        self.pid = pid
        self.wire = wire
        """The runtime's end of its connection."""
        self._ended = asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)

    async def ended(self) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        _, status = await asyncio.shield(self._ended)
        return os.waitstatus_to_exitcode(status)

    async def kill(self) -> int:
        """End it, if it has not ended; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return await self.ended()


async def launch(executable: str, make_wire: Callable[[], runtime_wire.Wire], config: str = "") -> Launched:
    """Start an executable whose file's name is `NN-name`. `config` is the text of its file in the runtime's
    folder of configurations."""
    ours, theirs = socket.socketpair()
    with theirs:
        pid = _spawn(executable, theirs.fileno())
    ours.setblocking(False)
    wire = make_wire()
    wire.config = config
    await asyncio.get_running_loop().create_unix_connection(lambda: wire, sock=ours)
    return Launched(pid, wire)


def _spawn(executable: str, connection: int) -> int:
    index, _, name = os.path.basename(executable).partition("-")
    environment = {
        "NRI_PLUGIN_NAME": name,
        "NRI_PLUGIN_IDX": index,
        "NRI_PLUGIN_SOCKET": str(_DESCRIPTOR),
    }
    streams = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    passed = (os.POSIX_SPAWN_DUP2, connection, _DESCRIPTOR)
    return os.posix_spawn(executable, [executable], environment, file_actions=[*streams, passed])
