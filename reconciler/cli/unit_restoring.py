"""The part of `restore` that tells systemd: what the agent has told it of units it would write again. I/O.

With systemd's cgroup driver every container is a unit, which has the cpuset of the runtime's record from its
creation. Nothing is told of units that have what they should.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reconciler import errors, events, giving_back, inventory, slices
from reconciler.cpu.idset import CpuSet
from reconciler.host import systemd

_AT_ONCE = 64
"""Units in one connection, which has ten seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one unit had as `AllowedCPUs` and has now, or why not."""

    unit: str
    before: CpuSet
    after: CpuSet
    failed: str = ""


def units(
    known: inventory.Inventory,
    records: Mapping[events.ContainerId, giving_back.Record],
    confined: Iterable[str],
) -> dict[str, giving_back.Record]:
    """What each unit is to have: those of containers by their records, slices of the host nothing."""
    wanted = {}
    for id_, record in records.items():
        container = known.containers.get(id_)
        if container is not None and (name := systemd.unit(container.cgroup)) is not None:
            wanted[name] = record
    nothing = giving_back.Record()
    return wanted | {name: nothing for path in map(slices.path, confined) if (name := systemd.unit(path))}


async def tell(root: str, wanted: Mapping[str, giving_back.Record], *, dry: bool) -> list[Told]:
    """Tell systemd of the host below `root` of each unit that has something else. Where there is no bus, or
    no library for it, nobody can have told it anything."""
    if not wanted or not systemd.is_there(root):
        return []
    told: list[Told] = []
    rest = iter(wanted.items())
    while some := dict(itertools.islice(rest, _AT_ONCE)):
        try:
            async with systemd.connected(root) as bus:
                for name, record in some.items():
                    told += await _tell_one(bus, name, record, dry=dry)
        except errors.ReconcilerError as error:
            nothing = CpuSet()
            return [*told, Told(unit="systemd", before=nothing, after=nothing, failed=str(error))]
    return told


async def _tell_one(bus: systemd.Systemd, name: str, record: giving_back.Record, *, dry: bool) -> list[Told]:
    """What was told of one unit; nothing of one that is gone."""
    try:
        has = await bus.allowed(name)
        if (has.cpus, has.mems) == (record.cpus, record.mems):
            return []
        if not dry:
            await bus.allow(name, record.cpus, record.mems if has.mems != record.mems else None)
    except errors.Gone:
        return []
    except errors.Refused as error:
        return [Told(unit=name, before=CpuSet(), after=record.cpus, failed=str(error))]
    return [Told(unit=name, before=has.cpus, after=record.cpus)]
