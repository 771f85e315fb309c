"""`run`: the agent itself. I/O."""

from __future__ import annotations

import argparse
import asyncio

from reconciler.cpu import topology as topologies
from reconciler.daemon import logs, options, supervisor
from reconciler.host import cgroupfs, cgroupmount, contained, sysfs
from reconciler.sim import kernel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    default = options.Options()
    parser.add_argument("--config", metavar="FILE", help="YAML configuration (default: all defaults)")
    parser.add_argument(
        "--source",
        choices=["auto", "nri", "cri", "cgroup"],
        default=default.source,
        help="door to the runtime; auto takes the best that works (default: %(default)s)",
    )
    parser.add_argument(
        "--nri-socket", metavar="PATH", default=default.nri_socket, help="default: %(default)s"
    )
    parser.add_argument(
        "--cri-socket", metavar="PATH", default=default.cri_socket, help="default: %(default)s"
    )
    parser.add_argument(
        "--host-root",
        metavar="DIR",
        default=default.host_root,
        help="all host files are read and written below it (default: %(default)s)",
    )
    parser.add_argument("--state-dir", metavar="DIR", default=default.state_dir, help="default: %(default)s")
    parser.add_argument(
        "--api-socket", metavar="PATH", default=default.api_socket, help="default: %(default)s"
    )
    parser.add_argument("--dry-run", action="store_true", help="plan, and write nothing")
    parser.add_argument(
        "--simulated", action="store_true", help="the host root is a plain directory, not a real machine"
    )
    parser.add_argument("--log-format", choices=["json", "text"], default=default.log_format)


def run(given: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    chosen = options.Options(
        config=given.config,
        source=given.source,
        nri_socket=given.nri_socket,
        cri_socket=given.cri_socket,
        host_root=given.host_root,
        state_dir=given.state_dir,
        api_socket=given.api_socket,
        simulated=given.simulated,
        dry=given.dry_run,
        log_format=given.log_format,
    )
    asyncio.run(supervisor.run(chosen, tree(chosen), logs.configure(chosen.log_format)))
    return 0


def tree(chosen: options.Options) -> cgroupfs.Cgroupfs:
    """The host's cgroups, or a directory that stands for them. Raises Unsuitable."""
    if not chosen.simulated:
        cgroupmount.check(chosen.cgroup_root)
        return contained.tree(chosen.cgroup_root)
    topology: topologies.Topology = sysfs.topology(chosen.host_root)
    return kernel.SimulatedCgroupfs(chosen.cgroup_root, topology)
