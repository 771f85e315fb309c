"""The agent keeps its own threads on the CPUs that it is given; shown in a process of its own."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from reconciler import errors
from reconciler.cpu.idset import CpuSet
from reconciler.host import processes

ALLOWED = CpuSet(os.sched_getaffinity(0))
_PROGRAM = """
import json, os, sys, threading
from reconciler.cpu.idset import CpuSet
from reconciler.host import processes

stop = threading.Event()
before = [threading.Thread(target=stop.wait) for _ in range(3)]
for thread in before:
    thread.start()
processes.confine_self(CpuSet.parse(sys.argv[1], what="argument"))
after = threading.Thread(target=stop.wait)
after.start()
tasks = sorted(os.listdir("/proc/self/task"), key=int)
print(json.dumps([sorted(os.sched_getaffinity(int(task))) for task in tasks]))
stop.set()
"""


def affinities(cpus: CpuSet) -> list[list[int]]:
    """The CPUs of each thread of a process of five threads, four of them there when it confines itself."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(cpus)], check=True, capture_output=True, text=True, timeout=60
    )
    said: list[list[int]] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize(
    "cpus", [CpuSet([ALLOWED.first()]), CpuSet([max(ALLOWED)]), ALLOWED], ids=["first", "last", "all"]
)
def test_every_thread_is_confined_also_one_that_is_made_later(cpus: CpuSet) -> None:
    assert affinities(cpus) == [list(cpus)] * 5


def test_cpus_that_do_not_exist_are_left_out_by_the_kernel() -> None:
    first = ALLOWED.first()
    absent = 1000
    assert affinities(CpuSet([first, absent])) == [[first]] * 5


@pytest.mark.parametrize(
    ("cpus", "number"),
    [
        pytest.param(CpuSet(), errno.EINVAL, id="none"),
        pytest.param(CpuSet([1000]), errno.EINVAL, id="none-that-exists"),
    ],
)
def test_without_a_cpu_to_run_on_nothing_changes(cpus: CpuSet, number: int) -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(errors.HostFileError, match="set the affinity of /proc/self") as caught:
        processes.confine_self(cpus)
    assert caught.value.errno == number
    assert os.sched_getaffinity(0) == before
