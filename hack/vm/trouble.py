"""What stops a run before a test has run, and how programs of the host are called. I/O: processes."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence


class TroubleError(Exception):
    """The run cannot go on; the text is one sentence that says what to do."""


PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "unshare": "util-linux",
    "buildah": "buildah",
}
"""Programs that are needed, and Debian's packages that have them."""


def check_programs(packages: Mapping[str, str] = PACKAGES) -> None:
    """Raises TroubleError, naming the packages, where a program is missing."""
    missing = [package for program, package in packages.items() if _which(program) is None]
    if missing:
        raise TroubleError(f"a program is missing: install it with `apt-get install {' '.join(missing)}`")


def find(program: str) -> str:
    """The program's path. Raises TroubleError."""
    path = _which(program)
    if path is None:
        raise TroubleError(f"{program} is missing")
    return path


def call(command: Sequence[str], *, log: pathlib.Path) -> None:
    """Run a program with its output in `log`. Raises TroubleError with the end of that output."""
    program = find(command[0])
    with log.open("ab") as out:
        done = subprocess.run(
            [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        )
    if done.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise TroubleError(f"{command[0]} failed with code {done.returncode}; {log} ends with:\n{end}")


def _which(program: str) -> str | None:
    """Also where the search path of a plain login does not look."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
