"""A process that has few file descriptors, or whose descriptors are taken."""

from __future__ import annotations

import contextlib
import os
import resource
import traceback
from collections.abc import Callable, Iterator


def alone(body: Callable[[], object]) -> None:
    """Run it in a process of its own that has none of our descriptors but the first three; its failure is
    ours. What other tests have left open is not counted, then."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.closerange(3, 1 << 16)
            body()
            code = 0
        except BaseException:  # noqa: BLE001  it must not come back into pytest
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextlib.contextmanager
def limited(most: int) -> Iterator[None]:
    """No descriptor from `most` on can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def taken(left: int) -> Iterator[None]:
    """All descriptors are taken by others, but for so many."""
    held = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(left):
            os.close(held.pop())
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
