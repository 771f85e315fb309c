"""A workload whose first act is to write down every container's cpuset, and that goes on until its end.

It runs in the exclusive container itself: nothing of it runs before the first line but the shell that begins
it, and nothing after the last.
"""

from __future__ import annotations

import asyncio
import pathlib
from dataclasses import dataclass

from reconciler.cpu.idset import CpuSet
from tests.e2e import cgroups, kubelet, node, place

_SCRIPT = """
snapshot() {
  echo "moment:$1"
  grep -H '' FILES
}
trap 'snapshot last; exit 0' TERM
snapshot first
grep Cpus_allowed_list /proc/self/status
while :; do sleep 0.2; snapshot meanwhile; done
"""
_FILES = {
    True: "/host/kubepods.slice/*/*.scope/cpuset.cpus /host/kubepods.slice/*/*/*.scope/cpuset.cpus",
    False: "/host/kubepods/pod*/*/cpuset.cpus /host/kubepods/*/pod*/*/cpuset.cpus",
}
_FOLDER = pathlib.Path("/run/witness")
_PATIENCE = 300.0
"""Seconds; an emulated machine on a busy host is slow."""


@dataclass(frozen=True, slots=True)
class Line:
    """One container's list at one moment: `first`, `meanwhile` or `last` in the witness's life."""

    moment: str
    scope: str
    cpus: CpuSet


@dataclass(frozen=True, slots=True)
class Testimony:
    """What a witness wrote."""

    lines: tuple[Line, ...]
    allowed: CpuSet

    def of(self, container: str) -> set[CpuSet]:
        """All lists that a container had."""
        return {line.cpus for line in self.lines if line.scope == cgroups.scope(container)}

    def intruders(self, container: str) -> list[Line]:
        """Lines of others that hold a CPU of this container; an empty list holds every CPU."""
        (own,) = self.of(container)
        others = (line for line in self.lines if line.scope != cgroups.scope(container))
        return [line for line in others if not line.cpus or line.cpus & own]

    def seen(self, moment: str) -> set[str]:
        """The scopes that were looked at in a moment."""
        return {line.scope for line in self.lines if line.moment == moment}


def command(name: str) -> list[str]:
    """The workload's command line; its output goes to a file of the name."""
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / name).write_text("")
    script = _SCRIPT.replace("FILES", _FILES[place.HAS_SYSTEMD])
    return ["/bin/sh", "-c", f"exec >> /witness/{name} 2> /dev/null\n{script}"]


def mounts() -> list[node.Mount]:
    """What the workload needs of the host."""
    return [
        node.Mount(host=str(kubelet.ROOT), inside="/host", readonly=True),
        node.Mount(host=str(_FOLDER), inside="/witness"),
    ]


async def until_it_has_looked(name: str) -> None:
    """Return when the workload of that name has written down one moment of its life whole."""
    async with asyncio.timeout(_PATIENCE):
        while (_FOLDER / name).read_text().count("moment:meanwhile") < 2:  # noqa: ASYNC110  a file is waited for
            await asyncio.sleep(0.2)


def testimony(name: str) -> Testimony:
    """What the workload of that name wrote."""
    lines, allowed, moment = [], CpuSet(), ""
    for text in (_FOLDER / name).read_text().splitlines():
        key, _, value = text.partition(":")
        if key == "moment":
            moment = value
        elif key == "Cpus_allowed_list":
            allowed = cgroups.cpus(value)
        else:
            lines.append(Line(moment, pathlib.Path(key).parent.name, cgroups.cpus(value)))
    return Testimony(tuple(lines), allowed)
