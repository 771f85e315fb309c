"""CFS bandwidth: the text of `cpu.max` as a value, and what it should be. Pure.

`cpu.max` says how many microseconds of CPU time a cgroup may use in each period, all its CPUs together
(cgroup-v2.rst, "CPU Interface Files"). A parent that allows less throttles its children too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass

from reconciler import errors

FILE = "cpu.max"
POD_FILE = f"../{FILE}"
"""That of the pod's cgroup, in which the container's is."""
DEFAULT_PERIOD = 100_000
"""Microseconds; the kernel's and kubelet's default."""

_TEXT = re.compile(r"(max|[0-9]{1,20}) ([0-9]{1,20})\n?", re.ASCII)
_UNLIMITED = "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """`quota` microseconds in each `period` of microseconds; None is no limit."""

    quota: int | None = None
    period: int = DEFAULT_PERIOD

    @classmethod
    def parse(cls, text: str, *, what: str) -> Bandwidth:
        """What the kernel printed. Raises Malformed, naming `what`."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise errors.Malformed(what, f"{text[:50]!r} is not a quota and a period")
        quota = None if found[1] == _UNLIMITED else int(found[1])
        return cls(quota=quota, period=int(found[2]))

    def __lt__(self, other: Bandwidth) -> bool:
        """Whether it allows less time; no limit allows the most."""
        if self.quota is None or other.quota is None:
            return self.quota is not None and other.quota is None
        return self.quota * other.period < other.quota * self.period

    def __str__(self) -> str:
        return f"{_UNLIMITED if self.quota is None else self.quota} {self.period}"


def limit(quota: int | None, period: int | None) -> Bandwidth | None:
    """The bandwidth that a container's CPU limit means; None where it has no quota (absent, or below 1)."""
    if quota is None or quota < 1:
        return None
    return Bandwidth(quota=quota, period=period if period is not None and period > 0 else DEFAULT_PERIOD)


def total(limits: Iterable[Bandwidth | None]) -> Bandwidth | None:
    """What containers may use together, in the period of the first; None where one has no limit."""
    known = list(limits)
    first = known[0] if known else None
    if first is None:
        return None
    quota = 0
    for its in known:
        if its is None or its.quota is None:
            return None
        quota += its.quota * first.period // its.period
    return Bandwidth(quota=quota, period=first.period)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a `cpu.max` should say: `file`, seen from the container's cgroup.

    With `lifted`, no limit. Without, `limit` in the place of no limit, and any other text is left as it is:
    it is somebody's own decision. Only a pod must not have less than its containers, of which more may have
    come since. `limit` is what the container's or the pod's limits say, None where they say nothing. `once`:
    a lift is over, and nothing is wished for any more when that has been undone.
    """

    file: str
    limit: Bandwidth | None
    lifted: bool = True
    once: bool = False

    def __str__(self) -> str:
        return _UNLIMITED if self.lifted else str(self.limit or "")

    def instead(self, of: Bandwidth) -> Bandwidth:
        """What the file should say instead of what it says, which may be the same."""
        if self.lifted:
            return dataclasses.replace(of, quota=None)
        if self.limit is None:
            return of
        too_little = self.file == POD_FILE and of < self.limit
        return self.limit if of.quota is None or too_little else of

    def expects(self, says: Bandwidth) -> bool:
        """Whether nobody but the file's owner says this: the runtime writes a container's own limits back
        whenever it updates it, and only kubelet, in a resize, writes to a pod's cgroup."""
        return self.file == POD_FILE or says == self.limit
