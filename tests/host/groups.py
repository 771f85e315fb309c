"""Cgroups as plain files, without a kernel's rules. I/O below a root."""

from __future__ import annotations

import os


def make(root: str, path: str, cpus: str = "", mems: str = "", effective: str = "0-7") -> str:
    """Write the cpuset files of a group, with the directories above it; its full path."""
    full = os.path.join(root, path)
    os.makedirs(full, exist_ok=True)
    texts = {
        "cpuset.cpus": cpus,
        "cpuset.mems": mems,
        "cpuset.cpus.effective": effective,
        "cpuset.mems.effective": mems or "0-1",
    }
    for name, text in texts.items():
        with open(os.path.join(full, name), "w", encoding="ascii") as file:
            file.write(f"{text}\n")
    return full


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
