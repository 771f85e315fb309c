"""This process, as the host sees it. I/O; the one door to psutil."""

from __future__ import annotations

import errno

import psutil

from reconciler import errors
from reconciler.cpu.idset import CpuSet


def confine_self(cpus: CpuSet) -> None:
    """Let every thread of this process run on `cpus` only.

    What an agent in a container can do without a privilege: it may not write the cpuset of its own cgroup.
    Threads that are made later inherit it. Raises HostFileError where the kernel grants none of the CPUs, and
    for no CPUs at all.
    """
    wanted = list(cpus)
    if not wanted:  # psutil would take that for all CPUs
        raise errors.HostFileError("/proc/self", "set the affinity of", errno.EINVAL, "no CPU is given")
    for thread in _threads():
        try:
            psutil.Process(thread).cpu_affinity(wanted)
        except psutil.NoSuchProcess:
            continue
        except (OSError, ValueError, psutil.Error) as error:
            # psutil turns the kernel's EINVAL into a ValueError, and its EPERM into an error of its own.
            number = errno.EPERM if isinstance(error, psutil.Error) else getattr(error, "errno", errno.EINVAL)
            path = f"/proc/self/task/{thread}"
            raise errors.HostFileError(path, "set the affinity of", number, str(error)) from error


def _threads() -> list[int]:
    """The ids of this process's threads. Raises HostFileError, as where no file descriptor is left."""
    try:
        return [thread.id for thread in psutil.Process().threads()]
    except (OSError, psutil.Error) as error:
        number = getattr(error, "errno", None) or errno.EPERM
        raise errors.HostFileError("/proc/self/task", "read", number, str(error)) from error
