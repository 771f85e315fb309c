"""A workload that wants every CPU: a process for each, which computes and sleeps in turn, until killed.

It sleeps because an emulator in one thread gives every busy processor a tenth of a second in turn: with all
of them busy all the time nothing else of the node would come to its end. The scheduler puts a task that wakes
onto any idle CPU that it may have, so each of these tries the others' CPUs some ten times a second.
"""

from __future__ import annotations

import os
import time

_COMPUTES, _SLEEPS = 0.003, 0.06


def main() -> None:
    """Fork, compute, sleep."""
    for _ in range((os.cpu_count() or 1) - 1):
        if os.fork() == 0:
            break
    while True:
        until = time.perf_counter() + _COMPUTES
        while time.perf_counter() < until:
            pass
        time.sleep(_SLEEPS)


if __name__ == "__main__":
    main()
