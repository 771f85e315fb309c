"""A process that has imported the agent once, and becomes one for each order: a fork, and no start of Python.

Orders come as JSON lines on standard input, what becomes of them goes to standard output. It ends with its
standard input, and its agents with it. I/O.
"""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
from typing import Any, NoReturn

from reconciler.cli import main
from tests.killed import steps


class Zygote:
    """Forks as ordered, and tells of each agent's number and end."""

    def __init__(self) -> None:
        self._watched = selectors.DefaultSelector()
        self._watched.register(0, selectors.EVENT_READ)
        self._alive: dict[int, tuple[int, int]] = {}
        self._pending = b""

    def serve(self) -> None:
        """Until standard input ends."""
        try:
            while True:
                for key, _ in self._watched.select():
                    if key.fd != 0:
                        self._ended(key.fd)
                    elif not self._ordered():
                        return
        finally:
            for _, pid in self._alive.values():
                os.kill(pid, signal.SIGKILL)

    def _ordered(self) -> bool:
        """Carry out the orders that have come; false at the end of them all."""
        data = os.read(0, 1 << 16)
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                _become(order)
            descriptor = os.pidfd_open(pid)
            self._watched.register(descriptor, selectors.EVENT_READ)
            self._alive[descriptor] = order["id"], pid
            _tell(id=order["id"], pid=pid)
        return bool(data)

    def _ended(self, descriptor: int) -> None:
        self._watched.unregister(descriptor)
        os.close(descriptor)
        id_, pid = self._alive.pop(descriptor)
        _tell(id=id_, code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _tell(**what: int) -> None:
    print(json.dumps(what), flush=True)


def _become(order: dict[str, Any]) -> NoReturn:
    """The agent of this order, in place of this process."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 256)
        last = order["last"]
        steps.Steps(order["action"], order["journal"], last and steps.Step.parse(last)).watch()
        code = main.main(order["arguments"])
    finally:
        os._exit(code)


if __name__ == "__main__":
    importlib.import_module("reconciler.cli.run")
    Zygote().serve()
