"""Regular machines as sysfs texts, by path below the host's root. `write` does I/O, the rest is pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet

_LOCAL = 10
_SAME_SOCKET = 12
_OTHER_SOCKET = 21  # what two-socket servers commonly report (ACPI SLIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many of each: sockets, nodes a socket, last-level caches a node, cores a cache, threads a core.

    `adjacent`: the threads of a core have neighbouring ids, as QEMU numbers them; else the second threads
    come after all first ones, as Linux numbers x86 servers.
    """

    sockets: int
    nodes: int = 1
    llcs: int = 1
    cores: int
    threads: int = 2
    adjacent: bool = False
    distance: int = _OTHER_SOCKET

    @property
    def cpus(self) -> int:
        """The number of logical CPUs."""
        return self.sockets * self.nodes * self.llcs * self.cores * self.threads


def two_sockets() -> dict[str, str]:
    """The demo's machine: 2 sockets with a NUMA node each, 4 cores of 2 threads in each: 16 CPUs."""
    return build(Shape(sockets=2, cores=4))


def vm() -> dict[str, str]:
    """The emulated node of the end-to-end tests: 8 CPUs, 2 sockets with a node each, 2 cores of 2 threads."""
    return build(Shape(sockets=2, cores=2, adjacent=True, distance=20))


def build(shape: Shape) -> dict[str, str]:
    """The sysfs texts of such a machine, all CPUs online."""
    everything = CpuSet(range(shape.cpus))
    cores = list(_cores(shape))
    per_llc, per_node = shape.cores, shape.cores * shape.llcs
    node_ids = range(shape.sockets * shape.nodes)
    nodes_text = f"0-{node_ids[-1]}\n" if len(node_ids) > 1 else "0\n"
    files = {
        topologies.ONLINE: f"{everything}\n",
        topologies.PRESENT: f"{everything}\n",
        topologies.ISOLATED: "\n",
        topologies.NODES_ONLINE: nodes_text,
        topologies.NODES_WITH_MEMORY: nodes_text,
    }
    for node in node_ids:
        cpus = _union(cores[node * per_node : (node + 1) * per_node])
        distances = " ".join(str(_distance(shape, node, other)) for other in node_ids)
        files[f"{topologies.node_path(node)}/cpulist"] = f"{cpus}\n"
        files[f"{topologies.node_path(node)}/distance"] = f"{distances}\n"
    for index, core in enumerate(cores):
        llc = index // per_llc * per_llc
        shared = _union(cores[llc : llc + per_llc])
        package = index // (per_node * shape.nodes)
        for cpu in core:
            files.update(_cpu(cpu, core, shared, package))
    return files


def write(root: str, files: Mapping[str, str]) -> None:
    """Write the texts below `root`, with the directories that they need. Nobody sees half a text."""
    for path, text in files.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(f"{full}.new", "w", encoding="ascii") as file:
            file.write(text)
        os.replace(f"{full}.new", full)


def _cores(shape: Shape) -> Iterator[CpuSet]:
    count = shape.cpus // shape.threads
    for core in range(count):
        if shape.adjacent:
            yield CpuSet(range(core * shape.threads, (core + 1) * shape.threads))
        else:
            yield CpuSet(range(core, shape.cpus, count))


def _cpu(cpu: int, core: CpuSet, shared: CpuSet, package: int) -> dict[str, str]:
    """One CPU: its core's threads, its socket, a cache of the core's own and the last-level one."""
    files = {
        topologies.siblings_paths(cpu)[0]: f"{core}\n",
        topologies.package_path(cpu): f"{package}\n",
    }
    caches = ((1, "Data", core), (1, "Instruction", core), (2, "Unified", core), (3, "Unified", shared))
    for index, (level, kind, cpus) in enumerate(caches):
        directory = topologies.cache_path(cpu, index)
        files[f"{directory}/level"] = f"{level}\n"
        files[f"{directory}/type"] = f"{kind}\n"
        files[f"{directory}/shared_cpu_list"] = f"{cpus}\n"
    return files


def _distance(shape: Shape, node: int, other: int) -> int:
    if node == other:
        return _LOCAL
    return _SAME_SOCKET if node // shape.nodes == other // shape.nodes else shape.distance


def _union(sets: list[CpuSet]) -> CpuSet:
    union = CpuSet()
    for cpus in sets:
        union |= cpus
    return union
