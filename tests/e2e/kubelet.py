"""What kubelet does with cgroups before it asks the runtime for anything: slices, controllers on."""

from __future__ import annotations

import pathlib
import time

from tests.e2e import systemd

ROOT = pathlib.Path("/sys/fs/cgroup")
QOS_SLICES = ("kubepods.slice", "kubepods-burstable.slice", "kubepods-besteffort.slice")
_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
_SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


def start() -> None:
    """The slices that kubelet makes when it starts; nothing where they are."""
    for name in QOS_SLICES:
        make(name)


def directory(name: str) -> pathlib.Path:
    """The cgroup of a slice: a name expands at each dash (systemd.slice(5))."""
    pieces = name.removesuffix(".slice").split("-")
    parents = ("-".join(pieces[:end]) + ".slice" for end in range(1, len(pieces) + 1))
    return ROOT.joinpath(*parents)


def make(name: str, shares: int = 2) -> None:
    """Start a slice as libcontainer's systemd driver does, and switch the controllers on down to it."""
    path = directory(name)
    if not path.exists():
        weight = 1 + (shares - 2) * 9999 // 262142
        properties = [
            *("Description", "s", f"slice {name} of kubelet"),
            *("DefaultDependencies", "b", "false"),
            *("MemoryAccounting", "b", "true"),
            *("TasksAccounting", "b", "true"),
            *("CPUWeight", "t", str(weight)),
        ]
        signature = ["ssa(sv)a(sa(sv))", name, "replace", str(len(properties) // 3)]
        systemd.run("busctl", "call", *_SYSTEMD, "StartTransientUnit", *signature, *properties, "0")
        _wait_for(path)
    for parent in reversed([ancestor for ancestor in path.parents if ancestor.is_relative_to(ROOT)]):
        switch_on(parent)


def limit(name: str, quota: str) -> None:
    """Set the CFS quota of a slice: the text of `cpu.max`, with a period of 100 ms."""
    percent = int(quota.split(maxsplit=1)[0]) // 1000
    systemd.systemctl("set-property", "--runtime", name, f"CPUQuota={percent}%")


def switch_on(path: pathlib.Path, controllers: tuple[str, ...] = _CONTROLLERS) -> None:
    """Give the children of a cgroup the controllers."""
    control = path / "cgroup.subtree_control"
    missing = set(controllers) - set(control.read_text().split())
    if missing:
        control.write_text(" ".join(f"+{name}" for name in sorted(missing)))


def remove(*names: str) -> None:
    """Stop pods' slices."""
    systemd.systemctl("stop", *names)


def _wait_for(path: pathlib.Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, f"systemd did not make {path}"
        time.sleep(0.02)
