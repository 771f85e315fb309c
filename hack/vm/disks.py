"""Disks made of a folder, without mounting anything. I/O: a process."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import trouble

_OPTIONS = ("-q", "-t", "ext4", "-O", "^has_journal")


def write(target: pathlib.Path, tree: pathlib.Path, size: str, *, log: pathlib.Path, label: str) -> None:
    """An ext4 disk with the files of `tree`, of a size in mke2fs's notation. Raises TroubleError."""
    target.unlink(missing_ok=True)
    trouble.call(["mke2fs", *_OPTIONS, "-L", label, "-d", str(tree), str(target), size], log=log)


def change(target: pathlib.Path, commands: Sequence[str], *, log: pathlib.Path) -> None:
    """Change a disk by commands of debugfs(8), and see that it is whole. Raises TroubleError."""
    script = target.with_suffix(".debugfs")
    script.write_text("".join(f"{command}\n" for command in commands))
    trouble.call(["debugfs", "-w", "-f", str(script), str(target)], log=log)
    # debugfs ends well whatever became of its commands.
    trouble.call(["e2fsck", "-f", "-n", str(target)], log=log)
