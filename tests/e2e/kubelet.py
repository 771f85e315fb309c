"""What kubelet does with cgroups before it asks the runtime for anything, with either cgroup driver."""

from __future__ import annotations

import pathlib
import time

from reconciler.runtime import cgroup_path
from tests.e2e import place, systemd

ROOT = pathlib.Path("/sys/fs/cgroup")
_QOS = {
    True: ("kubepods.slice", "kubepods-burstable.slice", "kubepods-besteffort.slice"),
    False: ("/kubepods", "/kubepods/burstable", "/kubepods/besteffort"),
}
QOS_PARENTS = _QOS[place.HAS_SYSTEMD]
KUBEPODS = ROOT / cgroup_path.parent_directory(QOS_PARENTS[0])
_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
_TRIES = 3
_SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


def start() -> None:
    """The groups that kubelet makes when it starts; nothing where they are."""
    for name in QOS_PARENTS:
        make(name)


def directory(parent: str) -> pathlib.Path:
    """The cgroup that a pod's `cgroup_parent` names."""
    return ROOT / cgroup_path.parent_directory(parent)


def make(name: str, shares: int = 2) -> None:
    """Make a group as libcontainer's drivers do, and switch the controllers on down to it.

    systemd 252 was seen to make a slice anew while that went on; kubelet begins again then, too.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            _make(name, shares)
        except FileNotFoundError:
            if attempt == _TRIES:
                raise
        else:
            return


def _make(name: str, shares: int) -> None:
    path = directory(name)
    if not place.HAS_SYSTEMD:
        path.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
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
    """Set the CFS quota of a pod's group: the text of `cpu.max`, with a period of 100 ms."""
    if not place.HAS_SYSTEMD:
        (directory(name) / "cpu.max").write_text(quota)
        return
    percent = int(quota.split(maxsplit=1)[0]) // 1000
    systemd.systemctl("set-property", "--runtime", name, f"CPUQuota={percent}%")


def switch_on(path: pathlib.Path, controllers: tuple[str, ...] = _CONTROLLERS) -> None:
    """Give the children of a cgroup the controllers."""
    control = path / "cgroup.subtree_control"
    missing = set(controllers) - set(control.read_text().split())
    if missing:
        control.write_text(" ".join(f"+{name}" for name in sorted(missing)))


def remove(*names: str) -> None:
    """Remove pods' groups; what runs in them has ended."""
    if place.HAS_SYSTEMD:
        systemd.systemctl("stop", *names)
        return
    for name in names:
        _remove_tree(directory(name))


def _remove_tree(path: pathlib.Path) -> None:
    """As kubelet: again until the kernel has seen every process off."""
    until = time.monotonic() + 30
    while True:
        for group in sorted(path.rglob("*/"), reverse=True):
            _try_to_remove(group)
        if _try_to_remove(path):
            return
        assert time.monotonic() < until, f"{path} is still in use"
        time.sleep(0.05)


def _try_to_remove(path: pathlib.Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _wait_for(path: pathlib.Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, f"systemd did not make {path}"
        time.sleep(0.02)
