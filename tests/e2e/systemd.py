"""systemd, asked as an administrator asks it. Blocks; nothing else waits meanwhile in these tests."""

from __future__ import annotations

import re
import subprocess

RELOAD_REWRITES_SINCE = 262
"""The version that was seen to write all units' cgroup files anew at a daemon-reload; 257 was seen not to."""


def systemctl(*arguments: str) -> None:
    """Run `systemctl`; its words are in the failure."""
    run("systemctl", *arguments)


def run(*command: str) -> str:
    """Run a command that must succeed; its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def reload_rewrites() -> bool:
    """Whether a daemon-reload undoes what was written to the cgroups of units directly."""
    found = re.match(r"systemd ([0-9]+)", run("systemctl", "--version"))
    assert found is not None
    return int(found[1]) >= RELOAD_REWRITES_SINCE
