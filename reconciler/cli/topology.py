"""`topology`: shows the machine as placement sees it. I/O: reads sysfs."""

from __future__ import annotations

import argparse

from reconciler.cli import output
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import options
from reconciler.host import sysfs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `topology`."""
    parser.add_argument(
        "--host-root", metavar="DIR", default=options.Options().host_root, help="default: %(default)s"
    )
    output.add_output(parser)


def run(given: argparse.Namespace) -> int:
    """Print the topology."""
    topology = sysfs.topology(given.host_root)
    if given.output == "json":
        output.print_json(document(topology))
    else:
        print(text(topology))
    return 0


def document(topology: topologies.Topology) -> dict[str, object]:
    """The topology as JSON; CPUs as kernel lists."""
    return {
        "online": str(topology.online),
        "offline": str(topology.offline),
        "isolated": str(topology.isolated),
        "sockets": [str(socket) for socket in topology.sockets],
        "nodes": [
            {
                "id": node.id,
                "cpus": str(node.cpus),
                "memory": node.has_memory,
                "distances": {str(other): distance for other, distance in node.distances.items()},
            }
            for node in topology.nodes
        ],
        "llcs": [str(llc) for llc in topology.llcs],
        "cores": [str(core) for core in topology.cores],
    }


def text(topology: topologies.Topology) -> str:
    """The topology as a tree: nodes, their last-level caches, their cores."""
    lines = [
        f"online    {topology.online}",
        f"offline   {topology.offline or '-'}",
        f"isolated  {topology.isolated or '-'}",
        f"sockets   {' | '.join(str(socket) for socket in topology.sockets)}",
    ]
    for node in topology.nodes:
        memory = "" if node.has_memory else ", no memory"
        distances = " ".join(f"{other}:{distance}" for other, distance in node.distances.items())
        lines.append(f"node {node.id}: CPUs {node.cpus or '-'}{memory}, distances {distances or '-'}")
        for llc in _within(topology.llcs, node.cpus):
            cores = " ".join(f"[{core}]" for core in _within(topology.cores, llc))
            lines.append(f"  cache {llc}: cores {cores}")
    return "\n".join(lines)


def _within(groups: tuple[CpuSet, ...], cpus: CpuSet) -> list[CpuSet]:
    return [group & cpus for group in groups if not group.isdisjoint(cpus)]
