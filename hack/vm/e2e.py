"""Runs tests/e2e on real nodes: builds Debian machines, boots them in QEMU, runs pytest in them. I/O.

Usage: e2e.py [--suite SUITES] [--cache DIR] [--at-once N] [--keep] [-k EXPRESSION] [-- PYTEST-ARGUMENTS]

Run as root on a Debian host. Exits with pytest's code, or 1 where the node could not be had. Nothing of the
host is changed outside the cache.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass

import boot
import failures
import image
import installed
import payload
import runs
import suites
import trouble

NO_TESTS = 5
"""pytest's exit code where no test was selected."""


def main() -> None:
    """Parse, run, and exit."""
    options, passed_on = _arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the machine is switched off
    try:
        sys.exit(run(options, passed_on))
    except trouble.TroubleError as error:
        sys.exit(f"e2e: {error}")


def run(options: argparse.Namespace, passed_on: list[str]) -> int:
    """Build what is missing, boot, and say how it went. Raises TroubleError."""
    runs.check_host()
    cache = options.cache.resolve()
    with runs.locked(cache):
        return _run(options, passed_on, cache)


def _run(options: argparse.Namespace, passed_on: list[str], cache: pathlib.Path) -> int:
    folder = cache / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    expression = ["-k", options.k] if options.k else []
    pytest = [*(passed_on or ["-v", "--durations=10"]), *expression, "-p", "no:cacheprovider", "tests/e2e"]
    machines = planned(options.suite, options.machines)
    has_pods = options.image and any(suites.SUITES[machine.suite].tests == "whole" for machine in machines)
    disks = _Disks(
        cache, folder, options.mirror, pytest, payload.archive(options.mirror) if has_pods else None
    )
    began = time.monotonic()
    outcomes = _boot(machines, disks, folder, options.at_once, long=options.long)
    failed: list[str] = []
    for machine, outcome in zip(machines, outcomes, strict=True):
        results = folder / machine.name / "results"
        _close(machine.name, outcome, results)
        if outcome.code not in (0, NO_TESTS):
            for line in failures.told(results / "junit.xml"):
                print(f"  {line}")
            failed += [f"{machine.name}: {test}" for test in failures.names(results / "junit.xml")]
    print(f"all done in {time.monotonic() - began:.0f} s; logs in {folder}")
    for name in failed:
        print(f"failed: {name}")
    if not options.keep:
        for disk in folder.rglob("*.img"):
            disk.unlink()
    return combined([outcome.code for outcome in outcomes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One of the `machines` that share a suite's tests, counted from 1."""

    suite: str
    number: int
    machines: int

    @property
    def name(self) -> str:
        """What its lines and its folder are called."""
        return self.suite if self.machines == 1 else f"{self.suite}-{self.number}"


def planned(names: Sequence[str], machines: int | None) -> list[Machine]:
    """The machines of a run, the longest first. `machines` None: as many for each suite as it says."""
    found = [
        Machine(suite=name, number=number, machines=count)
        for name in names
        for count in [machines or suites.SUITES[name].machines]
        for number in range(1, count + 1)
    ]
    return sorted(found, key=lambda machine: suites.SUITES[machine.suite].tests != "whole")


class _Disks:
    """Root disks and payloads, made when the first machine needs them: one at a time for each Debian."""

    def __init__(
        self,
        cache: pathlib.Path,
        folder: pathlib.Path,
        mirror: str | None,
        pytest: list[str],
        archive: pathlib.Path | None,
    ) -> None:
        self._archive = archive
        self._cache = cache
        self._folder = folder
        self._mirror = mirror
        self._pytest = pytest
        self._locks = {suite.debian: threading.Lock() for suite in suites.SUITES.values()}

    def get(self, debian: str) -> tuple[image.Image, pathlib.Path]:
        """The image and the payload's disk for it. Raises TroubleError."""
        began = time.monotonic()
        disk = self._folder / f"payload-{debian}.img"
        with self._locks[debian]:
            made, built = image.get(debian, self._cache, self._mirror)
            if not disk.exists():
                payload.disk(disk, made, payload.site(made, self._cache), self._pytest, self._archive)
                how = "built" if built else "reused"
                seconds = time.monotonic() - began
                print(
                    f"image of {debian}: {how}, payload for Python {made.python}: {seconds:.0f} s", flush=True
                )
        return made, disk


def _boot(
    machines: Sequence[Machine], disks: _Disks, folder: pathlib.Path, at_once: int, *, long: bool
) -> list[boot.Outcome]:
    """Run the machines, so many at once. Raises TroubleError."""
    stop = threading.Event()

    def one(machine: Machine) -> boot.Outcome:
        suite = suites.SUITES[machine.suite]
        made, payload_ = disks.get(suite.debian)
        its = folder / machine.name
        its.mkdir()
        mark = f"{machine.name}| " if len(machines) > 1 else ""
        plan = boot.Plan(
            image=made,
            root=installed.disk(made, its / "root.img") if suite.tests == "boot" else made.disk,
            payload=payload_,
            folder=its,
            suite=machine.suite,
            number=machine.number,
            machines=machine.machines,
            long=long,
            say=lambda line: print(f"{mark}{line}", flush=True),
            stop=stop,
        )
        return boot.run(plan)

    with futures.ThreadPoolExecutor(at_once) as threads:
        try:
            return list(threads.map(one, machines))
        finally:
            stop.set()


def combined(codes: list[int | None]) -> int:
    """One exit code of all machines': the first that is not 0; having no test in its share is fine."""
    told = [1 if code is None else code for code in codes]
    if all(code == NO_TESTS for code in told):
        return NO_TESTS
    return next((code for code in told if code not in (0, NO_TESTS)), 0)


def _close(name: str, outcome: boot.Outcome, results: pathlib.Path) -> None:
    """The lines that a reader looks for at the end."""
    retries = results / "retries.txt"
    slow = len(retries.read_text().splitlines()) if retries.exists() else 0
    ending = "no results came back" if outcome.code is None else f"pytest exited with {outcome.code}"
    print(
        f"machine {name}: {ending}; failed boots before: {outcome.failed_boots}; "
        f"boot {outcome.boot_seconds:.0f} s, tests {outcome.test_seconds:.0f} s; "
        f"requests that were too slow and made again: {slow}"
    )


def _arguments(given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = runs.parser("hack/vm/e2e.py", __doc__ or "")
    parser.add_argument(
        "--suite",
        type=_suites,
        default="unstable",
        help=f"all, or some of {', '.join(suites.SUITES)} with commas between (default: %(default)s)",
    )
    parser.add_argument("--mirror", help="where Debian's packages are (default: mmdebstrap's)")
    parser.add_argument(
        "--machines", type=int, help="share each suite's tests among so many machines (default: as it says)"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="machines that run side by side, a CPU and 3 GiB each (default: %(default)s)",
    )
    parser.add_argument(
        "--no-image", dest="image", action="store_false", help="without the tests of the agent as a pod"
    )
    parser.add_argument("--long", action="store_true", help="do what is random as often as a release needs")
    parser.add_argument("--keep", action="store_true", help="keep the disks of the run")
    return runs.parse(parser, given)


def _suites(text: str) -> list[str]:
    try:
        return suites.named(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    main()
