"""A systemd that stands in for the real one on a bus of its own, and does to cgroups what was seen of it.

A property that is set is written at once, and with it every other cgroup file of the unit, by what the unit
has. So does a daemon-reload with all units. A unit that has nothing writes nothing, which clears the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import pathlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import dbus_fast
from dbus_fast._private import unmarshaller

from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.host import systemd
from reconciler.sim import kernel

_HEADER = 16


@dataclass(slots=True)
class Unit:
    """A unit's cgroup, and what it has."""

    cgroup: str
    cpus: CpuSet = field(default_factory=CpuSet)
    mems: NodeSet = field(default_factory=NodeSet)


@dataclass(slots=True)
class Systemd:
    """The units of a host, by name. `error` is what it answers with instead of doing something, `released`
    what its answers wait for. `log` are the methods that were called, with the unit's name."""

    host: kernel.SimulatedCgroupfs
    units: dict[str, Unit] = field(default_factory=dict)
    error: str = ""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    log: list[tuple[str, str]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    METHODS: ClassVar = {"Hello", "GetUnit", "Get", "SetUnitProperties"}

    def __post_init__(self) -> None:
        self.released.set()

    def daemon_reload(self) -> None:
        """As `systemctl daemon-reload`."""
        for unit in self.units.values():
            self._write(unit)

    def set_property(self, name: str, cpus: str) -> None:
        """As `systemctl set-property --runtime NAME AllowedCPUs=CPUS`."""
        self.units[name].cpus = CpuSet.parse(cpus, what="AllowedCPUs")
        self._write(self.units[name])

    def _write(self, unit: Unit) -> None:
        self.host.write(unit.cgroup, "cpuset.cpus", str(unit.cpus))
        self.host.write(unit.cgroup, "cpuset.mems", str(unit.mems))

    def answer(self, member: str, body: list[Any]) -> tuple[str, list[Any]]:
        """The signature and the body of the answer. Raises KeyError for a unit that is not there."""
        if member == "Hello":
            return "s", [":1.7"]
        if member == "Get":
            name = self._named(body[0])
            unit = self.units[name]
            value = systemd.mask(unit.cpus if body[2] == "AllowedCPUs" else unit.mems)
            return "v", [dbus_fast.Variant("ay", value)]
        self.log.append((member, body[0]))
        unit = self.units[body[0]]
        if member == "GetUnit":
            return "o", [_path(body[0])]
        assert body[1] is True
        for name, value in body[2]:
            bits = int.from_bytes(value.value, "little")
            if name == "AllowedCPUs":
                unit.cpus = CpuSet.from_bits(bits)
            elif name == "AllowedMemoryNodes":
                unit.mems = NodeSet.from_bits(bits)
        self._write(unit)
        return "", []

    def _named(self, path: str) -> str:
        return next(name for name in self.units if _path(name) == path)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # `end` cancels it, and in Python 3.11 a stream's callback complains of that.
        ends = (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError)
        with contextlib.closing(writer), contextlib.suppress(*ends):
            assert (await reader.readline()).startswith(b"\0AUTH EXTERNAL ")
            writer.write(b"OK 0123456789abcdef0123456789abcdef\r\n")
            assert await reader.readline() == b"BEGIN\r\n"
            while True:
                message = await _read(reader)
                await self.released.wait()
                writer.write(self._replied(message))

    async def end(self) -> None:
        """Serve nobody any more."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _replied(self, message: dbus_fast.Message) -> bytes:
        assert message.member in self.METHODS
        body = [message.path, *message.body] if message.member == "Get" else message.body
        try:
            if self.error and message.member != "Hello":
                return _error(message, "org.freedesktop.DBus.Error.AccessDenied", self.error)
            signature, says = self.answer(message.member, body)
        except (KeyError, StopIteration):
            return _error(message, "org.freedesktop.systemd1.NoSuchUnit", f"Unit {body[0]} not loaded.")
        reply = dbus_fast.Message.new_method_return(message, signature, says)
        reply.serial = message.serial
        return bytes(reply._marshall(False))


def _path(name: str) -> str:
    escaped = "".join(its if its.isalnum() else f"_{ord(its):02x}" for its in name)
    return f"/org/freedesktop/systemd1/unit/{escaped}"


def _error(message: dbus_fast.Message, name: str, text: str) -> bytes:
    reply = dbus_fast.Message.new_error(message, name, text)
    reply.serial = message.serial
    return bytes(reply._marshall(False))


async def _read(reader: asyncio.StreamReader) -> dbus_fast.Message:
    """The next message (the D-Bus specification, "Message Format")."""
    head = await reader.readexactly(_HEADER)
    assert head[:1] == b"l"
    body, _, fields = struct.unpack("<III", head[4:])
    rest = await reader.readexactly((fields + 7) // 8 * 8 + body)
    stream: Any = io.BytesIO(head + rest)
    message = unmarshaller.Unmarshaller(stream).unmarshall()
    assert message is not None
    return message


@contextlib.asynccontextmanager
async def serving(root: str, host: kernel.SimulatedCgroupfs) -> AsyncIterator[Systemd]:
    """One that listens where the bus of the host below `root` does."""
    made = Systemd(host)
    path = pathlib.Path(root, systemd.SOCKET)
    path.parent.mkdir(parents=True)
    server = await asyncio.start_unix_server(made.talk, str(path))
    async with server:
        yield made
        await made.end()
    path.unlink(missing_ok=True)
