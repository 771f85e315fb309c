"""Asks and tells systemd what the processes of a unit may use, over D-Bus. I/O; on asyncio.

systemd writes a unit's cgroup files anew with a `daemon-reload` and with every change of a property: what
the unit has as `AllowedCPUs` and `AllowedMemoryNodes` (systemd.resource-control(5), since systemd 244), and
nothing where it has none. What is set here is of this boot, and of a transient unit's life.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import stat
import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reconciler import errors
from reconciler.cpu.idset import CpuSet, NodeSet

if TYPE_CHECKING:
    from dbus_fast import aio

SOCKET = "run/dbus/system_bus_socket"
"""Where the bus listens, below the host's root (the D-Bus specification's default, without /var)."""
CALL_SECONDS = 10.0
"""For everything that is said on one connection."""

_NAME = "org.freedesktop.systemd1"
_MANAGER = f"{_NAME}.Manager"
_KINDS = {"scope": "Scope", "service": "Service", "slice": "Slice"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a unit has as `AllowedCPUs` and `AllowedMemoryNodes`; empty where it has none."""

    cpus: CpuSet
    mems: NodeSet


def is_there(root: str) -> bool:
    """Whether systemd can be spoken to: there is a bus, and the library for it."""
    try:
        is_socket = stat.S_ISSOCK(os.stat(os.path.join(root, SOCKET)).st_mode)
    except OSError:
        return False
    return is_socket and importlib.util.find_spec("dbus_fast") is not None


def unit(cgroup: str | None) -> str | None:
    """The unit that a cgroup is, by its name; None for one that systemd did not make."""
    name = os.path.basename(cgroup or "")
    return name if name.rpartition(".")[2] in _KINDS else None


def mask(cpus: CpuSet | NodeSet) -> bytes:
    """The set as systemd has it on D-Bus: a bit mask, the lowest byte first."""
    return cpus.bits.to_bytes((cpus.bits.bit_length() + 7) // 8, "little")


class Systemd:
    """Speaks to systemd while entered: see `connected`."""

    def __init__(self, bus: aio.MessageBus) -> None:
        self._bus = bus

    async def allowed(self, name: str) -> Allowed:
        """What the unit has. Raises Gone where it does not exist, Refused, Retryable."""
        [path] = await self._call("/org/freedesktop/systemd1", _MANAGER, "GetUnit", "s", [name])
        return Allowed(
            cpus=CpuSet.from_bits(await self._bits(path, name, "AllowedCPUs")),
            mems=NodeSet.from_bits(await self._bits(path, name, "AllowedMemoryNodes")),
        )

    async def allow(self, name: str, cpus: CpuSet, mems: NodeSet | None) -> None:
        """Set what the unit has until the next boot. `mems` None leaves its memory nodes alone; what is empty
        allows all. Raises as `allowed` does.
        """
        from dbus_fast import signature  # noqa: PLC0415  an extra, which many never need

        properties = [["AllowedCPUs", signature.Variant("ay", mask(cpus))]]
        if mems is not None:
            properties.append(["AllowedMemoryNodes", signature.Variant("ay", mask(mems))])
        body = [name, True, properties]
        await self._call("/org/freedesktop/systemd1", _MANAGER, "SetUnitProperties", "sba(sv)", body)

    async def _bits(self, path: str, name: str, what: str) -> int:
        interface = f"{_NAME}.{_KINDS[name.rpartition('.')[2]]}"
        properties = "org.freedesktop.DBus.Properties"
        [found] = await self._call(path, properties, "Get", "ss", [interface, what])
        return int.from_bytes(found.value, "little")

    async def _call(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> Any:
        import dbus_fast  # noqa: PLC0415  an extra, which many never need

        message = dbus_fast.Message(
            destination=_NAME, path=path, interface=interface, member=member, signature=signature, body=body
        )
        reply = await self._bus.call(message)
        if reply is None:
            raise errors.Retryable(f"systemd: {member}: no answer")
        if reply.message_type is not dbus_fast.MessageType.ERROR:
            return reply.body
        why = str(reply.body[0]) if reply.body else str(reply.error_name)
        if reply.error_name in (f"{_NAME}.NoSuchUnit", "org.freedesktop.DBus.Error.UnknownObject"):
            raise errors.Gone(f"systemd: {why}")
        raise errors.Refused(f"systemd: {member}: {why}")


@contextlib.asynccontextmanager
async def connected(root: str) -> AsyncIterator[Systemd]:
    """A connection to systemd on the host below `root`, for a few calls.

    Raises Retryable where the bus cannot be reached, or does not answer within `CALL_SECONDS`.
    """
    import dbus_fast  # noqa: PLC0415  an extra, which many never need
    from dbus_fast import aio  # noqa: PLC0415

    bus = aio.MessageBus(bus_address=f"unix:path={_escaped(os.path.join(root, SOCKET))}")
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await bus.connect()
            try:
                yield Systemd(bus)
            finally:
                bus.disconnect()
    except (OSError, EOFError, TimeoutError) as error:
        raise errors.Retryable(f"systemd: {str(error) or 'no answer'}") from error
    except (dbus_fast.DBusError, dbus_fast.AuthError) as error:
        raise errors.Retryable(f"systemd: {error}") from error


def _escaped(path: str) -> str:
    """The path as a value in an address (the D-Bus specification, "Server Addresses")."""
    return urllib.parse.quote(path, safe="/-_.\\*")
