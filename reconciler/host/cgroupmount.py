"""Whether a directory is a cgroup2 mount with the cpuset controller. I/O: reads this process's mounts."""

from __future__ import annotations

import errno
import os
import re

from reconciler import errors

MOUNTINFO = "/proc/self/mountinfo"
_ESCAPE = re.compile(r"\\([0-7]{3})")


def check(root: str, mountinfo: str = MOUNTINFO) -> None:
    """Returns where cpusets can be managed below `root`.

    Raises Unsuitable, with one sentence, on a host with cgroup v1, with the hybrid layout of v1 and v2, and
    where nothing is mounted. `mountinfo` is a file as proc(5) describes it.
    """
    types = _types(mountinfo)
    found = types.get(os.path.realpath(root))
    if found == "cgroup2":
        if "cpuset" not in _controllers(root):
            raise errors.Unsuitable(
                f"{root} is cgroup v2 without the cpuset controller, which the kernel lacks or a cgroup v1 "
                f"mount has taken; boot with systemd.unified_cgroup_hierarchy=1"
            )
        return
    if found in ("tmpfs", "cgroup") or os.path.isdir(os.path.join(root, "cpuset")):
        layout = "the hybrid layout of cgroup v1 and v2" if "cgroup2" in types.values() else "cgroup v1"
        raise errors.Unsuitable(
            f"{root} has {layout}, and cpusets are managed on cgroup v2 only; "
            f"boot with systemd.unified_cgroup_hierarchy=1"
        )
    raise errors.Unsuitable(f"{root} is not a cgroup2 mount; mount the host's there, or use --simulated")


def check_writable(root: str) -> None:
    """Returns where cpusets below `root` may be written. Raises HostFileError where that is read-only, as
    a container often sees it, and where it cannot be asked."""
    try:
        is_read_only = os.statvfs(root).f_flag & os.ST_RDONLY
    except OSError as error:
        raise errors.HostFileError(root, "look at", error.errno or 0, error.strerror or str(error)) from error
    if is_read_only:
        why = "the cgroup2 mount is read-only here; mount it read-write"
        raise errors.HostFileError(root, "write below", errno.EROFS, why)


def _types(mountinfo: str) -> dict[str, str]:
    """File system types by mount point; the last mount on a point is the one that is seen."""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError as error:
        raise errors.Unsuitable(f"{mountinfo}: {error.strerror}: this is not a Linux host") from error
    types = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) >= 5 and after:
            types[_ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), fields[4])] = after.split()[0]
    return types


def _controllers(root: str) -> list[str]:
    try:
        with open(os.path.join(root, "cgroup.controllers"), encoding="ascii", errors="replace") as file:
            return file.read().split()
    except OSError:
        return []
