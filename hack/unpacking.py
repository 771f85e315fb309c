"""The `__main__` of the zipapp: unpacks the program once, and runs it. Standard library alone. ADR 0028.

The interpreter loads no extension module from within an archive, and the program needs some. Each build has a
folder of its own, so that nothing is ever changed while it is in use.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
import tempfile
import zipfile

PYTHON = (0, 0)
MACHINE = ""
BUILD = ""
"""Filled in by `artifacts`: what the extension modules were made for, and a name for the folder."""
FOLDER = "CPUSET_RECONCILER_UNPACKED"
"""Environment variable that names the folder in which builds are unpacked."""


def main() -> None:
    """Run the program with the arguments of this process."""
    if sys.version_info[:2] != PYTHON or platform.machine() != MACHINE:
        made_for = f"Python {PYTHON[0]}.{PYTHON[1]} on {MACHINE}"
        has = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {platform.machine()}"
        sys.exit(f"cpuset-reconciler: this archive is for {made_for}, and this is {has}")
    try:
        folder = unpacked()
    except OSError as error:
        sys.exit(f"cpuset-reconciler: the archive cannot be unpacked: {error}; {FOLDER} names another folder")
    sys.path.insert(0, folder)
    from reconciler.cli import main as program  # noqa: PLC0415  it is there only now

    sys.exit(program.main())


def unpacked() -> str:
    """The folder with the modules of this build. Raises OSError where there is none and none can be made."""
    parent = os.environ.get(FOLDER) or _usual()
    folder = os.path.join(parent, BUILD)
    if not os.path.isdir(folder):
        os.makedirs(parent, mode=0o755, exist_ok=True)
        _unpack(parent, folder)
    found = os.lstat(folder)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {folder}")
    return folder


def _usual() -> str:
    if os.geteuid() == 0:
        return "/var/cache/cpuset-reconciler"
    return os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cpuset-reconciler"
    )


def _unpack(parent: str, folder: str) -> None:
    """Make the folder whole or not at all; another process may be doing the same."""
    fresh = tempfile.mkdtemp(dir=parent)
    try:
        with zipfile.ZipFile(os.path.dirname(os.path.abspath(__file__))) as archive:
            names = [name for name in archive.namelist() if name.startswith("lib/")]
            archive.extractall(fresh, names)
        os.chmod(os.path.join(fresh, "lib"), 0o755)  # noqa: S103  whatever the umask, others may read it
        os.rename(os.path.join(fresh, "lib"), folder)
    except OSError:
        if not os.path.isdir(folder):
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


if __name__ == "__main__":
    main()
