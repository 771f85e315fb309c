"""What the agent makes of very many wrong writes: does it keep up, grow, or leave one untold. I/O.

The agent runs in a process of its own over a directory that stands for a machine, while this one writes wrong
lists into random containers' `cpuset.cpus` at a steady rate. `unreported` is how many drifts a witness of the
agent's looks has seen of which the history has none: what was overwritten before anybody looked is no drift.
`settled_ms` is from the last wrong write until every container is as it should be. Who is written to all the
time is in conflict, where a repair may wait for `fights.longestPauseSeconds`, which that time is made of.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hack.benchmarks import wire
from reconciler import errors, events
from reconciler.cpu import topology as topologies
from reconciler.daemon import api
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import kernel, machine, runtime_pods

ROOT = pathlib.Path(__file__).resolve().parents[2]
_SHAPE = machine.Shape(sockets=2, cores=16)
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
_IN_A_POD = 10
_EXCLUSIVE_PODS = 1
"""Of so many pods each container has two CPUs of its own; all others share the rest."""
_PATIENCE = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")
_OVERFLOWS = "cpuset_reconciler_inotify_overflows_total "


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run. Memory in MiB after a second, half of the time and all; `agent_cpu` in percent of one."""

    containers: int
    writes: int
    per_second: float
    settled_ms: float
    found: int
    repaired: int
    unrepaired: int
    rows: int
    unreported: int
    overflows: int
    rss_first: float
    rss_half: float
    rss_last: float
    history_kib: float
    log_lines: int
    agent_cpu: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `hack/bench drift`."""
    parser.add_argument("--containers", type=int, default=500, metavar="N")
    parser.add_argument("--rate", type=float, default=1000.0, metavar="N", help="wrong writes a second")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="for which they are written")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)


def run(options: argparse.Namespace) -> list[Row]:
    """Measure so many rounds, each with a node of its own."""
    chances = (random.Random(options.seed + number) for number in range(options.rounds))  # noqa: S311
    return [_round(options, chance) for chance in chances]


class Node:
    """The machine, its containers' files, and the agent."""

    def __init__(self, folder: pathlib.Path, containers: int) -> None:
        self.folder = folder
        self.root = folder / "host"
        self.socket = str(folder / "api.sock")
        self.pods, self.containers = _containers(containers)
        files = machine.build(_SHAPE)
        machine.write(str(self.root), files)
        cgroups = self.root / "sys/fs/cgroup"
        with contextlib.closing(kernel.SimulatedCgroupfs(str(cgroups), topologies.parse(files))) as tree:
            paths = [runtime_pods.directory(message) for message in (*self.pods, *self.containers)]
            for path in paths:
                tree.make(str(path))
        self.files = [str(cgroups / str(path) / "cpuset.cpus") for path in paths[len(self.pods) :]]

    @contextlib.contextmanager
    def agent(self) -> Iterator[int]:
        """The agent, which knows of all; its process. All is in order."""
        command = [sys.executable, "-m", "hack.benchmarks.drift_agent", str(self.folder)]
        with socket.socket(socket.AF_UNIX) as listener, open(self.folder / "log", "wb") as log:
            listener.bind(str(self.folder / "nri.sock"))
            listener.listen(1)
            process = subprocess.Popen(command, cwd=ROOT, stderr=log)
            try:
                peer = wire.Peer(listener)
                peer.introduce(self.pods, self.containers)
                self.settle()
                yield process.pid
                peer.close()
            finally:
                process.terminate()
                process.wait()

    def ask(self, request: str, **more: object) -> dict[str, Any]:
        """The agent's answer."""
        return asyncio.run(api.ask(self.socket, {"request": request, **more}))

    def settle(self) -> dict[str, Any]:
        """The status, once all is in order. Raises TimeoutError where it does not become so."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with contextlib.suppress(errors.Retryable):
                document = self.ask("status")
                if document["converged"] and document["mode"] == "nri":
                    return document
            time.sleep(0.05)
        raise TimeoutError("the node does not converge")

    def texts(self) -> list[str]:
        """What the `cpuset.cpus` of each container says."""
        return [pathlib.Path(file).read_text().strip() for file in self.files]

    def history(self) -> list[dict[str, Any]]:
        """All drifts."""
        latest: dict[str, dict[str, Any]] = {}
        after, more = 0, True
        while more:
            answer = self.ask("drifts", after=after)
            for row in answer["drifts"]:
                latest[row["drift"]] = row
                after = max(after, row["rev"])
            more = answer["more"]
        return list(latest.values())

    def overflows(self) -> int:
        """How often the kernel has dropped events for the agent."""
        lines = self.ask("metrics")["text"].splitlines()
        return sum(int(float(line.split()[1])) for line in lines if line.startswith(_OVERFLOWS))


def _round(options: argparse.Namespace, chance: random.Random) -> Row:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_MEMORY) as name:
        folder = pathlib.Path(name)
        node = Node(folder, options.containers)
        with node.agent() as pid:
            right, cpu, begin = node.texts(), _cpu_seconds(pid), time.monotonic()
            wrong = _Wrong(node.files, right, chance)
            first = wrong.write(options.rate, 1.0, pid)
            half = wrong.write(options.rate, options.seconds / 2 - 1.0, pid)
            last = wrong.write(options.rate, options.seconds / 2, pid)
            ended = time.monotonic()
            while node.texts() != right:
                if time.monotonic() > ended + _PATIENCE:
                    raise TimeoutError("not all is repaired")
            settled = time.monotonic() - ended
            busy = _cpu_seconds(pid) - cpu
            status, rows, overflows = node.settle(), node.history(), node.overflows()
            kept = sum(its.stat().st_size for its in (folder / "state").glob("drifts.*"))
        seen = int((folder / "seen").read_text())
        return Row(
            containers=options.containers,
            writes=wrong.writes,
            per_second=wrong.writes / (ended - begin),
            settled_ms=settled * 1000,
            **status["drift"],
            unreported=seen - sum(row["drifts"] for row in rows),
            rows=len(rows),
            overflows=overflows,
            rss_first=first,
            rss_half=half,
            rss_last=last,
            history_kib=kept / 1024,
            log_lines=(folder / "log").read_bytes().count(b"\n"),
            agent_cpu=100 * busy / (ended + settled - begin),
        )


class _Wrong:
    """Writes wrong lists."""

    def __init__(self, files: Sequence[str], right: Sequence[str], chance: random.Random) -> None:
        self._files = [os.open(file, os.O_WRONLY) for file in files]
        self._right = right
        self._chance = chance
        self.writes = 0

    def write(self, rate: float, seconds: float, pid: int) -> float:
        """Write at that rate for so long; the MiB of this process's memory at the end."""
        begin = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(begin + number / rate - time.monotonic(), 0.0))
            self._one()
        return _resident(pid)

    def _one(self) -> None:
        which = self._chance.randrange(len(self._files))
        text = self._right[which]
        while text == self._right[which]:
            low = self._chance.randrange(_SHAPE.cpus - 1)
            text = f"{low}-{self._chance.randrange(low + 1, _SHAPE.cpus)}"
        # In one write of the same length, as a kernel's file never shows half a list.
        size = os.fstat(self._files[which]).st_size
        os.pwrite(self._files[which], text.encode().ljust(size - 1) + b"\n", 0)
        self.writes += 1


def _containers(count: int) -> tuple[list[nri_pb2.PodSandbox], list[nri_pb2.Container]]:
    naming = runtime_pods.Naming()
    pods, containers = [], []
    for number in range(count):
        if number % _IN_A_POD == 0:
            is_exclusive = number < _EXCLUSIVE_PODS * _IN_A_POD
            pod = runtime_pods.PodSpec(
                name=f"pod-{number}",
                uid=f"1edccc15-71c1-4a3e-8c5d-{number:012x}",
                qos=events.Qos.GUARANTEED if is_exclusive else events.Qos.BURSTABLE,
            )
            limit = 2000 if is_exclusive else None
            pods.append(runtime_pods.pod_message(pod, runtime_pods.make_id("sandbox", number), naming))
        spec = runtime_pods.ContainerSpec(name=f"c{number}", limit=limit, request=limit or 250)
        message = runtime_pods.container_message(spec, pods[-1], runtime_pods.make_id("c", number), naming)
        message.state = nri_pb2.CONTAINER_RUNNING
        containers.append(message)
    return pods, containers


def _resident(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
