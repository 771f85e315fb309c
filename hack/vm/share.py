"""A pytest plugin that runs one machine's share of the tests: an emulated machine keeps one host CPU busy,
so two machines need half the time. Pure but for the environment.

`SHARE` is `NUMBER/MACHINES`, counted from 1. Every machine computes the same division. `TESTS` is one of
`SIZES`: on a node that differs from another one in its kernel and runtime, a part of the tests runs, and on
one that differs in its cgroup driver alone a few: those in which a difference would show. What only a boot
shows runs on a node that is made for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pytest

WEIGHTS = {
    "test_killed": 30.0,
    "test_exposure": 20.0,
    "test_exclusive": 8.0,
    "test_cgroup": 5.0,
    "test_cri": 3.0,
    "test_pod": 3.0,
    "test_moving": 3.0,
    "test_scenarios": 2.0,
    "test_drift": 2.0,
    "test_faults": 2.0,
    "test_cold_boot": 4.0,
    "test_agreement": 3.0,
    "test_kernel_facts": 0.2,
}
"""By file, about how long one of its tests takes, in tens of seconds."""

_PART = {
    "test_scenarios": (
        "a-list-moves-an-integer-pod",
        "a-resize-grows-and-shrinks-a-claim",
        "a-restarted-agent-keeps-everything",
        "annotated-shared-pod",
        "cpus-go-offline-and-return",
        "forbidden-cpus",
        "memory-of-integer-pods",
        "quota-is-lifted-of-whole-pods",
        "three-kinds-side-by-side",
        "wrong-writes-are-repaired",
    ),
    "test_runtime": (),
    "test_cgroup": (),
    "test_kernel_facts": (),
    "test_drift": (
        "daemon_reload",
        "update_of_the_quota",
        "refused_creation",
        "has_the_memory",
        "agent_that_was_killed",
    ),
    "test_cri": ("shared_pods_follow", "wrong_write", "restarts_of_the_agent"),
    "test_exclusive": ("every_thread_and_child",),
    "test_moving": ("spinning",),
}
_FEW = {
    "test_scenarios": (
        "a-restarted-agent-keeps-everything",
        "quota-is-lifted-of-whole-pods",
        "three-kinds-side-by-side",
    ),
    "test_runtime": (),
    "test_cgroup": (),
    "test_drift": ("refused_creation", "has_the_memory"),
    "test_cri": ("shared_pods_follow",),
    "test_moving": ("spinning",),
}
_BOOT: dict[str, tuple[str, ...]] = {"test_boot": ()}
SIZES: dict[str, dict[str, tuple[str, ...]] | None] = {
    "whole": None,
    "part": _PART,
    "few": _FEW,
    "boot": _BOOT,
}
"""By what a suite runs and by file: parts of the names of its tests, none for all of them. None: all but
those of a boot."""


@pytest.hookimpl(trylast=True)  # after -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave this machine's share, in the order of collection."""
    chosen = SIZES[os.environ.get("TESTS", "whole")]
    left_out = [item for item in items if not _is_chosen(item, chosen)]
    items[:] = [item for item in items if _is_chosen(item, chosen)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    number, machines = map(int, os.environ.get("SHARE", "1/1").split("/"))
    owners = divide([WEIGHTS.get(item.path.stem, 1.0) for item in items], machines)
    others = [item for item, owner in zip(items, owners, strict=True) if owner != number]
    items[:] = [item for item, owner in zip(items, owners, strict=True) if owner == number]
    if others:
        config.hook.pytest_deselected(items=others)


def _is_chosen(item: pytest.Item, chosen: Mapping[str, Sequence[str]] | None) -> bool:
    if chosen is None:
        return item.path.stem not in _BOOT
    names = chosen.get(item.path.stem)
    return names is not None and (not names or any(name in item.name for name in names))


def divide(weights: Sequence[float], machines: int) -> list[int]:
    """The machine of each item: the heaviest first, each to the machine that has least."""
    loads = [0.0] * machines
    owners = [0] * len(weights)
    for index in sorted(range(len(weights)), key=lambda index: -weights[index]):
        least = loads.index(min(loads))
        loads[least] += weights[index]
        owners[index] = least + 1
    return owners
