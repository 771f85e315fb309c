"""A root disk on which the agent is installed before the node boots, in the runtime's plugin directory. I/O.

What is installed is what `make install-node PLUGIN=1` puts onto a node, for the node's Python.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import disks
import image  # noqa: TC002  beside this module, not a third party's
import patience
import payload
import trouble

CONTAINERD = "etc/containerd/config.toml"


def disk(made: image.Image, target: pathlib.Path) -> pathlib.Path:
    """Write the disk to `target`, which is returned. Raises TroubleError."""
    tree = made.root / "opt/installed"
    shutil.rmtree(tree, ignore_errors=True)
    log = target.with_suffix(".log")
    options = ["--destdir", str(tree), "--interpreter", "/usr/bin/python3", "--python", made.python]
    command = [sys.executable, "-m", "hack.node", "install", "--plugin", *options]
    if subprocess.run(command, cwd=payload.ROOT, check=False).returncode != 0:
        raise trouble.TroubleError("the agent could not be installed below a folder")
    payload.compiled(tree, made, log)
    settings = tree / CONTAINERD
    settings.parent.mkdir(parents=True)
    settings.write_text(patience.patient((made.root / CONTAINERD).read_text()))
    trouble.call(["cp", "--sparse=always", str(made.disk), str(target)], log=log)
    disks.change(target, list(_laying(tree, made.root)), log=log)
    shutil.rmtree(tree)
    return target


def _laying(tree: pathlib.Path, root: pathlib.Path) -> Iterator[str]:
    """The commands that write a tree over the files of a disk that has those of `root`."""
    for path in sorted(tree.rglob("*")):
        its = path.relative_to(tree)
        if path.is_symlink():
            yield f"symlink /{its} {path.readlink()}"
        elif path.is_dir():
            if not (root / its).is_dir():
                yield f"mkdir /{its}"
        else:
            if (root / its).exists():
                yield f"rm /{its}"
            yield f"write {path} /{its}"
