"""The error tree: each class tells its catcher what to do. No I/O.

- `Refused`: the request was understood and is not granted; tell the pod's owner, change nothing.
- `Malformed`: input that cannot be right; tell whoever wrote it where and why, change nothing.
- `Gone`: the thing vanished, which is normal on a node; forget it.
- `Retryable`: may work later; try again with a pause.
- `Unsuitable`: this host cannot be managed; stop with exit code 3.
- `Usage`: command line or configuration; stop with exit code 2.
"""

from __future__ import annotations

from typing import Literal

Ground = Literal[
    "annotation", "namespace", "held", "room", "bounds", "pool", "writes", "time", "runtime", "other"
]
"""What a refusal is for, in one word; `docs/reference/metrics.md` explains those of a node's requests."""


class ReconcilerError(Exception):
    """Root of the tree. Its text is one sentence that names what, where and why."""


class Refused(ReconcilerError):
    """A creation or a change is not granted. The text is written for the pod's owner, `ground` for whoever
    counts."""

    def __init__(self, text: str, ground: Ground = "other") -> None:
        super().__init__(text)
        self.ground = ground


class Malformed(ReconcilerError):
    """Input that cannot be right.

    `what` names the input (an annotation key, a file, a frame), `position` is the offset of the
    offending character or byte, counted from 0, or None where no single one is to blame.
    """

    def __init__(self, what: str, why: str, *, position: int | None = None) -> None:
        where = "" if position is None else f" at position {position}"
        super().__init__(f"{what}{where}: {why}")
        self.what = what
        self.why = why
        self.position = position


class FrameError(Malformed):
    """Bytes from a peer that break the framing; the connection cannot go on, the agent can."""


class Gone(ReconcilerError):
    """A cgroup, process or container vanished between two looks at it."""


class Retryable(ReconcilerError):
    """A call that may work later: a socket that refuses, a runtime that restarts."""


class HostFileError(ReconcilerError):
    """Reading or writing one host file failed. A value in outcomes, never the end of a pass."""

    def __init__(self, path: str, action: str, errno: int, why: str) -> None:
        super().__init__(f"{action} {path}: {why} (errno {errno})")
        self.path = path
        self.action = action
        self.errno = errno


class Unsuitable(ReconcilerError):
    """This host cannot be managed, for example because cpuset is mounted as cgroup v1."""


class Usage(ReconcilerError):
    """A command line or configuration that cannot be used; names the option or the key's path."""
