"""A root disk on which the agent is installed before the node boots, in the runtime's plugin directory. I/O.

What is installed is what `make install-node PLUGIN=1` puts onto a node, for the node's Python.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import image  # noqa: TC002  beside this module, not a third party's
import trouble

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTAINERD = "etc/containerd/config.toml"
NRI_ON = "  disable = false\n"
NRI_PATIENT = f'{NRI_ON}  plugin_registration_timeout = "60s"\n'
"""The emulator is slow; the test prints how long the agent takes."""


def disk(made: image.Image, target: pathlib.Path) -> pathlib.Path:
    """Write the disk to `target`, which is returned. Raises TroubleError."""
    tree = made.root / "opt/installed"
    shutil.rmtree(tree, ignore_errors=True)
    log = target.with_suffix(".log")
    options = ["--destdir", str(tree), "--interpreter", "/usr/bin/python3", "--python", made.python]
    command = [sys.executable, "-m", "hack.node", "install", "--plugin", *options]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise trouble.TroubleError("the agent could not be installed below a folder")
    compileall = ["python3", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash", "/opt/installed"]
    trouble.call(["chroot", str(made.root), *compileall], log=log)
    settings = tree / CONTAINERD
    settings.parent.mkdir(parents=True)
    settings.write_text((made.root / CONTAINERD).read_text().replace(NRI_ON, NRI_PATIENT))
    trouble.call(["cp", "--sparse=always", str(made.disk), str(target)], log=log)
    _lay(tree, made.root, target, log)
    shutil.rmtree(tree)
    return target


def _lay(tree: pathlib.Path, root: pathlib.Path, target: pathlib.Path, log: pathlib.Path) -> None:
    """Write a tree over the files of a disk that has those of `root`, without mounting it."""
    lines = []
    for path in sorted(tree.rglob("*")):
        its = path.relative_to(tree)
        if path.is_symlink():
            lines.append(f"symlink /{its} {path.readlink()}")
        elif path.is_dir():
            lines += [] if (root / its).is_dir() else [f"mkdir /{its}"]
        else:
            lines += [f"rm /{its}"] if (root / its).exists() else []
            lines.append(f"write {path} /{its}")
    commands = target.with_suffix(".debugfs")
    commands.write_text("".join(f"{line}\n" for line in lines))
    trouble.call(["debugfs", "-w", "-f", str(commands), str(target)], log=log)
    # debugfs ends well whatever became of its commands.
    trouble.call(["e2fsck", "-f", "-n", str(target)], log=log)
