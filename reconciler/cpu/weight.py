"""What `cpu.weight` says of the CPU shares that kubelet asked for. Pure.

A runtime turns shares (2 to 262144) into a weight (1 to 10000), and not every runtime in the same way: along
a line (runc up to 1.3.1, crun up to 1.22), or along a curve that gives 1024 shares the kernel's default of
100 (opencontainers/cgroups, `ConvertCPUSharesToCgroupV2Value`; runc 1.3.2, crun 1.23). A weight alone does
not tell which, and each stands for many shares: for 26 on the line, so that 0.98 to 1 CPU look the same.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable

FEWEST, MOST = 2, 262_144
"""Shares, as the kernel bounded `cpu.shares`."""
_LARGEST = 10_000
_SHARES_PER_CPU = 1024


class Mapping(enum.Enum):
    """How a runtime maps shares to a weight."""

    LINE = "line"
    CURVE = "curve"

    def weight(self, shares: int) -> int:
        """The weight for so many shares."""
        shares = min(max(shares, FEWEST), MOST)
        if self is Mapping.LINE:
            return 1 + (shares - FEWEST) * (_LARGEST - 1) // (MOST - FEWEST)
        if shares in (FEWEST, MOST):
            return 1 if shares == FEWEST else _LARGEST
        log = math.log2(shares)
        return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))

    def shares(self, weight: int) -> int | None:
        """The shares of a whole number of CPUs that have this weight; None where no such number has it. The
        largest shares that there are mean 256 CPUs or more, so they say nothing."""
        for shares in range(_SHARES_PER_CPU, MOST, _SHARES_PER_CPU):
            if (its := self.weight(shares)) >= weight:
                return shares if its == weight else None
        return None


def mapping(known: Iterable[tuple[int, int]]) -> Mapping | None:
    """The mapping that all these shares and weights of containers of one node fit, None where they do not
    tell: none does, or each."""
    fits = set(Mapping)
    for shares, weight in known:
        fits = {its for its in fits if its.weight(shares) == weight}
    return fits.pop() if len(fits) == 1 else None
