"""Every step, or a part of them, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from reconciler import errors
from tests.killed import agents, ground, play, steps

WIDTH = 4
"""Nodes at a time: most of the time one waits for the other."""
STRIDE = 5
"""Of the steps, a test run takes one in so many; it is no divisor of what one checkpoint has."""
_TRIES = 3
"""Attempts to die at a step: on a machine with much to do two changes may be saved as one, or one as two."""
_MISSES = 20
"""Of so many steps, one need not come up: over CRI the agent can meet a group that the stand-in has only
begun to make, and then writes once more or once less."""

Death = tuple[steps.Step, steps.Step | None]
"""A step, and one of the next agent's start, where that dies too."""


async def die(
    door: ground.Door, zygote: agents.Zygote, rehearsal: play.Rehearsal, deaths: Iterable[Death]
) -> list[str]:
    """What was wrong after each of these deaths, as sentences; none, as it should be.

    Steps that do not come up are wrong where they are many.
    """
    left = list(deaths)[::-1]
    most = len(left) // _MISSES
    wrong: list[str] = []
    missed: list[str] = []

    async def work() -> None:
        while left:
            death = left.pop()
            try:
                await _die(door, zygote, rehearsal, *death)
            except play.MissedError as error:
                missed.append(f"{door}, {error}")
            except (AssertionError, TimeoutError, errors.ReconcilerError) as error:
                wrong.append(f"{door}, killed at {' and '.join(str(its) for its in death if its)}: {error}")

    await asyncio.gather(*(work() for _ in range(WIDTH)))
    return wrong if len(missed) <= most else wrong + missed


async def _die(
    door: ground.Door,
    zygote: agents.Zygote,
    rehearsal: play.Rehearsal,
    last: steps.Step,
    again: steps.Step | None,
) -> None:
    for number in range(_TRIES):
        try:
            await play.die(door, zygote, rehearsal, last, again)
        except play.MissedError:
            if number + 1 == _TRIES:
                raise
        else:
            return


def spread(its: Iterable[steps.Step], stride: int) -> list[Death]:
    """Every `stride`-th of them."""
    return [(step, None) for step in list(its)[::stride]]
