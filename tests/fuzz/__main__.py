"""`python -m tests.fuzz TARGET [libFuzzer's arguments]`: one target under libFuzzer. `make fuzz` runs it."""

from __future__ import annotations

import shlex
import sys

import atheris

from tests.fuzz import targets

_CODE = ("reconciler", "yaml")
"""The packages whose coverage leads the fuzzer. What is written in C, protobuf and msgspec, has none."""


def main() -> None:
    """Fuzz until libFuzzer has had enough; it ends the process itself."""
    name, *arguments = sys.argv[1:]
    target = targets.TARGETS[name]
    # Not the hook of regular expressions: it does not know the arguments of `fullmatch` after the first.
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=_CODE):
        check = target.load()
    # A merge starts this again for every input that ends the process; libFuzzer gives the line to a shell.
    itself = shlex.join([sys.executable, "-m", "tests.fuzz", name])
    atheris.Setup([itself, f"-max_len={target.largest}", *arguments], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
