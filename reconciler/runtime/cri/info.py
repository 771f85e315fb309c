"""The verbose info of a status: JSON that CRI leaves to each runtime. Text to values; pure.

containerd (since 1.1) and CRI-O agree on what is read here: `info["info"]` has `pid` and the OCI
`runtimeSpec`; containerd also has `config`, the request that kubelet made. A CRI-O sandbox without a pause
container has `runtimeSpec` alone. Whatever else is in there is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from reconciler import errors

_KEY = "info"
_CRIO_PARENT = "io.kubernetes.cri-o.CgroupParent"


class Cpu(msgspec.Struct, frozen=True):
    """`linux.resources.cpu` of an OCI spec: microseconds, shares, kernel lists."""

    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    cpus: str | None = None
    mems: str | None = None


class _Resources(msgspec.Struct, frozen=True):
    cpu: Cpu | None = None


class _SpecLinux(msgspec.Struct, frozen=True, rename="camel"):
    cgroups_path: str | None = None
    resources: _Resources | None = None


class _Spec(msgspec.Struct, frozen=True):
    linux: _SpecLinux | None = None
    annotations: dict[str, str] | None = None


class _ConfigLinux(msgspec.Struct, frozen=True):
    cgroup_parent: str | None = None


class _Config(msgspec.Struct, frozen=True):
    linux: _ConfigLinux | None = None


class Info(msgspec.Struct, frozen=True, rename={"spec": "runtimeSpec"}):
    """What one status says. Everything may be missing."""

    pid: int | None = None
    spec: _Spec | None = None
    config: _Config | None = None

    @property
    def cgroups_path(self) -> str:
        """The OCI name of the cgroup, "" where it is not said."""
        linux = None if self.spec is None else self.spec.linux
        return "" if linux is None else linux.cgroups_path or ""

    @property
    def cpu(self) -> Cpu:
        """The CPU part of the runtime's record."""
        linux = None if self.spec is None else self.spec.linux
        resources = None if linux is None else linux.resources
        return Cpu() if resources is None else resources.cpu or Cpu()

    @property
    def cgroup_parent(self) -> str:
        """The pod's cgroup parent, "" where a sandbox does not say it.

        containerd has it in the request, CRI-O in an annotation; else the cgroup's name begins with it.
        """
        linux = None if self.config is None else self.config.linux
        if linux is not None and linux.cgroup_parent:
            return linux.cgroup_parent
        annotations = None if self.spec is None else self.spec.annotations
        return (annotations or {}).get(_CRIO_PARENT) or parent(self.cgroups_path)


_DECODER = msgspec.json.Decoder(Info)


def parse(texts: Mapping[str, str]) -> Info:
    """The info of a status; empty where there is none. Raises Malformed for what is not JSON of that form."""
    text = texts.get(_KEY, "")
    if not text:
        return Info()
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise errors.Malformed("verbose info", str(error)) from error


def parent(cgroups_path: str) -> str:
    """The cgroup parent of a cgroup that is called so, in either driver's form; "" if none shows."""
    if cgroups_path.startswith("/"):
        return cgroups_path.rpartition("/")[0]
    return cgroups_path.partition(":")[0]
