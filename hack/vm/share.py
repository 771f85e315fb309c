"""A pytest plugin that runs one machine's share of the tests: an emulated machine keeps one host CPU busy,
so two machines need half the time. Pure but for the environment.

`SHARE` is `NUMBER/MACHINES`, counted from 1. Every machine computes the same division.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

WEIGHTS = {
    "test_exclusive": 8.0,
    "test_cri": 3.0,
    "test_moving": 3.0,
    "test_scenarios": 2.0,
    "test_drift": 2.0,
    "test_kernel_facts": 0.2,
}
"""By file, about how long one of its tests takes, in tens of seconds."""


@pytest.hookimpl(trylast=True)  # after -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave this machine's share, in the order of collection."""
    number, machines = map(int, os.environ.get("SHARE", "1/1").split("/"))
    owners = divide([WEIGHTS.get(item.path.stem, 1.0) for item in items], machines)
    others = [item for item, owner in zip(items, owners, strict=True) if owner != number]
    items[:] = [item for item, owner in zip(items, owners, strict=True) if owner == number]
    if others:
        config.hook.pytest_deselected(items=others)


def divide(weights: Sequence[float], machines: int) -> list[int]:
    """The machine of each item: the heaviest first, each to the machine that has least."""
    loads = [0.0] * machines
    owners = [0] * len(weights)
    for index in sorted(range(len(weights)), key=lambda index: -weights[index]):
        least = loads.index(min(loads))
        loads[least] += weights[index]
        owners[index] = least + 1
    return owners
