"""This process, as the host sees it. I/O; the one door to psutil."""

from __future__ import annotations

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
