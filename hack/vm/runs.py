"""What everything that runs machines has: its options, its host, and a cache for itself. I/O: a lock."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator, Mapping

import trouble


def parser(program: str, text: str) -> argparse.ArgumentParser:
    """Options that all have; `text` is a module's, whose first line describes it."""
    made = argparse.ArgumentParser(prog=program, description=text.split("\n", maxsplit=1)[0])
    made.add_argument(
        "--cache", type=pathlib.Path, default=pathlib.Path("build/vm"), help="default: %(default)s"
    )
    made.add_argument("-k", metavar="EXPRESSION", help="run the tests that match, as pytest's -k")
    return made


def parse(its: argparse.ArgumentParser, given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and what follows `--`, which is pytest's."""
    if "--" not in given:
        return its.parse_args(given), []
    at = given.index("--")
    return its.parse_args(given[:at]), given[at + 1 :]


def check_host(packages: Mapping[str, str] = trouble.PACKAGES) -> None:
    """Raises TroubleError where machines cannot be built."""
    if os.geteuid() != 0:
        raise trouble.TroubleError("a root file system is built, so this must be run as root")
    trouble.check_programs(packages)


@contextlib.contextmanager
def locked(cache: pathlib.Path) -> Iterator[None]:
    """Have the cache alone: two runs would share the folders of a run."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
