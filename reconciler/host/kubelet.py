"""What kubelet's CPU manager has on record: `cpu_manager_state`. I/O: reads below a host root.

kubelet replaces the file at each change, so one `stat` says whether there is something new. Its checksum
covers Go's own rendering of the values and is not looked at.
"""

from __future__ import annotations

import json
import os

from reconciler import errors, opponents
from reconciler.cpu.idset import CpuSet

STATE = "var/lib/kubelet/cpu_manager_state"
_POD_RESOURCES = "var/lib/kubelet/pod-resources/kubelet.sock"
_MOST_BYTES = 4 << 20

Stamp = tuple[int, int, int] | None


def stamp(root: str) -> Stamp:
    """What differs once the file is another one: inode, size and time of change; None where it is not."""
    try:
        found = os.stat(os.path.join(root, STATE))
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def socket(root: str) -> str | None:
    """The path of kubelet's PodResources socket; None where there is none."""
    path = os.path.join(root, _POD_RESOURCES)
    return path if os.path.exists(path) else None


def read(root: str) -> opponents.Assignments | None:
    """The assignments; None where there is no file.

    Raises HostFileError where it cannot be read, Malformed for what kubelet would not write.
    """
    path = os.path.join(root, STATE)
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise errors.HostFileError(path, "read", error.errno or 0, error.strerror or str(error)) from error
    if len(data) > _MOST_BYTES:
        raise errors.Malformed(path, f"it has more than {_MOST_BYTES} bytes")
    return parse(data, path)


def parse(data: bytes, what: str = STATE) -> opponents.Assignments:
    """The assignments in the text of a file called `what` (kubernetes, pkg/kubelet/cm/cpumanager/state).

    From the newest version on they stand once more, as JSON in the string `data`, which then counts. Raises
    Malformed. The first version's entries are by container id, and are left out.
    """
    tree = _object(data, what)
    if isinstance(inner := tree.get("data"), str):
        tree = _object(inner, f"{what}, data")
    policy = tree.get("policyName")
    if not isinstance(policy, str):
        raise errors.Malformed(what, "policyName is no string")
    pods = tree.get("entries") or {}
    if not isinstance(pods, dict):
        raise errors.Malformed(what, "entries is no object")
    entries = {}
    for uid, containers in pods.items():
        if isinstance(containers, dict):
            for name, text in containers.items():
                entries[uid, name] = _cpus(text, f"{what}, entry {uid} {name}")
    return opponents.Assignments(
        policy=policy,
        default=_cpus(tree.get("defaultCpuSet") or "", f"{what}, defaultCpuSet"),
        entries=entries,
    )


def _object(text: bytes | str, what: str) -> dict[str, object]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise errors.Malformed(what, f"it is no JSON: {error}") from error
    if not isinstance(tree, dict):
        raise errors.Malformed(what, "it is no JSON object")
    return tree


def _cpus(text: object, what: str) -> CpuSet:
    if not isinstance(text, str):
        raise errors.Malformed(what, "it is no CPU list")
    return CpuSet.parse(text, what=what)
