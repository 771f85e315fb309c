"""The kernel does with cpuset files what the table says that it does."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e import facts


@pytest.mark.parametrize("case", facts.cases(), ids=lambda case: case["name"])
def test_the_kernel_does_as_the_table_says(case: dict[str, Any]) -> None:
    if why := facts.why_not(case):
        pytest.skip(f"{case['name']}: {why}")
    with facts.Kernel() as kernel:
        for step in case["steps"]:
            kernel.do(step)
        expected = case["expect"]
        # What follows a CPU that goes offline is the kernel's own later work.
        until = time.monotonic() + 5
        while (read := _read(kernel, expected)) != expected and time.monotonic() < until:
            time.sleep(0.05)
        assert read == expected


def _read(kernel: facts.Kernel, expected: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {path: {key: kernel.read(path, key) for key in keys} for path, keys in expected.items()}
