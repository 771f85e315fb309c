"""A captured machine: its files by path, and the pods that its runtime knew. I/O: reads one YAML file.

files:
  sys/devices/system/cpu/online: "0-7"
  sys/fs/cgroup/kubepods.slice/…/cpuset.cpus: "0-7"
pods:
  - {namespace: default, name: db, uid: …, qos: guaranteed, containers: [{name: main, …}]}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from reconciler import errors, events
from reconciler.config import load

LARGEST_BYTES = 64 << 20
"""The sysfs of 8192 CPUs and the cgroups of 1000 containers, and some."""


class Container(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A container that runs. `shares`, `quota` and `period` as in `events.CpuLimits`."""

    name: str
    id: Annotated[str, msgspec.Meta(min_length=1)]
    cgroup: str | None = None
    shares: int | None = None
    quota: int | None = None
    period: int | None = None


class Pod(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pod that runs; `cgroup` is its pause container's. The sandbox's id is the UID unless it is given."""

    name: str
    uid: Annotated[str, msgspec.Meta(min_length=1)]
    namespace: str = "default"
    sandbox: str = ""
    qos: Literal["guaranteed", "burstable", "besteffort"] = "burstable"
    annotations: dict[str, str] = {}
    cgroup: str | None = None
    containers: tuple[Container, ...] = ()


class Capture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file. `files` are texts by path below the host's root."""

    files: dict[str, str]
    pods: tuple[Pod, ...] = ()


def read(path: str) -> Capture:
    """The capture in the file at `path`. Raises Usage for any reason it cannot be used."""
    tree = load.tree(load.text(path, LARGEST_BYTES), what=path)
    try:
        capture = msgspec.convert(tree, Capture)
    except msgspec.ValidationError as error:
        raise errors.Usage(f"{path}: {error}") from error
    if fault := next(_faults(capture), ""):
        raise errors.Usage(f"{path}: {fault}")
    return capture


def _faults(capture: Capture) -> Iterator[str]:
    """Why the files cannot be laid out below one folder: nothing may be written anywhere else."""
    folders: set[str] = set()
    for name, text in capture.files.items():
        if not _is_below(name):
            yield f"files: {name!r} is not a path below the host's root"
        if not text.isascii():
            yield f"files: {name!r} has a text that no file of the kernel has"
        pieces = name.split("/")
        folders.update("/".join(pieces[:count]) for count in range(1, len(pieces)))
    for name in folders & capture.files.keys():
        yield f"files: {name!r} is a file and a folder"
    for pod in capture.pods:
        for cgroup in (pod.cgroup, *(container.cgroup for container in pod.containers)):
            if cgroup is not None and not _is_below(cgroup):
                yield f"pods: {pod.name}: cgroup {cgroup!r} is not a path below the cgroup2 mount"


def _is_below(path: str) -> bool:
    return "\0" not in path and not {"", ".", ".."} & set(path.split("/"))


def synchronized(capture: Capture) -> events.Synchronized:
    """The pods as a runtime would list them."""
    return events.Synchronized(
        pods=tuple(_pod(pod) for pod in capture.pods),
        containers=tuple(_container(pod, its) for pod in capture.pods for its in pod.containers),
    )


def _pod(pod: Pod) -> events.Pod:
    return events.Pod(
        sandbox=_sandbox(pod),
        uid=events.PodUid(pod.uid),
        namespace=pod.namespace,
        name=pod.name,
        annotations=pod.annotations,
        qos=events.Qos(pod.qos),
        cgroup=pod.cgroup,
    )


def _container(pod: Pod, container: Container) -> events.Container:
    return events.Container(
        id=events.ContainerId(container.id),
        sandbox=_sandbox(pod),
        name=container.name,
        cgroup=container.cgroup,
        limits=events.CpuLimits(shares=container.shares, quota=container.quota, period=container.period),
        phase=events.Phase.RUNNING,
    )


def _sandbox(pod: Pod) -> events.SandboxId:
    return events.SandboxId(pod.sandbox or pod.uid)
