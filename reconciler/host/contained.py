"""The agent in a container of its own: which cgroup is its own, and which is written instead. I/O.

A container's cgroup is the root of its cgroup namespace, and from inside nobody may write the cpuset of that
one (cgroup-v2.rst, "Delegation", `nsdelegate`). Its pod's may be written, and what a group does not have its
children do not get: not the agent's threads, and not what else is run in the container, such as probes.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence

from reconciler import observed
from reconciler.host import cgroupfs

NAMESPACE_ROOT = "/sys/fs/cgroup"
"""Where every process sees the cgroup that is the root of its namespace, if cgroup2 is mounted there."""


def own(root: str, seen: str = NAMESPACE_ROOT) -> str | None:
    """The cgroup below `root` that `seen` is, as a relative path; None for the root, and for a stranger.

    Directories are known by their inodes: a path that proc(5) gives is as the namespace has it. Reads the
    whole tree, for milliseconds.
    """
    try:
        top, wanted = os.stat(root), os.stat(seen)
    except OSError:
        return None
    if top.st_dev != wanted.st_dev or top.st_ino == wanted.st_ino:
        return None
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry in _folders(os.path.join(root, folder)):
            path = posixpath.join(folder, entry.name)
            if entry.inode() == wanted.st_ino:
                return path
            folders.append(path)
    return None


def tree(root: str, seen: str = NAMESPACE_ROOT) -> cgroupfs.Cgroupfs:
    """The cgroups below `root`, as this process may write them."""
    path = own(root, seen)
    return cgroupfs.Cgroupfs(root) if path is None else Contained(root, path)


def steered(tree_: cgroupfs.Cgroupfs) -> str | None:
    """The cgroup that is written instead of the agent's own; None where it may write its own."""
    return tree_.pod if isinstance(tree_, Contained) else None


class Contained(cgroupfs.Cgroupfs):
    """A tree in which one cgroup is out of reach: its parent is looked at and written in its place."""

    def __init__(self, root: str, own_: str) -> None:
        """`own_` is the agent's cgroup."""
        super().__init__(root)
        self._own = own_
        self.pod = posixpath.dirname(own_)
        """What is written instead."""

    def look(self, path: str, quotas: Sequence[str] = ()) -> observed.Look:
        """As `Cgroupfs.look`."""
        return super().look(self._steered(path), quotas)

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`."""
        super().write(self._steered(path), file, text)

    def partition(self, path: str) -> observed.Partition | None:
        """As `Cgroupfs.partition`."""
        return super().partition(self._steered(path))

    def forget(self, path: str) -> None:
        """As `Cgroupfs.forget`."""
        super().forget(self._steered(path))

    def _steered(self, path: str) -> str:
        return self.pod if path == self._own else path


def _folders(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it ended meanwhile
        return []
