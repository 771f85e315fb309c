"""How the plugin comes by its socket: it connects, or the runtime that started it left one open."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from typing import Protocol

from reconciler import errors
from reconciler.runtime.nri import session

_NAME = re.compile(r"[A-Za-z0-9_.+-]+", re.ASCII)
_INDEX = re.compile(r"[0-9]{2}", re.ASCII)


class Dial(Protocol):
    """Gives connected sockets. `once` tells that there will be no second one."""

    @property
    def once(self) -> bool:
        """Whether the plugin ends with its first connection."""

    async def connect(self) -> socket.socket:
        """A connected, non-blocking stream socket. Raises Retryable when there is none now."""


class UnixDial:
    """Connects to the runtime's socket."""

    once = False

    def __init__(self, path: str) -> None:
        self._path = path

    async def connect(self) -> socket.socket:
        """As `Dial.connect`."""
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, self._path)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise errors.Retryable(f"connecting to {self._path}: {error.strerror or error}") from error
        return sock


class InheritedDial:
    """Takes the descriptor that the runtime left open for a plugin of its directory."""

    once = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def connect(self) -> socket.socket:
        """As `Dial.connect`; raises Usage where the descriptor is no socket."""
        try:
            sock = socket.socket(fileno=self._descriptor)
            sock.setblocking(False)
        except OSError as error:
            raise errors.Usage(f"NRI_PLUGIN_SOCKET={self._descriptor}: {error.strerror}") from error
        return sock


def identity(name: str, index: str) -> session.Identity:
    """The plugin's name and index. Raises Usage for what a runtime would refuse (pkg/api, CheckPluginIndex;
    the name since NRI 0.12)."""
    if _NAME.fullmatch(name) is None:
        raise errors.Usage(f"NRI plugin name {name!r}: letters, digits and _.+- are allowed")
    if _INDEX.fullmatch(index) is None:
        raise errors.Usage(f"NRI plugin index {index!r}: two digits are expected")
    return session.Identity(name, index)


def inherited(environ: Mapping[str, str]) -> tuple[session.Identity, InheritedDial] | None:
    """What the runtime told a plugin that it started, or None if it did not start us. Raises Usage.

    NRI 0.3 gives the name with the index before it, later ones without.
    """
    descriptor = environ.get("NRI_PLUGIN_SOCKET")
    if descriptor is None:
        return None
    if not descriptor.isascii() or not descriptor.isdigit():
        raise errors.Usage(f"NRI_PLUGIN_SOCKET={descriptor}: the number of a descriptor is expected")
    index = environ.get("NRI_PLUGIN_IDX", "")
    name = environ.get("NRI_PLUGIN_NAME", "").removeprefix(f"{index}-")
    return identity(name, index), InheritedDial(int(descriptor))
