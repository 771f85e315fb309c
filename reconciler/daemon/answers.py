"""Placements as the runtime is told of them. Pure."""

from __future__ import annotations

import asyncio

from reconciler.policy import desired
from reconciler.runtime.nri import handler

Answer = handler.Adjustment | asyncio.Future[handler.Adjustment]
"""What a hook is answered, at once or later."""


def adjustment(placement: desired.Placement) -> handler.Adjustment:
    """A placement as the runtime is told of it."""
    return handler.Adjustment(
        cpus=str(placement.cpus), mems="" if placement.mems is None else str(placement.mems)
    )
