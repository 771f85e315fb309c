"""systemd, asked as an administrator asks it. Blocks; nothing else waits meanwhile in these tests."""

from __future__ import annotations

import subprocess


def systemctl(*arguments: str) -> None:
    """Run `systemctl`; its words are in the failure."""
    run("systemctl", *arguments)


def run(*command: str) -> str:
    """Run a command that must succeed; its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout
