"""How long CreateContainer waits for its answer, beside the smallest plugin there can be. I/O.

`pool` says whether the container that is created changes the shared pool: a shared one leaves it unchanged,
an exclusive one shrinks it under all others, whose cgroups are files in memory.

Both plugins run in processes of their own and are asked in turns, so that a machine that slows down slows
both. They and whoever asks are bound to CPUs: else the scheduler's choice, which differs by more than the
plugins do, would be measured. `apart` is what a node does, waking another CPU included; `together` is the
stricter comparison, in which nothing but work counts.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import pathlib
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hack.benchmarks import wire
from reconciler import events
from reconciler.cpu import topology as topologies
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import kernel, machine, runtime_pods

ROOT = pathlib.Path(__file__).resolve().parents[2]
AGENT = f"{shlex.quote(sys.executable)} -m hack.benchmarks.agent_plugin {{socket}} {{root}}"
TRIVIAL = f"{shlex.quote(sys.executable)} -m hack.benchmarks.trivial_plugin {{socket}}"
_SHAPE = machine.Shape(sockets=2, cores=16)
_ALIASES = {"nriapi_pb2": "nri_pb2", "ttrpc_pb2": "ttrpc_pb2"}
_NAMING = runtime_pods.Naming()
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
_KINDS = {
    "unchanged": (events.Qos.BURSTABLE, runtime_pods.ContainerSpec(name="main", request=250)),
    "changed": (events.Qos.GUARANTEED, runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)),
}
"""What is created, by what that does to the shared pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is measured: who runs where, what is created, how many containers are known, how dense."""

    cpus: str
    pool: str
    containers: int
    gap_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case. Times in microseconds; `*_ratio` is this plugin's time over the floor's."""

    cpus: str
    pool: str
    containers: int
    gap_ms: float
    requests: int
    floor_median: float
    floor_p99: float
    median: float
    p99: float
    median_ratio: float
    p99_ratio: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `hack/bench hook`."""
    floor = ROOT.parent / "shared" / "floor_plugin.py"
    parser.add_argument(
        "--floor", type=pathlib.Path, default=floor, help="the yardstick (default: %(default)s)"
    )
    parser.add_argument(
        "--plugin",
        default=AGENT,
        metavar="COMMAND",
        help="plugin to measure; {socket} is what it connects to, {root} its machine (default: the agent)",
    )
    parser.add_argument(
        "--trivial",
        dest="plugin",
        action="store_const",
        const=TRIVIAL,
        help="measure a plugin that answers a constant: the protocol's part",
    )
    parser.add_argument("--pool", nargs="+", choices=list(_KINDS), default=list(_KINDS))
    parser.add_argument("--containers", type=int, nargs="+", default=[10, 1000], metavar="N")
    parser.add_argument(
        "--gap", type=float, nargs="+", default=[2.0, 0.0], metavar="MS", help="pause between requests"
    )
    parser.add_argument("--cpus", nargs="+", choices=["apart", "together"], default=["apart", "together"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--requests", type=int, default=200, metavar="N", help="requests per round and plugin"
    )


def run(options: argparse.Namespace) -> list[Row]:
    """Measure every case that the options ask for. Raises SystemExit where the yardstick is not there."""
    if not options.floor.is_file():
        raise SystemExit(f"hack/bench: {options.floor} is not there; name the yardstick with --floor")
    return [
        _case(options, Case(cpus=cpus, pool=pool, containers=containers, gap_ms=gap))
        for cpus in options.cpus
        for pool in options.pool
        for containers in options.containers
        for gap in options.gap
    ]


def _case(options: argparse.Namespace, case: Case) -> Row:
    with contextlib.ExitStack() as stack:
        cpu = stack.enter_context(_bound(case.cpus))
        # In memory: a disk would be measured otherwise.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=_MEMORY))
        for alias, module in _ALIASES.items():
            text = f"from reconciler.runtime.nri.{module} import *\n"
            pathlib.Path(folder, f"{alias}.py").write_text(text)
        floor_command = [sys.executable, str(options.floor), "{socket}"]
        plugins = [
            stack.enter_context(_plugin(pathlib.Path(folder), name, command, case.containers, cpu))
            for name, command in (("floor", floor_command), ("ours", shlex.split(options.plugin)))
        ]
        numbers = itertools.count(case.containers)
        times: tuple[list[float], list[float]] = ([], [])
        for plugin in plugins:
            _round(plugin, numbers, options.requests, case, gap=0.0)
        for _ in range(options.rounds):
            for plugin, taken in zip(plugins, times, strict=True):
                taken.extend(_round(plugin, numbers, options.requests, case, gap=case.gap_ms / 1000))
    return _row(case, *times)


def _row(case: Case, floor: Sequence[float], ours: Sequence[float]) -> Row:
    floor_median, floor_p99 = _summary(floor)
    median, p99 = _summary(ours)
    return Row(
        cpus=case.cpus,
        pool=case.pool,
        containers=case.containers,
        gap_ms=case.gap_ms,
        requests=len(ours),
        floor_median=floor_median,
        floor_p99=floor_p99,
        median=median,
        p99=p99,
        median_ratio=median / floor_median,
        p99_ratio=p99 / floor_p99,
    )


def _summary(times: Sequence[float]) -> tuple[float, float]:
    micros = [time_ * 1e6 for time_ in times]
    return statistics.median(micros), statistics.quantiles(micros, n=100)[98]


@contextlib.contextmanager
def _bound(cpus: str) -> Iterator[int]:
    """Bind this process to a CPU, and give the one for the plugins; where there is but one, the same."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield max(before) if cpus == "apart" else min(before)
    os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _plugin(
    folder: pathlib.Path, name: str, command: Sequence[str], containers: int, cpu: int
) -> Iterator[wire.Peer]:
    """A plugin in a process of its own, registered and told of `containers` containers."""
    path = str(folder / f"{name}.sock")
    root = folder / f"{name}-host"
    pairs = [_container(number, "unchanged") for number in range(containers)]
    _make_machine(root, pairs)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        arguments = [argument.replace("{socket}", path).replace("{root}", str(root)) for argument in command]
        process = subprocess.Popen(arguments, env=environment, cwd=folder)
        os.sched_setaffinity(process.pid, {cpu})
        try:
            peer = wire.Peer(listener)
            peer.introduce([pod for pod, _ in pairs], [container for _, container in pairs])
            yield peer
            peer.close()
        finally:
            process.kill()
            process.wait()


def _make_machine(root: pathlib.Path, pairs: Sequence[tuple[nri_pb2.PodSandbox, nri_pb2.Container]]) -> None:
    """A machine's files, with the cgroups of these containers."""
    files = machine.build(_SHAPE)
    machine.write(str(root), files)
    topology = topologies.parse(files)
    with contextlib.closing(kernel.SimulatedCgroupfs(str(root / "sys/fs/cgroup"), topology)) as tree:
        for pod, container in pairs:
            for message in (pod, container):
                path = runtime_pods.directory(message)
                if path is not None:
                    tree.make(path)


def _round(peer: wire.Peer, numbers: Iterator[int], requests: int, case: Case, *, gap: float) -> list[float]:
    """The answer times of so many creations. Each one's sandbox is announced before and everything removed
    again after, untimed, so that the number of containers known stays."""
    times = []
    for _ in range(requests):
        pod, container = _container(next(numbers), case.pool)
        run = nri_pb2.StateChangeEvent(event=nri_pb2.RUN_POD_SANDBOX, pod=pod)
        peer.call("StateChange", run)
        if gap:
            time.sleep(gap)
        times.append(
            peer.timed("CreateContainer", nri_pb2.CreateContainerRequest(pod=pod, container=container))
        )
        peer.call("StopContainer", nri_pb2.Lifecycle(pod=pod, container=container))
        for event in (nri_pb2.REMOVE_CONTAINER, nri_pb2.STOP_POD_SANDBOX, nri_pb2.REMOVE_POD_SANDBOX):
            change = nri_pb2.StateChangeEvent(event=event, pod=pod, container=container)
            peer.call("StateChange", change)
    return times


def _container(number: int, pool: str) -> tuple[nri_pb2.PodSandbox, nri_pb2.Container]:
    """A container and its pod, with the annotations that pods commonly carry."""
    qos, wanted = _KINDS[pool]
    spec = runtime_pods.PodSpec(
        name=f"pod-{number}",
        uid=f"1edccc15-71c1-4a3e-8c5d-{number:012x}",
        qos=qos,
        annotations={
            "kubernetes.io/config.seen": "2026-01-01T00:00:00.000000000Z",
            "kubernetes.io/config.source": "api",
        },
    )
    pod = runtime_pods.pod_message(spec, runtime_pods.make_id("sandbox", number), _NAMING)
    return pod, runtime_pods.container_message(wanted, pod, runtime_pods.make_id("c", number), _NAMING)
