"""This process, as the host sees it. I/O; the one door to psutil."""

from __future__ import annotations

import os

import psutil

from reconciler import errors
from reconciler.cpu.idset import CpuSet


def confine_self(cpus: CpuSet) -> None:
    """Let every thread of this process run on `cpus` only.

    What an agent in a container can do without a privilege: it may not write the cpuset of its own cgroup.
    Threads that are made later inherit it. Raises HostFileError where the kernel grants none of the CPUs.
    """
    wanted = list(cpus)
    for thread in psutil.Process().threads():
        try:
            psutil.Process(thread.id).cpu_affinity(wanted)
        except psutil.NoSuchProcess:
            continue
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            path = f"/proc/self/task/{thread.id}"
            raise errors.HostFileError(path, "set the affinity of", number or 0, str(error)) from error


def own_cgroup_inode() -> int | None:
    """The inode of this process's cgroup where it is the root of a cgroup namespace of its own, else None.

    A container runtime makes such a namespace, and mounts it at /sys/fs/cgroup; seen from the host's mount
    the same cgroup has the same inode.
    """
    try:
        with open("/proc/self/cgroup", encoding="ascii", errors="replace") as file:
            if "0::/\n" not in file.readlines():
                return None
        return os.stat("/sys/fs/cgroup").st_ino
    except OSError:
        return None
