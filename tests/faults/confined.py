"""Programs that have less of the machine: other mounts, or no right to what they do not own."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

_ENTER = ("unshare", "--user", "--map-root-user", "--mount")
_UNPRIVILEGED = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")

READ_ONLY = """
mount -t tmpfs -o mode=700 none "$1"
touch "$1/instance.lock"
mount -o remount,ro "$1"
"""


def unwritable(full: str) -> pytest.MarkDecorator:
    """A folder that cannot be written, in two ways: the `script` for `mounting` (`full` is the one that fills
    it), what `mended` it, for `inside`, and `why` a write fails until then."""
    read_only = pytest.param(
        READ_ONLY, ("mount", "-o", "remount,rw", "{0}"), "Read-only file system", id="read-only"
    )
    filled = pytest.param(full, ("rm", "{0}/filler"), "No space left on device", id="full")
    return pytest.mark.parametrize(("script", "mended", "why"), [filled, read_only])


def mounting(script: str, *arguments: str) -> tuple[str, ...]:
    """What runs a program in a mount namespace in which `script` was run first, with these as `$1` and so on.

    Skips where no such namespace can be made."""
    if shutil.which("unshare") is None or subprocess.run([*_ENTER, "true"], check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    return (*_ENTER, "sh", "-e", "-c", f'{script}\nshift {len(arguments)}\nexec "$@"', "sh", *arguments)


def inside(pid: int, *command: str) -> None:
    """Run a command in the mount namespace of a process."""
    enter = ("nsenter", "--target", str(pid), "--user", "--preserve-credentials", "--mount")
    subprocess.run([*enter, *command], check=True)


def unprivileged() -> tuple[str, ...]:
    """What runs a program for which the modes of files count, though it may be root's."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root cannot be had without its privileges here")
    return _UNPRIVILEGED
