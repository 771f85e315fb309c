"""How long CreateContainer waits for its answer, beside the smallest plugin there can be. I/O.

Both plugins run in processes of their own and are asked in turns, so that a machine that slows down slows
both. They and whoever asks are bound to CPUs: else the scheduler's choice, which differs by more than the
plugins do, would be measured. `apart` is what a node does, waking another CPU included; `together` is the
stricter comparison, in which nothing but work counts.
"""

from __future__ import annotations

import argparse
import contextlib
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
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import runtime_pods

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRIVIAL = f"{shlex.quote(sys.executable)} -m hack.benchmarks.trivial_plugin {{socket}}"
_ALIASES = {"nriapi_pb2": "nri_pb2", "ttrpc_pb2": "ttrpc_pb2"}
_NAMING = runtime_pods.Naming()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case. Times in microseconds; `*_ratio` is this plugin's time over the floor's."""

    cpus: str
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
        default=TRIVIAL,
        metavar="COMMAND",
        help="plugin to measure; {socket} is the path it connects to (default: one that answers a constant)",
    )
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
        _case(options, cpus, containers, gap)
        for cpus in options.cpus
        for containers in options.containers
        for gap in options.gap
    ]


def _case(options: argparse.Namespace, cpus: str, containers: int, gap_ms: float) -> Row:
    with contextlib.ExitStack() as stack:
        cpu = stack.enter_context(_bound(cpus))
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        for alias, module in _ALIASES.items():
            (folder / f"{alias}.py").write_text(f"from reconciler.runtime.nri.{module} import *\n")
        floor_command = [sys.executable, str(options.floor), "{socket}"]
        floor = stack.enter_context(_plugin(folder, "floor", floor_command, containers, cpu))
        ours = stack.enter_context(_plugin(folder, "ours", shlex.split(options.plugin), containers, cpu))
        numbers = iter(range(containers, 1 << 30))
        _round(floor, numbers, options.requests, 0.0)
        _round(ours, numbers, options.requests, 0.0)
        floor_times: list[float] = []
        times: list[float] = []
        for _ in range(options.rounds):
            floor_times += _round(floor, numbers, options.requests, gap_ms / 1000)
            times += _round(ours, numbers, options.requests, gap_ms / 1000)
    return _row(cpus, containers, gap_ms, floor_times, times)


def _row(cpus: str, containers: int, gap_ms: float, floor: Sequence[float], ours: Sequence[float]) -> Row:
    floor_median, floor_p99 = _summary(floor)
    median, p99 = _summary(ours)
    return Row(
        cpus=cpus,
        containers=containers,
        gap_ms=gap_ms,
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
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        arguments = [argument.replace("{socket}", path) for argument in command]
        process = subprocess.Popen(arguments, env=environment, cwd=folder)
        os.sched_setaffinity(process.pid, {cpu})
        try:
            peer = wire.Peer(listener)
            pairs = [_container(number) for number in range(containers)]
            peer.introduce([pod for pod, _ in pairs], [container for _, container in pairs])
            yield peer
            peer.close()
        finally:
            process.kill()
            process.wait()


def _round(peer: wire.Peer, numbers: Iterator[int], requests: int, gap: float) -> list[float]:
    """The answer times of so many creations. Each container is stopped and removed again, untimed, so that
    the number of containers known stays."""
    times = []
    for _ in range(requests):
        pod, container = _container(next(numbers))
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


def _container(number: int) -> tuple[nri_pb2.PodSandbox, nri_pb2.Container]:
    """A shared container and its pod, with the annotations that pods commonly carry."""
    spec = runtime_pods.PodSpec(
        name=f"pod-{number}",
        uid=f"1edccc15-71c1-4a3e-8c5d-{number:012x}",
        qos=events.Qos.BURSTABLE,
        annotations={
            "kubernetes.io/config.seen": "2026-01-01T00:00:00.000000000Z",
            "kubernetes.io/config.source": "api",
        },
    )
    pod = runtime_pods.pod_message(spec, runtime_pods.make_id("sandbox", number), _NAMING)
    wanted = runtime_pods.ContainerSpec(name="main", request=250)
    return pod, runtime_pods.container_message(wanted, pod, runtime_pods.make_id("c", number), _NAMING)
