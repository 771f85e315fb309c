"""Who a process is: its command, its command line, its cgroup. I/O: reads a mounted procfs.

A process may end between two looks at it; what was read by then stands. What it says of itself is not to be
trusted: it chooses its own name.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_MOST_TEXT = 4096
MOST_SHOWN = 200
"""Characters of a command line that are kept."""
_UNIT = re.compile(r".+\.(?:service|scope|socket|mount|swap|slice)")
_IN_A_SLICE = re.compile(r".+\.(?:service|scope|socket|mount|swap)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """`command` is its name as of proc_pid_comm(5), at most 15 bytes; `cmdline` has its arguments, "" where
    it has ended or is a kernel thread's. `cgroup` is the path of its group as the reader sees it."""

    pid: int
    command: str
    cmdline: str
    cgroup: str


def procfs(host_root: str) -> str:
    """Where a procfs of this process's pid namespace is: below the host root where that has one, else the
    usual place."""
    below = os.path.join(host_root, "proc")
    return below if os.path.exists(os.path.join(below, "self")) else "/proc"


def process(proc: str, pid: int) -> Process | None:
    """The process; None where it has ended. `proc` is a procfs of this process's pid namespace."""
    folder = os.path.join(proc, str(pid))
    command = _read(folder, "comm")
    if command is None:
        return None
    cgroup, cmdline = _read(folder, "cgroup") or b"", _read(folder, "cmdline") or b""
    return Process(
        pid=pid,
        command=_text(command.rstrip(b"\n")),
        cmdline=_text(cmdline.rstrip(b"\0").replace(b"\0", b" "))[:MOST_SHOWN],
        cgroup=cgroup_of(_text(cgroup, keep="\n")),
    )


def cgroup_of(text: str) -> str:
    """The path in the cgroup2 tree that a `/proc/PID/cgroup` names, without a slash at either end; "" for the
    root, and where it names none. Steps that lead out of the reader's cgroup namespace are left out."""
    for line in text.split("\n"):
        if line.startswith("0::/"):
            path = line.removeprefix("0::").removesuffix(" (deleted)")
            return "/".join(step for step in path.split("/") if step not in ("", ".."))
    return ""


def unit(cgroup: str) -> str:
    """The systemd unit that a cgroup belongs to, "" where it is none's: the innermost one, and a slice only
    where there is no other."""
    steps = cgroup.split("/")[::-1]
    for kind in (_IN_A_SLICE, _UNIT):
        for step in steps:
            if kind.fullmatch(step):
                return step
    return ""


def _read(folder: str, name: str) -> bytes | None:
    try:
        descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _MOST_TEXT)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _text(data: bytes, keep: str = "") -> str:
    """Text for a log: what cannot be printed is a question mark."""
    text = data.decode("utf-8", "replace")
    return "".join(each if each.isprintable() or each in keep else "?" for each in text)
