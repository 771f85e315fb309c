"""Placements as the runtime is told of them. Pure."""

from __future__ import annotations

from reconciler.policy import desired
from reconciler.runtime.nri import handler


def adjustment(placement: desired.Placement) -> handler.Adjustment:
    """A placement as the runtime is told of it."""
    return handler.Adjustment(
        cpus=str(placement.cpus), mems="" if placement.mems is None else str(placement.mems)
    )
