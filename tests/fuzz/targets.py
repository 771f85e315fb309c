"""What is fuzzed, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`module` has the function `check(data)`, which raises where the code is not as it claims to be.

    `largest` is the length of inputs, in bytes.
    """

    module: str
    largest: int

    def load(self) -> Callable[[bytes], None]:
        """The function, imported now: it must be imported under the fuzzer's instrumentation."""
        check: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.{self.module}").check
        return check


TARGETS: Mapping[str, Target] = {
    "multiplexer": Target(module="multiplexer", largest=512),
    "ttrpc": Target(module="calls", largest=2048),
    "cri": Target(module="cri_lists", largest=4096),
    "cpu-lists": Target(module="cpu_lists", largest=256),
    "checkpoint": Target(module="checkpoints", largest=4096),
    "configuration": Target(module="configuration", largest=2048),
}
