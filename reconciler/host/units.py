"""What systemd leaves on disk that tells of its doings. I/O: reads below a host root."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_GENERATORS = ("generator", "generator.early", "generator.late")


def reloaded_ago(root: str, clock: Callable[[], float] = time.time) -> float | None:
    """Seconds since systemd's last `daemon-reload` began; None where that cannot be seen.

    A reload makes the directories of the generators' output anew (systemd.generator(7)). `clock` gives
    seconds since the epoch. A clock that was set back counts as no time.
    """
    made = []
    for name in _GENERATORS:
        try:
            made.append(os.stat(os.path.join(root, "run/systemd", name)).st_mtime)
        except OSError:
            continue
    return max(clock() - max(made), 0.0) if made else None
