"""Installs the agent on a node, or below a folder that stands for one, and takes it away whole. I/O.

Usage: python -m hack.node install|uninstall [--destdir DIR] [--prefix DIR] [--plugin] [--interpreter PATH]
                                             [--python VERSION] [--cri-socket PATH] [--keep-placements]

PREFIX/lib has all modules, PREFIX/bin/cpuset-reconciler runs them with the interpreter that installed them,
or one of the version that is named, this or a newer one. Without a DESTDIR systemd is told, too. `uninstall`
needs the standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAME = "cpuset-reconciler"
PREFIX = f"/opt/{NAME}"
UNIT = ROOT / f"deploy/systemd/{NAME}.service"
UNITS = "/etc/systemd/system"
CONFIG = f"/etc/{NAME}/config.yaml"
STATE = f"/var/lib/{NAME}"
PLUGINS = "/opt/nri/plugins"
PLUGIN = f"90-{NAME}"
LAUNCHER = """\
#!{interpreter} -I
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../lib"))
from reconciler.cli.main import main

sys.exit(main())
"""
"""Works without a PATH or any environment, as a runtime starts its plugins, and through a link."""
FOLDERS = "folders"
"""The file below the prefix that lists the folders around it that were made for it, as the node sees them."""
THE_NODES_OWN = ("/opt", "/etc", "/etc/systemd", "/etc/systemd/system")
"""Missing below a folder that stands for a node, and no node's to lose."""


class Node:
    """Where things are: `destdir` is the folder that stands for `/`, "" on the node itself."""

    def __init__(self, destdir: str, prefix: str) -> None:
        if not os.path.isabs(prefix) or os.path.normpath(prefix) in ("/", "/opt", "/usr", "/usr/local"):
            sys.exit(f"PREFIX={prefix}: a folder of its own with an absolute path is needed")
        self.is_real = not destdir
        self.prefix = os.path.normpath(prefix)
        self._destdir = os.path.abspath(destdir) if destdir else ""
        self.program = f"{self.prefix}/bin/{NAME}"

    def at(self, path: str) -> pathlib.Path:
        """Where a path of the node is now."""
        return pathlib.Path(self._destdir + path)

    @property
    def plugin(self) -> pathlib.Path:
        """The link in the runtime's plugin directory."""
        return self.at(f"{PLUGINS}/{PLUGIN}")

    @property
    def unit(self) -> pathlib.Path:
        """The unit of systemd."""
        return self.at(f"{UNITS}/{UNIT.name}")


def main(arguments: list[str] | None = None) -> None:
    """Install or uninstall."""
    parser = argparse.ArgumentParser(description="install the agent on a node, or take it away")
    parser.add_argument("what", choices=["install", "uninstall"])
    parser.add_argument("--destdir", default="", help="a folder that stands for the node's /")
    parser.add_argument("--prefix", default=PREFIX, help="default: %(default)s")
    parser.add_argument("--interpreter", default=os.path.realpath(sys.executable), help="default: this one")
    parser.add_argument("--python", metavar="VERSION", help="the interpreter's, such as 3.14 (default: this)")
    parser.add_argument("--plugin", action="store_true", help=f"link it into {PLUGINS}, too")
    parser.add_argument("--cri-socket", help="of the runtime that is asked what containers had before")
    parser.add_argument(
        "--keep-placements", action="store_true", help="take it away though containers stay where they are"
    )
    given = parser.parse_args(arguments)
    node = Node(given.destdir, given.prefix)
    if given.what == "install":
        install(node, given.interpreter, given.python, plugin=given.plugin)
    else:
        uninstall(node, given.cri_socket, keep=given.keep_placements)


def install(node: Node, interpreter: str, python: str | None, *, plugin: bool) -> None:
    """Put everything in its place; what was installed before is replaced, the configuration stays.

    For a Python of another version than this one no bytecode is written: the first start compiles.
    """
    from hack import bundle  # noqa: PLC0415  what it needs is not needed to uninstall

    python = python or bundle.THIS
    if _numbers(python) < _numbers(bundle.THIS):
        sys.exit(f"--python {python}: what an older Python needs is not known to this one, {bundle.THIS}")
    prefix, config = node.at(node.prefix), node.at(CONFIG)
    needed = [os.path.dirname(node.prefix), os.path.dirname(CONFIG), UNITS, *([PLUGINS] if plugin else [])]
    made = [*_listed(prefix), *(its for folder in needed for its in _make(node, folder))]
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=prefix.parent) as scratch:
        fresh = pathlib.Path(scratch, "prefix")
        bundle.install(bundle.wheel(pathlib.Path(scratch)), fresh / "lib", python)
        shutil.rmtree(fresh / "lib/bin", ignore_errors=True)
        if python == bundle.THIS:
            bundle.compiled(fresh / "lib", f"{node.prefix}/lib")
        program = fresh / "bin" / NAME
        program.parent.mkdir()
        program.write_text(LAUNCHER.format(interpreter=interpreter))
        program.chmod(0o755)
        (fresh / FOLDERS).write_text("".join(f"{folder}\n" for folder in made))
        with contextlib.suppress(FileNotFoundError):
            prefix.rename(pathlib.Path(scratch, "old"))
        fresh.rename(prefix)
    config.touch(mode=0o644)
    node.unit.write_text(UNIT.read_text().replace(PREFIX, node.prefix))
    if plugin:
        node.plugin.unlink(missing_ok=True)
        node.plugin.symlink_to(node.program)
    if node.is_real:
        _systemctl("daemon-reload")
        _systemctl("try-restart", UNIT.name)
        print(f"installed: `systemctl enable --now {NAME}` starts it now, and before kubelet at each boot")
        if plugin:
            print("the runtime starts it, too, when it is restarted next")


def _numbers(version: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, version.split(".")))
    except ValueError:
        sys.exit(f"--python {version}: a version such as 3.14 is needed")


def _make(node: Node, folder: str) -> list[str]:
    """Make a folder of the node; what had to be made of it, the deepest first."""
    path = pathlib.PurePath(folder)
    missing = [str(its) for its in (path, *path.parents) if not node.at(str(its)).exists()]
    node.at(folder).mkdir(parents=True, exist_ok=True)
    return missing


def _listed(prefix: pathlib.Path) -> list[str]:
    """The folders that an installation has made around it; none where there is none."""
    with contextlib.suppress(FileNotFoundError):
        return (prefix / FOLDERS).read_text().splitlines()
    return []


def uninstall(node: Node, cri_socket: str | None, *, keep: bool) -> None:
    """Stop the agent, give containers back what they had, and remove everything that was put here or made by
    the agent. A configuration that somebody has written stays, and is told."""
    if node.is_real and node.unit.exists():
        _systemctl("disable", "--now", UNIT.name)
    is_plugin = os.path.islink(node.plugin) and os.readlink(node.plugin) == node.program
    if is_plugin:
        node.plugin.unlink()
    if node.is_real and not keep and os.path.exists(node.program):
        _restore(node, cri_socket, is_plugin=is_plugin)
    made = _listed(node.at(node.prefix))
    node.unit.unlink(missing_ok=True)
    for path in (node.prefix, STATE, f"/run/{NAME}"):
        shutil.rmtree(node.at(path), ignore_errors=True)
    config = node.at(CONFIG)
    if config.exists() and config.stat().st_size:
        print(f"{config} has been written by somebody and stays")
    else:
        config.unlink(missing_ok=True)
    for folder in sorted(made, key=len, reverse=True):
        if not (node.is_real and folder in THE_NODES_OWN):
            with contextlib.suppress(OSError):
                node.at(folder).rmdir()
    if node.is_real:
        _systemctl("daemon-reload")


def _restore(node: Node, cri_socket: str | None, *, is_plugin: bool) -> None:
    command = [node.program, "restore", "--config", CONFIG]
    command += [] if cri_socket is None else ["--cri-socket", cri_socket]
    if subprocess.run(command, check=False).returncode != 0:
        hint = "; if the runtime has started the agent, restart the runtime first" if is_plugin else ""
        sys.exit(
            "containers could not be given back what they had, so nothing more is removed; once that is put"
            f" right, do this again, or give KEEP_PLACEMENTS=1 to leave them as they are{hint}"
        )


def _systemctl(*arguments: str) -> None:
    if shutil.which("systemctl") is not None:
        subprocess.run(["systemctl", *arguments], check=False)


if __name__ == "__main__":
    main()
