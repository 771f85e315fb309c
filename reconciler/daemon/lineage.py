"""What is above a container's cgroup. I/O: reads the cgroup tree, in the worker's thread."""

from __future__ import annotations

import os
from collections.abc import Iterator

from reconciler import narrowing, observed
from reconciler.host import cgroupfs


def ancestors(tree: cgroupfs.Cgroupfs, path: str) -> Iterator[narrowing.Ancestor]:
    """The cgroups above `path`, from the nearest on, the root left out. Those that cannot be read are passed
    over. Nothing is kept open: it is rarely asked for."""
    while path := os.path.dirname(path):
        look = tree.look(path)
        tree.forget(path)
        if isinstance(look, observed.Present):
            yield narrowing.Ancestor(path=path, cpuset=look.outer)
