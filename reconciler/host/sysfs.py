"""The machine's topology as sysfs shows it. I/O: reads below a host root.

What the texts mean is `cpu.topology`'s matter.
"""

from __future__ import annotations

import errno
import os

from reconciler import errors
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet, NodeSet

_PAGE = 4096
"""Bytes that one read of a sysfs file gives at most (fs/kernfs/file.c); a list with many holes takes more."""
_ATTEMPTS = 3


def topology(root: str) -> topologies.Topology:
    """The topology of the host whose file system is at `root`.

    sysfs is no snapshot: where a CPU comes or goes while it is read, it is read again, up to three times in
    all. Raises as `read` does, and Malformed for a text that the kernel would not write.
    """
    for _ in range(_ATTEMPTS - 1):
        before = fingerprint(root)
        files = read(root)
        if fingerprint(root) == before:
            return topologies.parse(files)
    return topologies.parse(read(root))


def fingerprint(root: str) -> tuple[str, str]:
    """Which CPUs are online and which isolated, as text: two small reads.

    Two that differ mean that the topology has to be read again. Raises as `read` does.
    """
    return _online(root), _read(root, topologies.ISOLATED) or ""


def read(root: str) -> dict[str, str]:
    """The texts that a topology is parsed from, by path relative to `root`. Linear in the CPUs.

    Raises Unsuitable where there is no list of online CPUs, and HostFileError where a file is there and
    cannot be read. Anything else that is missing is left out.
    """
    files = {topologies.ONLINE: _online(root)}
    for path in (
        topologies.PRESENT,
        topologies.ISOLATED,
        topologies.NODES_ONLINE,
        topologies.NODES_WITH_MEMORY,
    ):
        _add(files, root, path)
    for cpu in CpuSet.parse(files[topologies.ONLINE], what=topologies.ONLINE):
        _add_cpu(files, root, cpu)
    nodes = files.get(topologies.NODES_ONLINE, "")
    for node in NodeSet.parse(nodes, what=topologies.NODES_ONLINE):
        for name in ("cpulist", "distance"):
            _add(files, root, f"{topologies.node_path(node)}/{name}")
    return files


def _add_cpu(files: dict[str, str], root: str, cpu: int) -> None:
    today, before = topologies.siblings_paths(cpu)
    if not _add(files, root, today):
        _add(files, root, before)
    _add(files, root, topologies.package_path(cpu))
    for index in range(topologies.MAX_CACHES):
        directory = topologies.cache_path(cpu, index)
        if not _add(files, root, f"{directory}/level"):
            break
        _add(files, root, f"{directory}/type")
        _add(files, root, f"{directory}/shared_cpu_list")


def _online(root: str) -> str:
    text = _read(root, topologies.ONLINE)
    if text is None:
        raise errors.Unsuitable(
            f"{_join(root, topologies.ONLINE)} is missing: this is not the sysfs of a Linux host"
        )
    return text


def _add(files: dict[str, str], root: str, path: str) -> bool:
    text = _read(root, path)
    if text is None:
        return False
    files[path] = text
    return True


def _read(root: str, path: str) -> str | None:
    """The text of one file; None where it, or a directory on the way, does not exist (any more)."""
    full = _join(root, path)
    try:
        descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = more = os.read(descriptor, _PAGE)
            while len(more) == _PAGE:
                data += (more := os.read(descriptor, _PAGE))
            return data.decode("ascii", "replace")
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO):
            return None
        raise errors.HostFileError(full, "read", error.errno or 0, error.strerror or str(error)) from error


def _join(root: str, path: str) -> str:
    return os.path.join(root, path)
