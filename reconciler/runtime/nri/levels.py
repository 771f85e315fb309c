"""Which version of NRI a runtime speaks, and which events it may be asked for. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple


class Level(NamedTuple):
    """A version of NRI, or of a runtime; compared like a tuple."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


OLDEST = Level(0, 3, 0)
"""What an unknown runtime is taken for: everything used here has been there since."""
ZOMBIES_UP_TO = Level(0, 6, 1)
"""Up to this level a failed Synchronize leaves the connection open, and no event ever comes over it."""

EVENTS = 0x6AF
"""RUN, STOP and REMOVE of pods, CREATE, START, UPDATE, STOP and REMOVE of containers: bit `event - 1` each.
All of them have been there since NRI 0.2."""
FEWER_EVENTS = 0x6A8
"""The same without those of pods, which can be done without."""

_VERSION = re.compile(r"v?([0-9]{1,6})\.([0-9]{1,6})(?:\.([0-9]{1,6}))?", re.ASCII)

# From which release on a runtime carries which NRI, newest first (their go.mod files).
_CONTAINERD = (
    (Level(2, 4, 0), Level(0, 12, 1)),
    (Level(2, 3, 0), Level(0, 12, 0)),
    (Level(2, 2, 1), Level(0, 11, 0)),
    (Level(2, 2, 0), Level(0, 10, 0)),
    (Level(2, 0, 0), Level(0, 8, 0)),
    (Level(1, 7, 26), Level(0, 8, 0)),
    (Level(1, 7, 16), Level(0, 6, 1)),
    (Level(1, 7, 14), Level(0, 6, 0)),
    (Level(1, 7, 7), Level(0, 4, 0)),
    (Level(1, 7, 0), Level(0, 3, 0)),
)
_CRIO = (
    (Level(1, 35, 0), Level(0, 11, 0)),
    (Level(1, 34, 0), Level(0, 10, 0)),
    (Level(1, 33, 0), Level(0, 9, 1)),
    (Level(1, 32, 0), Level(0, 9, 0)),
    (Level(1, 31, 0), Level(0, 6, 1)),
    (Level(1, 29, 2), Level(0, 6, 0)),
    (Level(1, 29, 0), Level(0, 5, 0)),
    (Level(1, 26, 0), Level(0, 3, 0)),
)
_RUNTIMES = {"containerd": _CONTAINERD, "cri-o": _CRIO}


def parse(text: str) -> Level | None:
    """The version that `text` begins with, such as `v0.12.1` or `2.1.9~ds1`; None where it says none."""
    found = _VERSION.match(text)
    if found is None:
        return None
    level = Level(int(found[1]), int(found[2]), int(found[3] or 0))
    return level if any(level) else None


def infer(runtime: str, version: str, nri_version: str) -> Level:
    """The NRI level of a runtime that introduced itself with these three texts, each of which may be empty.

    What it says itself counts (from 0.12 on it does; builds without a version say `unknown`, `(devel)` or
    `0.0.0-unknown`), else the table of releases, else the oldest.
    """
    said = parse(nri_version)
    if said is not None:
        return said
    release = parse(version)
    if release is not None:
        for since, level in _RUNTIMES.get(runtime, ()):
            if release >= since:
                return level
    return OLDEST
