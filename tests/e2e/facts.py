"""The real kernel as the ground of the tables in `fixtures/kernel`: what each step does and what is read."""

from __future__ import annotations

import contextlib
import os
import pathlib
import platform
import re
import subprocess
from typing import Any, Self

import yaml

from reconciler.cpu.idset import CpuSet
from tests.e2e import kubelet

_FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures/kernel"
TABLES = (_FIXTURES / "cpuset.yaml", _FIXTURES / "partition.yaml")
FILES = {
    "cpus": "cpuset.cpus",
    "effective": "cpuset.cpus.effective",
    "mems": "cpuset.mems",
    "effective_mems": "cpuset.mems.effective",
    "quota": "cpu.max",
    "exclusive": "cpuset.cpus.exclusive",
    "partition": "cpuset.cpus.partition",
}
_CONTROLLERS = ("cpuset", "cpu")
_CPUS = pathlib.Path("/sys/devices/system/cpu")
_ALL = CpuSet.parse("0-7", what="the machine")


def cases() -> list[dict[str, Any]]:
    """The cases of the tables."""
    found: list[dict[str, Any]] = []
    for table in TABLES:
        found += yaml.load(table.read_text(), Loader=yaml.CSafeLoader)
    return found


def why_not(case: dict[str, Any]) -> str:
    """Why a case says nothing of the running kernel, or ""."""
    here = _version(platform.release())
    if "since" in case and here < _version(case["since"]):
        return f"holds since Linux {case['since']}"
    if "before" in case and here >= _version(case["before"]):
        return f"holds before Linux {case['before']}"
    return ""


def _version(text: str) -> tuple[int, ...]:
    """`6.12.74+deb13-amd64` is (6, 12)."""
    major, minor = re.findall(r"[0-9]+", text)[:2]
    return int(major), int(minor)


class Kernel:
    """A group of its own below the root of cgroup2; leaving it removes everything."""

    def __init__(self) -> None:
        self.base = kubelet.ROOT / "facts"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        kubelet.switch_on(kubelet.ROOT, _CONTROLLERS)
        self.base.mkdir()
        return self

    def __exit__(self, *exc: object) -> None:
        self.online("0-7")
        for process in self._processes.values():
            process.kill()
            process.wait()
        for path in sorted((path for path in self.base.rglob("*") if path.is_dir()), reverse=True):
            path.rmdir()
        self.base.rmdir()

    def do(self, step: dict[str, Any]) -> None:
        """One step of a case."""
        ((kind, value),) = step.items()
        match kind:
            case "mkdir":
                self.mkdir(value)
            case "rmdir":
                (self.base / value).rmdir()
            case "write":
                self.write(**value)
            case "online":
                self.online(value)
            case "populate":
                self.populate(value)
            case _:
                raise AssertionError(f"unknown step {kind}")

    def mkdir(self, path: str) -> None:
        """Make each missing group, with both controllers switched on above it."""
        here = self.base
        for piece in path.split("/"):
            kubelet.switch_on(here, _CONTROLLERS)
            here /= piece
            here.mkdir(exist_ok=True)

    def write(self, path: str, file: str, text: str, errno: int = 0) -> None:
        """One open and one write; the errno must be the given one."""
        got = 0
        try:
            descriptor = os.open(self.base / path / file, os.O_WRONLY)
            with contextlib.closing(os.fdopen(descriptor, "wb", buffering=0)) as stream:
                stream.write(text.encode())
        except OSError as error:
            got = error.errno or -1
        assert got == errno, f"writing {text!r} to {path}/{file} gave errno {got}, not {errno}"

    def online(self, text: str) -> None:
        """Switch CPUs so that exactly these are online; CPU 0 always is."""
        wanted = CpuSet.parse(text, what="online")
        for cpu in _ALL:
            switch = _CPUS / f"cpu{cpu}/online"
            state = "1" if cpu in wanted else "0"
            if switch.exists() and switch.read_text().strip() != state:
                switch.write_text(state)

    def populate(self, path: str) -> None:
        """Put a sleeping process into a group."""
        process = subprocess.Popen(["/bin/sleep", "1000000"])
        self._processes[path] = process
        (self.base / path / "cgroup.procs").write_text(str(process.pid))

    def read(self, path: str, key: str) -> str:
        """A file of a group, or the CPUs of its process."""
        if key != "allowed":
            return (self.base / path / FILES[key]).read_text().strip()
        lines = pathlib.Path(f"/proc/{self._processes[path].pid}/status").read_text().splitlines()
        return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list:"))
