"""Pauses between attempts that fail: doubling, bounded, and drawn at random. Pure but for the draw."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """The first pause is `first` / 2 to `first` seconds, then twice as long each time, up to `longest`; drawn
    from the upper half, so that nodes that lost something together do not come back together."""

    def __init__(self, first: float, longest: float, draw: Callable[[], float] = random.random) -> None:
        """`draw` gives a number from 0 to 1."""
        self._first = first
        self._longest = longest
        self._draw = draw
        self._next = first

    def pause(self) -> float:
        """Seconds to wait before the next attempt."""
        longest, self._next = self._next, min(self._next * 2, self._longest)
        return longest / 2 * (1 + self._draw())

    def reset(self) -> None:
        """Begin with short pauses again."""
        self._next = self._first
