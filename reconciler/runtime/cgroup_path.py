"""Where a container's cgroup is, from what the runtime calls it. Text only; pure.

Results are relative to the cgroup2 mount, without a slash at either end. There are two ways to name a cgroup
(opencontainers/cgroups, systemd/common.go and fs2): the systemd driver's `SLICE:PREFIX:NAME`, where a slice's
name expands at each dash, and the cgroupfs driver's absolute path. Runtimes differ in PREFIX only:
`cri-containerd` and `crio`; with cgroupfs, CRI-O writes `crio-` before the id.
"""

from __future__ import annotations

import functools
import re

from reconciler import errors, events

_SLICE = ".slice"
_DEFAULT_SLICE = "system.slice"
_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]+", re.ASCII)
"""What systemd allows in the name of a unit (systemd.unit(5))."""
_SLICE_NAME = re.compile(r"(?:[A-Za-z0-9:_.\\@]+-)*[A-Za-z0-9:_.\\@]+\.slice", re.ASCII)
_SLICE_OF_POD = re.compile(r"(?:[^/]*-)?kubepods(?:-(burstable|besteffort))?-pod[^-/]+\.slice")
_PATH_OF_POD = re.compile(r"/(?:.*/)?kubepods(?:/(burstable|besteffort))?/pod[^/]+")
_UID_IN_SLICE = re.compile(r".*-pod([^-/]+)\.slice")
_CONTAINER = re.compile(r"(?:(?:cri-containerd|crio|docker)-)?([0-9a-f]{64})(?:\.scope)?", re.ASCII)
_CLASSES = {
    None: events.Qos.GUARANTEED,
    "burstable": events.Qos.BURSTABLE,
    "besteffort": events.Qos.BEST_EFFORT,
}
_MAX_NAME = 255
_MAX_PATH = 4095


@functools.lru_cache(maxsize=4096)
def directory(cgroups_path: str) -> str:
    """The directory of a container or sandbox whose OCI `linux.cgroupsPath` is `cgroups_path`.

    Cached, as the rest here: every event of a pod's life tells the same texts again.
    Raises Malformed for what neither driver can have made; an empty text is for the caller to look at.
    """
    if cgroups_path.startswith("/"):
        return _plain(cgroups_path, "cgroups_path")
    parts = cgroups_path.split(":")
    if len(parts) != 3:
        raise errors.Malformed(
            "cgroups_path", f"{_shown(cgroups_path)} is neither SLICE:PREFIX:NAME nor an absolute path"
        )
    slice_, prefix, name = parts
    unit = name if name.endswith(_SLICE) else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    if not name or len(unit) > _MAX_NAME or _UNIT_NAME.fullmatch(unit) is None:
        raise errors.Malformed("cgroups_path", f"{_shown(unit)} cannot be the name of a unit")
    parent = expand_slice(slice_ or _DEFAULT_SLICE)
    return f"{parent}/{unit}" if parent else unit


def parent_directory(cgroup_parent: str) -> str:
    """The directory of a pod whose `cgroup_parent` is given, in either driver's form.

    With systemd it is a slice's name or, as kubelet writes it, the expanded path of one. Raises Malformed for
    what neither driver can have made.
    """
    if cgroup_parent.endswith(_SLICE):
        return expand_slice(cgroup_parent.rpartition("/")[2])
    return _plain(cgroup_parent, "cgroup_parent")


@functools.lru_cache(maxsize=1024)
def expand_slice(name: str) -> str:
    """The directory of a systemd slice: `a-b.slice` is `a.slice/a-b.slice`, and `-.slice` is the root, "".

    Raises Malformed for what is not the name of a slice.
    """
    if len(name) > _MAX_NAME or _SLICE_NAME.fullmatch(name) is None:
        if name == "-.slice":
            return ""
        raise errors.Malformed("slice", f"{_shown(name)} cannot be the name of a slice")
    path = ""
    dash = name.find("-")
    while dash > 0:
        path += name[:dash] + _SLICE + "/"
        dash = name.find("-", dash + 1)
    return path + name


@functools.lru_cache(maxsize=1024)
def qos(cgroup_parent: str) -> events.Qos:
    """The QoS class of the pod whose `cgroup_parent` is given, by its place under the kubepods root.

    The root may have a prefix, as kind's `kubelet-kubepods` has. Raises Malformed for a pod that is not under
    a kubepods root: kubelet did not make it.
    """
    if cgroup_parent.endswith(_SLICE):
        found = _SLICE_OF_POD.fullmatch(cgroup_parent.rpartition("/")[2])
    else:
        found = _PATH_OF_POD.fullmatch(cgroup_parent)
    if found is None:
        raise errors.Malformed(
            "cgroup_parent", f"{_shown(cgroup_parent)} is not a pod's place under kubepods"
        )
    return _CLASSES[found[1]]


def uid(directory: str) -> events.PodUid:
    """The UID of the pod whose cgroup is at `directory`, for which `qos` gives a class.

    A slice's name has underscores in the place of a UID's dashes.
    """
    name = directory.rpartition("/")[2]
    if (found := _UID_IN_SLICE.fullmatch(name)) is not None:
        return events.PodUid(found[1].replace("_", "-"))
    return events.PodUid(name.removeprefix("pod"))


@functools.lru_cache(maxsize=4096)
def container_id(directory: str) -> events.ContainerId | None:
    """The id of the container, or pause container, whose cgroup is at `directory`, right under a pod's.

    None for what is no container's, such as that of conmon, which CRI-O starts beside each of them.
    """
    found = _CONTAINER.fullmatch(directory.rpartition("/")[2])
    return None if found is None else events.ContainerId(found[1])


def _plain(path: str, what: str) -> str:
    """A cgroupfs driver's absolute path, checked: nothing in it may lead out of the tree."""
    pieces = path.split("/")
    if pieces[0] or not all(pieces[1:]) or len(path) > _MAX_PATH:
        raise errors.Malformed(what, f"{_shown(path)} is not the absolute path of a cgroup")
    for piece in pieces[1:]:
        if piece in {".", ".."} or len(piece) > _MAX_NAME or not piece.isprintable():
            raise errors.Malformed(what, f"{_shown(path)} has {_shown(piece)} in it")
    return path[1:]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "…")
