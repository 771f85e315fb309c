"""What an operator may set, with defaults. Pure: values and their checks, no file.

Keys are written in camelCase in YAML (`minSharedCpus`); `docs/reference/configuration.md` lists them.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec

from reconciler import errors
from reconciler.cpu.idset import CpuSet

UNMANAGED = "weka.io/unmanaged"
"""The annotation with which a pod asks to be left alone: `"true"`."""


class Nri(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """How the plugin registers. The default index sees the other plugins' choices (NRI sorts by index)."""

    # `$` alone lets a newline at the end pass in Python, and `\Z` is unknown to JSON Schema.
    plugin_name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.+-]{1,64}$(?!\n)")] = "cpuset-reconciler"
    plugin_index: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{2}$(?!\n)")] = "90"


class Fights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """When a container that somebody else changes again and again is in conflict, and what happens then.

    `drifts` within `within_seconds` begin a conflict, and `ends_after_seconds` without any end it. A repair
    in a conflict is made at most `longest_pause_seconds` after the one before it, or at once.
    """

    drifts: Annotated[int, msgspec.Meta(ge=2, le=100)] = 2
    within_seconds: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 60.0
    ends_after_seconds: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 60.0
    longest_pause_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 0.8


_ADDRESS = r"^(|[0-9.]{7,15}:[0-9]{1,5}|\[[0-9a-fA-F:.]{2,45}\]:[0-9]{1,5})$(?!\n)"


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Where metrics and probes are served over HTTP: an IP address and a port, or nowhere.

    Raises Usage for anything else.
    """

    listen: Annotated[str, msgspec.Meta(pattern=_ADDRESS)] = ""

    def __post_init__(self) -> None:
        self.address()

    def address(self) -> tuple[str, int] | None:
        """Host and port; None where nothing is to be served. Raises Usage."""
        if not self.listen:
            return None
        host, _, port = self.listen.rpartition(":")
        host = host.strip("[]")
        try:
            ipaddress.ip_address(host)
        except ValueError as error:
            raise errors.Usage(f"metrics.listen={self.listen}: {error}") from error
        if not 1 <= int(port) <= 65535:
            raise errors.Usage(f"metrics.listen={self.listen}: a port is 1 to 65535")
        return host, int(port)


Namespaces = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?$(?!\n)")]
"""A namespace's name (a DNS label, RFC 1123), in which each `*` stands for any characters."""


_TAINT = r"^(([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$(?!\n)"
TaintKey = Annotated[str, msgspec.Meta(pattern=_TAINT)]
"""The key of a taint, a qualified name of Kubernetes; "" for none."""


Isolation = Literal["cpuset", "partition", "isolated"]
"""How others are kept off exclusive CPUs: by their cpusets alone, or by the kernel too, with a partition of
the kind `root` or `isolated` (cgroup-v2.rst, `cpuset.cpus.partition`)."""


_SLICE = r"^(?!kubepods)[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]{0,198}\.(slice|scope)$(?!\n)"
HostSlice = Annotated[str, msgspec.Meta(pattern=_SLICE)]
"""A slice of the host by its name in systemd, or a scope right under the root, such as `init.scope`; none of
Kubernetes' own, in which the containers are."""


def is_host_slice(name: str) -> bool:
    """Whether a name is one of a slice that can be confined."""
    return re.search(_SLICE, name) is not None


Agreement = Literal["auto", "runtime", "off"]
"""Who may be made to agree."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """The whole configuration; every key has a default.

    `min_shared_cpus`: CPUs that the shared pool never falls below.
    `reserved_cpus`: kernel list of CPUs that integer containers never get; they stay in the shared pool.
    `isolated_cpus`: whether kernel-isolated CPUs (`isolcpus=`) serve the pool and integer containers.
    `integer_memory`: `pin` gives integer containers the NUMA nodes of their CPUs, `leave` touches none.
    `cfs_quota`: `lift` frees exclusive containers from their CFS quota, `keep` touches none.
    `isolation`: how others are kept off exclusive CPUs.
    `isolation_namespaces`: which namespaces' pods may choose that themselves with `weka.io/isolation`.
    `on_guard`: what a hook that runs out of time answers for an exclusive container.
    `annotated_namespaces`: which namespaces may name CPUs in `weka.io/cores-ids`.
    `annotated_overlap`: whether annotated pods may hold CPUs that other annotated pods hold.
    `max_exclusive_cpus`: the most CPUs that all pods of a namespace together may hold exclusively.
    `unmanaged_namespaces`: whose containers are left alone, as if there were no agent.
    `opt_out_namespaces`: which namespaces may leave single pods alone with `weka.io/unmanaged: "true"`.
    `pass_interval_seconds`: pause between periodic passes, which find what inotify cannot see.
    `fights`: what is done about somebody who writes the same files again and again.
    `attribution`: whether it is found out who writes them, and how.
    `agreement`: who is told of a container that has drifted again and again: systemd over D-Bus or else the
    runtime (`auto`), the runtime alone, or nobody.
    `host_slices`: slices of the host that are kept on the shared pool.
    `startup_taint`: key of the taint that is taken off the node once it is served.
    """

    min_shared_cpus: Annotated[int, msgspec.Meta(ge=1, le=8192)] = 1
    reserved_cpus: str = ""
    isolated_cpus: Literal["exclude", "use"] = "exclude"
    integer_memory: Literal["leave", "pin"] = "leave"
    cfs_quota: Literal["keep", "lift"] = "keep"
    isolation: Isolation = "cpuset"
    isolation_namespaces: tuple[Namespaces, ...] = ()
    on_guard: Literal["refuse", "admit"] = "refuse"
    annotated_namespaces: tuple[Namespaces, ...] = ("*",)
    annotated_overlap: Literal["refuse", "allow"] = "refuse"
    max_exclusive_cpus: dict[Namespaces, Annotated[int, msgspec.Meta(ge=0, le=8192)]] = {}
    unmanaged_namespaces: tuple[Namespaces, ...] = ()
    opt_out_namespaces: tuple[Namespaces, ...] = ()
    pass_interval_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 10.0
    fights: Fights = Fights()
    attribution: Literal["off", "fanotify"] = "off"
    agreement: Agreement = "auto"
    host_slices: tuple[HostSlice, ...] = ()
    startup_taint: TaintKey = ""
    nri: Nri = Nri()
    metrics: Metrics = Metrics()

    def __post_init__(self) -> None:
        self.reserved()

    def reserved(self) -> CpuSet:
        """`reservedCpus` as a set. Raises Usage where it is not a kernel list."""
        try:
            return CpuSet.parse(self.reserved_cpus, what="reservedCpus")
        except errors.Malformed as error:
            raise errors.Usage(str(error)) from error

    def of_decisions(self) -> Config:
        """The same, with defaults for what no decision on a container depends on."""
        return msgspec.structs.replace(
            self,
            pass_interval_seconds=10.0,
            on_guard="refuse",
            fights=Fights(),
            attribution="off",
            startup_taint="",
            agreement="auto",
            nri=Nri(),
            metrics=Metrics(),
        )

    def may_annotate(self, namespace: str) -> bool:
        """Whether pods of the namespace may name CPUs."""
        return _matches(self.annotated_namespaces, namespace)

    def may_choose_isolation(self, namespace: str) -> bool:
        """Whether pods of the namespace may say how others are kept off their exclusive CPUs."""
        return _matches(self.isolation_namespaces, namespace)

    def leaves_alone(self, namespace: str, annotations: Mapping[str, str]) -> bool:
        """Whether a pod's containers are left alone: by its namespace, or its annotation where trusted."""
        if self.unmanaged_namespaces and _matches(self.unmanaged_namespaces, namespace):
            return True
        if self.opt_out_namespaces and annotations.get(UNMANAGED) == "true":
            return _matches(self.opt_out_namespaces, namespace)
        return False

    def most_exclusive(self, namespace: str) -> int | None:
        """The most CPUs that the namespace may hold exclusively: what its name says, else the least of all
        that match; None without a limit."""
        limits = self.max_exclusive_cpus
        if namespace in limits:
            return limits[namespace]
        return min((limits[name] for name in limits if _matches((name,), namespace)), default=None)


def _matches(patterns: Iterable[str], namespace: str) -> bool:
    return any(fnmatch.fnmatchcase(namespace, pattern) for pattern in patterns)


def convert(tree: object) -> Config:
    """The configuration that a parsed YAML document means; None (an empty file) means all defaults.

    Raises Usage with the path of the key for unknown keys, wrong types and values out of range.
    """
    try:
        return msgspec.convert({} if tree is None else tree, Config)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        raise errors.Usage(str(cause if isinstance(cause, errors.Usage) else error)) from error


def json_schema() -> dict[str, object]:
    """The JSON Schema of the configuration file."""
    return msgspec.json.schema(Config)
