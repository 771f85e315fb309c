"""What the kernel says: cpuset files of cgroups, and on which CPUs their threads may run."""

from __future__ import annotations

import asyncio
import pathlib
import re
import subprocess
import time
from dataclasses import dataclass

from reconciler.cpu.idset import CpuSet
from tests.e2e import kubelet, place

_PATIENCE = 30.0
_CONTAINER = re.compile(r"cri-containerd-[0-9a-f]{64}\.scope|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One cgroup directory. Files read without the end of line; FileNotFoundError once it is gone."""

    path: pathlib.Path

    def read(self, file: str) -> str:
        """The text of a file."""
        return (self.path / file).read_text().strip()

    @property
    def cpus(self) -> str:
        """`cpuset.cpus`."""
        return self.read("cpuset.cpus")

    @property
    def effective(self) -> str:
        """`cpuset.cpus.effective`."""
        return self.read("cpuset.cpus.effective")

    @property
    def mems(self) -> str:
        """`cpuset.mems`."""
        return self.read("cpuset.mems")

    def write_as_shell(self, file: str, text: str) -> None:
        """Write as somebody at a prompt would: another process, another program."""
        subprocess.run(["/bin/sh", "-c", f"printf %s '{text}\n' > {self.path / file}"], check=True)

    async def until_effective(self, wanted: str) -> None:
        """Wait until `cpuset.cpus.effective` says so: systemd answers before it has written."""
        until = time.monotonic() + _PATIENCE
        while (has := self.effective) != wanted:
            assert time.monotonic() < until, f"{self.path}: effective is {has!r}, not {wanted!r}"
            await asyncio.sleep(0.05)

    def pids(self) -> list[int]:
        """The processes in it and below."""
        found: list[int] = []
        for procs in self.path.rglob("cgroup.procs"):
            found += [int(line) for line in procs.read_text().split()]
        return found

    def running_on(self) -> set[int]:
        """The CPUs that its processes were last on: `processor`, the 39th field of proc_pid_stat(5)."""
        found = set()
        for pid in self.pids():
            after_name = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found.add(int(after_name[39 - 3]))
        return found

    def allowed(self) -> set[str]:
        """`Cpus_allowed_list` of every thread of its processes; of those that end meanwhile, none."""
        found = set()
        for pid in self.pids():
            for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
                try:
                    lines = status.read_text().splitlines()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                found |= {line.split()[1] for line in lines if line.startswith("Cpus_allowed_list:")}
        return found


def cpus(text: str) -> CpuSet:
    """A kernel list as a set; nothing is the empty set."""
    return CpuSet.parse(text.strip(), what="cpuset")


def scopes() -> dict[str, str]:
    """`cpuset.cpus` of every container of the node, pause containers included, by its group's name."""
    found = {}
    for file in kubelet.KUBEPODS.glob("**/cpuset.cpus"):
        if _CONTAINER.fullmatch(file.parent.name) is None:
            continue
        try:
            found[file.parent.name] = file.read_text().strip()
        except OSError:  # it ended between the listing and the read
            continue
    return found


def scope(container: str) -> str:
    """The name of a container's group."""
    return f"cri-containerd-{container}.scope" if place.HAS_SYSTEMD else container
