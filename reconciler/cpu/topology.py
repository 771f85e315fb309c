"""A machine's CPUs: nodes, last-level caches, cores, and the sysfs texts that they are read from. Pure.

`host.sysfs` reads the texts; nothing here knows of containers. Where a path is named it is relative to the
root of the host's file system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler import errors
from reconciler.cpu.idset import CpuSet, NodeSet

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"
ONLINE = f"{CPU}/online"
PRESENT = f"{CPU}/present"
ISOLATED = f"{CPU}/isolated"
NODES_ONLINE = f"{NODE}/online"
NODES_WITH_MEMORY = f"{NODE}/has_memory"

MAX_CACHES = 16
"""More than any CPU has; the kernel numbers its `cache/index*` from 0 without holes."""

_LOCAL_DISTANCE = 10
_REMOTE_DISTANCE = 20  # include/linux/topology.h: what the kernel assumes where firmware says nothing
_NO_PACKAGE = -1  # what the kernel itself prints for a CPU whose package it does not know


def siblings_paths(cpu: int) -> tuple[str, str]:
    """Where the threads of a CPU's core are listed: under today's name, and the name before Linux 5.3."""
    directory = f"{CPU}/cpu{cpu}/topology"
    return f"{directory}/core_cpus_list", f"{directory}/thread_siblings_list"


def package_path(cpu: int) -> str:
    """Where the socket of a CPU is named."""
    return f"{CPU}/cpu{cpu}/topology/physical_package_id"


def cache_path(cpu: int, index: int) -> str:
    """The directory of a CPU's cache `index`, with the files `level`, `type` and `shared_cpu_list`."""
    return f"{CPU}/cpu{cpu}/cache/index{index}"


def node_path(node: int) -> str:
    """The directory of a NUMA node, with the files `cpulist` and `distance`."""
    return f"{NODE}/node{node}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A NUMA node. `cpus` are its online CPUs, none for memory alone; `distances` are by node id (ACPI SLIT:
    10 is local)."""

    id: int
    cpus: CpuSet
    has_memory: bool
    distances: Mapping[int, int] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The CPUs of a machine at one moment.

    `nodes`, `llcs`, `cores` and `sockets` each hold every online CPU exactly once, in the order of node ids
    and of lowest CPUs. A last-level cache that spans several nodes counts as one in each of them, so that a
    node is made of whole caches. Without cache information the CPUs of a node count as one cache. `offline`
    CPUs are present and not online; `isolated` ones were set apart at boot and may be offline too.
    `llc_cores` are the cores of each cache, in the order of `llcs`.
    """

    online: CpuSet
    offline: CpuSet
    isolated: CpuSet
    nodes: tuple[Node, ...]
    llcs: tuple[CpuSet, ...]
    cores: tuple[CpuSet, ...]
    sockets: tuple[CpuSet, ...]
    llc_cores: tuple[tuple[CpuSet, ...], ...] = field(init=False, repr=False, compare=False)
    _core_of: Mapping[int, CpuSet] = field(init=False, repr=False, compare=False)
    _memory: tuple[tuple[CpuSet, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_core_of", {cpu: core for core in self.cores for cpu in core})
        by_llc = tuple(tuple(dict.fromkeys(self._core_of[cpu] for cpu in llc)) for llc in self.llcs)
        object.__setattr__(self, "llc_cores", by_llc)
        memory = tuple((node.cpus, 1 << _nearest_memory(node, self.nodes)) for node in self.nodes)
        object.__setattr__(self, "_memory", memory)

    def siblings(self, cpu: int) -> CpuSet:
        """The online CPUs of this CPU's core, itself among them; itself alone if it is not online. O(1)."""
        return self._core_of.get(cpu) or CpuSet((cpu,))

    def memory_nodes(self, cpus: CpuSet) -> NodeSet:
        """The nodes to take memory from for these CPUs; linear in the nodes.

        A node without memory stands for the nearest that has some: by distance, then by id.
        """
        bits = 0
        for members, memory in self._memory:
            if not members.isdisjoint(cpus):
                bits |= memory
        return NodeSet.from_bits(bits)


def _nearest_memory(node: Node, nodes: Iterable[Node]) -> int:
    if node.has_memory:
        return node.id
    others = ((node.distances[other.id], other.id) for other in nodes if other.has_memory)
    return min(others, default=(0, node.id))[1]


def parse(files: Mapping[str, str]) -> Topology:
    """The topology that sysfs texts describe, keyed by their paths; linear in the CPUs.

    Only the list of online CPUs is indispensable. A CPU without a list of siblings is a core of its own, one
    without a package belongs to the same socket as all such CPUs, and a machine without nodes is one node
    with memory. Raises Malformed, naming the file, where a text is not what the kernel writes.
    """
    if ONLINE not in files:
        raise errors.Malformed(ONLINE, "the list of online CPUs is missing")
    online = CpuSet.parse(files[ONLINE], what=ONLINE)
    if not online:
        raise errors.Malformed(ONLINE, "no CPU is online")
    lists = _Lists(files)
    nodes = tuple(_nodes(files, online))
    node_of = {cpu: node.cpus for node in nodes for cpu in node.cpus}
    return Topology(
        online=online,
        offline=CpuSet.parse(files.get(PRESENT, ""), what=PRESENT) - online,
        isolated=CpuSet.parse(files.get(ISOLATED, ""), what=ISOLATED),
        nodes=nodes,
        llcs=_partition(online, lambda cpu: _cache(lists, cpu, node_of[cpu])),
        cores=_partition(online, lambda cpu: _core(lists, cpu)),
        sockets=_sockets(files, online),
    )


class _Lists:
    """The CPU lists among the files; a text that many CPUs share is parsed once."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files
        self._parsed: dict[str, CpuSet] = {}

    def around(self, path: str, cpu: int) -> CpuSet | None:
        """The list at `path`, which must have `cpu` in it; None where there is no such file."""
        text = self.files.get(path)
        if text is None:
            return None
        found = self._parsed.get(text)
        if found is None:
            found = self._parsed[text] = CpuSet.parse(text, what=path)
        if cpu not in found:
            raise errors.Malformed(path, f"{found} does not have CPU {cpu} itself")
        return found


def _partition(online: CpuSet, group_of: Callable[[int], CpuSet]) -> tuple[CpuSet, ...]:
    """The groups that the online CPUs form; a CPU that two groups name stays in the first."""
    groups = []
    left = online
    for cpu in online:
        group = group_of(cpu)
        if cpu in left:
            groups.append(group & left)
            left -= group
    return tuple(groups)


def _core(lists: _Lists, cpu: int) -> CpuSet:
    today, before = siblings_paths(cpu)
    return lists.around(today, cpu) or lists.around(before, cpu) or CpuSet((cpu,))


def _cache(lists: _Lists, cpu: int, node: CpuSet) -> CpuSet:
    """The CPUs of this node that share the outermost cache for data with `cpu`."""
    outermost, found = 0, node
    for index in range(MAX_CACHES):
        directory = cache_path(cpu, index)
        if f"{directory}/level" not in lists.files:
            break
        level = _number(lists.files, f"{directory}/level")
        if level > outermost and lists.files.get(f"{directory}/type", "").strip() != "Instruction":
            shared = lists.around(f"{directory}/shared_cpu_list", cpu)
            if shared is not None:
                outermost, found = level, shared & node
    return found


def _sockets(files: Mapping[str, str], online: CpuSet) -> tuple[CpuSet, ...]:
    packages: dict[int, int] = {}
    for cpu in online:
        path = package_path(cpu)
        package = _number(files, path) if path in files else _NO_PACKAGE
        packages[package] = packages.get(package, 0) | 1 << cpu
    return tuple(CpuSet.from_bits(bits) for bits in packages.values())


def _nodes(files: Mapping[str, str], online: CpuSet) -> Iterator[Node]:
    if NODES_ONLINE not in files:
        yield Node(id=0, cpus=online, has_memory=True, distances={0: _LOCAL_DISTANCE})
        return
    ids = NodeSet.parse(files[NODES_ONLINE], what=NODES_ONLINE)
    with_memory = ids
    if NODES_WITH_MEMORY in files:
        with_memory = NodeSet.parse(files[NODES_WITH_MEMORY], what=NODES_WITH_MEMORY)
    left = online
    for id_ in ids:
        path = f"{node_path(id_)}/cpulist"
        cpus = CpuSet.parse(files.get(path, ""), what=path) & online
        if not cpus <= left:
            raise errors.Malformed(path, f"CPUs {cpus - left} belong to another node already")
        left -= cpus
        yield Node(id=id_, cpus=cpus, has_memory=id_ in with_memory, distances=_distances(files, id_, ids))
    if left:
        raise errors.Malformed(NODES_ONLINE, f"no node has the online CPUs {left}")


def _distances(files: Mapping[str, str], node: int, ids: NodeSet) -> dict[int, int]:
    """One number for each online node, in the order of their ids (drivers/base/node.c)."""
    path = f"{node_path(node)}/distance"
    if path not in files:
        return {other: _LOCAL_DISTANCE if other == node else _REMOTE_DISTANCE for other in ids}
    words = files[path].split()
    if len(words) != len(ids):
        raise errors.Malformed(path, f"{len(words)} distances for the {len(ids)} online nodes {ids}")
    if not all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words):
        raise errors.Malformed(path, f"{files[path].strip()[:40]!r} is not a row of distances")
    return dict(zip(ids, map(int, words), strict=True))


def _number(files: Mapping[str, str], path: str) -> int:
    """The one number in a file, -1 included. Raises Malformed."""
    text = files[path].strip()
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise errors.Malformed(path, f"{text[:40]!r} is not a number")
    return int(text)
