"""The program as a process of its own, in which a warning is an error."""

from __future__ import annotations

import os
import subprocess
import sys

COMMAND = (sys.executable, "-W", "error", "-m", "reconciler.cli.main")
"""What is not closed is a warning too. Python's development mode would tell of slow steps besides."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
"""With output that is buffered, as it is by default."""
PATIENCE = 60
"""Seconds after which it hangs."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def is_one_sentence(text: str) -> bool:
    """Whether that is one line that names the program, and no traceback."""
    return text.startswith("cpuset-reconciler") and text.count("\n") == 1 and text.endswith("\n")
