"""Who ran on a CPU, told by the kernel's own trace of every switch of tasks: no sample, so nothing is missed.

A trace instance of tracefs (Documentation/trace/ftrace.rst) records `sched_switch` on all CPUs. The
exclusive container writes `begin` into the trace as its first act and `end` as its last, so the time between
is measured with the clock of the switches themselves.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from reconciler.cpu.idset import CpuSet
from tests.e2e import kubelet, node

_TRACEFS = pathlib.Path("/sys/kernel/tracing")
_KIB_A_CPU = 4096
_LINE = re.compile(
    r"^\s*(?P<comm>.+)-(?P<pid>[0-9]+)\s+\[(?P<cpu>[0-9]+)\]\s+\S+\s+(?P<at>[0-9.]+): (?P<what>.*)$"
)
_SWITCH = re.compile(
    r"sched_switch: prev_comm=(?P<was>.+) prev_pid=(?P<prev>[0-9]+) prev_prio=.*"
    r" ==> next_comm=(?P<now>.+) next_pid=(?P<next>[0-9]+) next_prio="
)
_MARK = re.compile(r"tracing_mark_write: (begin|end)")
_KERNEL_THREAD = 0x0020_0000
"""PF_KTHREAD of `flags`, the 9th field of proc_pid_stat(5)."""
_KERNEL_NAMES = ("kworker/", "ksoftirqd/", "migration/", "rcu", "cpuhp/", "kcompactd", "idle_inject/")
"""How kernel threads are called that may be gone when they are asked for."""
_WORK = (
    "echo begin > /tracing/trace_marker; i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done;"
    " echo end > /tracing/trace_marker"
)


@dataclass(frozen=True, slots=True)
class Switch:
    """On a CPU, at a time in seconds, one task gave way to another: their pids and names."""

    at: float
    cpu: int
    before: tuple[int, str]
    after: tuple[int, str]


@dataclass(slots=True)
class Life:
    """What ran on the CPUs of one container between its first act and its last, as counts by name."""

    seconds: float
    containers: Counter[str] = field(default_factory=Counter)
    host: Counter[str] = field(default_factory=Counter)
    kernel: Counter[str] = field(default_factory=Counter)


class Trace:
    """The trace, from entering to leaving."""

    def __init__(self) -> None:
        self._folder = _TRACEFS / "instances/exposure"

    def __enter__(self) -> Self:
        if not (_TRACEFS / "instances").exists():
            subprocess.run(["mount", "-t", "tracefs", "tracefs", str(_TRACEFS)], check=True)
        self._folder.mkdir()
        self._write("buffer_size_kb", str(_KIB_A_CPU))
        self._write("trace_clock", "mono")
        self._write("events/sched/sched_switch/enable", "1")
        return self

    def __exit__(self, *exc: object) -> None:
        self._write("events/sched/sched_switch/enable", "0")
        self._folder.rmdir()

    def _write(self, file: str, text: str) -> None:
        (self._folder / file).write_text(text)

    def clear(self) -> None:
        """Forget what was recorded."""
        self._write("trace", "\n")

    def mounts(self) -> list[node.Mount]:
        """What `command` needs of the host."""
        return [node.Mount(host=str(self._folder), inside="/tracing")]

    def life(self, cpus: CpuSet) -> Life:
        """Who else ran on these CPUs in the life of the container that had them. Its marks must be there."""
        switches, begin, end, own = parse((self._folder / "trace").read_text())
        lost = [path.read_text() for path in self._folder.glob("per_cpu/cpu*/stats")]
        assert all(re.search(r"^overrun: 0$", text, re.MULTILINE) for text in lost), "the trace was too short"
        assert begin < end, "the container has not marked its begin and its end"
        life = Life(seconds=end - begin)
        for pid, name in ran(switches, cpus, begin, end):
            if pid not in (0, own):
                _kind(life, pid, name)[name] += 1
        return life


def command() -> list[str]:
    """A workload that marks its begin, computes, and marks its end; one process from begin to end."""
    return ["/bin/sh", "-c", _WORK]


def parse(text: str) -> tuple[list[Switch], float, float, int]:
    """Of a trace: the switches, the last `begin`, the last `end`, and the pid that wrote them."""
    switches, begin, end, own = [], 0.0, 0.0, 0
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        at = float(found["at"])
        if mark := _MARK.search(found["what"]):
            own = int(found["pid"])
            begin, end = (at, end) if mark[1] == "begin" else (begin, at)
        elif switch := _SWITCH.search(found["what"]):
            before, after = (int(switch["prev"]), switch["was"]), (int(switch["next"]), switch["now"])
            switches.append(Switch(at, int(found["cpu"]), before, after))
    return switches, begin, end, own


def ran(switches: list[Switch], cpus: CpuSet, begin: float, end: float) -> list[tuple[int, str]]:
    """The tasks that were on any of the CPUs at any time from `begin` to `end`, once for each stretch."""
    found = []
    for cpu in cpus:
        on_it = [switch for switch in switches if switch.cpu == cpu]
        within = [switch for switch in on_it if begin < switch.at <= end]
        earlier = [switch for switch in on_it if switch.at <= begin]
        if within:
            found.append(within[0].before)
        elif earlier:
            found.append(earlier[-1].after)
        found += [switch.after for switch in within]
    return found


def _kind(life: Life, pid: int, name: str) -> Counter[str]:
    stat, group = pathlib.Path(f"/proc/{pid}/stat"), pathlib.Path(f"/proc/{pid}/cgroup")
    try:
        flags = int(stat.read_text().rpartition(")")[2].split()[9 - 3])
        where = group.read_text().strip().removeprefix("0::")
    except (FileNotFoundError, ProcessLookupError):
        return life.kernel if name.startswith(_KERNEL_NAMES) else life.host
    if flags & _KERNEL_THREAD:
        return life.kernel
    inside = where.startswith(f"/{kubelet.KUBEPODS.relative_to(kubelet.ROOT)}/")
    return life.containers if inside else life.host
