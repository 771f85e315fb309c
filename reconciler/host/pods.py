"""The pods' cgroups, as the tree has them: walks below the kubepods roots. I/O: reads only.

Who is meant by a directory's name is `runtime.tree`'s matter. A walk is whole or it fails: what could not be
looked at must not be taken for gone.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Set

from reconciler import errors, observed
from reconciler.cpu import bandwidth
from reconciler.cpu.idset import CpuSet
from reconciler.host import cgroupfs

WEIGHT = "cpu.weight"

_ROOT = re.compile(r"kubepods|(?:.+-)?kubepods\.slice")
_CLASS = re.compile(r"burstable|besteffort|.*kubepods-(?:burstable|besteffort)\.slice")
_POD = re.compile(r"pod[^/]+|.*kubepods(?:-burstable|-besteffort)?-pod[^-/]+\.slice")
_DEPTH = 2
"""Levels below the mount at which a root can be: kubelet's `cgroupRoot` puts it under other groups."""
_OF_THE_HOST = frozenset({"init.scope", "system.slice"})
"""Groups that systemd makes at the top; the private tree of a container has none of them."""
_MOST_TEXT = 65_536


def walk(mount: str, known: Set[str]) -> tuple[observed.PodGroup, ...]:
    """Every pod's cgroup below the mount, with those of its containers, by path.

    Of the containers' cgroups in `known` only that is read whether a process is in them. A host on which
    kubelet has not started since its boot has no pods. Raises HostFileError where a part cannot be read, and
    for a tree that is neither a host's nor kubelet's.
    """
    roots = tuple(_roots(mount, "", _DEPTH))
    if not roots and _OF_THE_HOST.isdisjoint(_children(mount, "")):
        why = "there is no kubepods cgroup, nor one of systemd; is this the host's cgroup tree?"
        raise errors.HostFileError(mount, "look for pods in", errno.ENOENT, why)
    pods = {path for root in roots for path in _pods(mount, root)}
    return tuple(
        observed.PodGroup(path=path, groups=tuple(_groups(mount, path, known))) for path in sorted(pods)
    )


def _roots(mount: str, path: str, depth: int) -> Iterator[str]:
    for name in _children(mount, path):
        child = f"{path}/{name}" if path else name
        if _ROOT.fullmatch(name):
            yield child
        elif depth > 1:
            yield from _roots(mount, child, depth - 1)


def _pods(mount: str, root: str) -> Iterator[str]:
    for name in _children(mount, root):
        if _CLASS.fullmatch(name):
            yield from _pods(mount, f"{root}/{name}")
        elif _POD.fullmatch(name):
            yield f"{root}/{name}"


def _groups(mount: str, pod: str, known: Set[str]) -> Iterator[observed.Group]:
    for name in sorted(_children(mount, pod)):
        path = f"{pod}/{name}"
        said = _text(mount, path, observed.EVENTS)
        if said is None:
            continue
        is_populated = "populated 1" in said.split("\n")
        if path in known or not is_populated:
            yield observed.Group(path=path, is_populated=is_populated)
        else:
            yield _whole(mount, path)


def _whole(mount: str, path: str) -> observed.Group:
    """One whose files are read too; one without a file of them, as a kernel without the controller has it,
    says nothing of that."""
    quota, weight, cpus = (_line(mount, path, file) for file in (bandwidth.FILE, WEIGHT, observed.CPUS))
    return observed.Group(
        path=path,
        is_populated=True,
        quota=None if not quota else bandwidth.Bandwidth.parse(quota, what=f"{path}/{bandwidth.FILE}"),
        weight=int(weight) if weight and weight.isdecimal() else None,
        cpus=CpuSet.parse(cpus or "", what=f"{path}/{observed.CPUS}"),
    )


def _children(mount: str, path: str) -> list[str]:
    """The groups right under one; none where it has gone."""
    full = os.path.join(mount, path)
    try:
        with os.scandir(full) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in cgroupfs.VANISHED:
            return []
        raise _error(full, error) from error


def _line(mount: str, path: str, file: str) -> str:
    return (_text(mount, path, file) or "").partition("\n")[0].rstrip()


def _text(mount: str, path: str, file: str) -> str | None:
    """What a control file says; None where it, or its group, is not there."""
    full = os.path.join(mount, path, file)
    try:
        descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _MOST_TEXT).decode("ascii", "replace")
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in cgroupfs.VANISHED:
            return None
        raise _error(full, error) from error


def _error(full: str, error: OSError) -> errors.HostFileError:
    return errors.HostFileError(full, "read", error.errno or 0, error.strerror or str(error))
