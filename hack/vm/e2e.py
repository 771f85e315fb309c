"""Runs tests/e2e on a real node: builds a Debian machine, boots it in QEMU, runs pytest in it. I/O.

Usage: e2e.py [--suite SUITE] [--cache DIR] [--machines N] [--keep] [-k EXPRESSION] [-- PYTEST-ARGUMENTS]

Run as root on a Debian host. Exits with pytest's code, or 1 where the node could not be had. Nothing of the
host is changed outside the cache.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pathlib
import shutil
import signal
import sys
import threading
import time
from concurrent import futures

import boot
import failures
import image
import payload
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
    if os.geteuid() != 0:
        raise trouble.TroubleError("a root file system is built, so this must be run as root")
    trouble.check_programs()
    cache = options.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs would share the folder of the run
        return _run(options, passed_on, cache)


def _run(options: argparse.Namespace, passed_on: list[str], cache: pathlib.Path) -> int:
    began = time.monotonic()
    made, built = image.get(options.suite, cache, options.mirror)
    how = "built" if built else "reused"
    print(f"image of {options.suite}: {how}, at {time.monotonic() - began:.0f} s", flush=True)
    folder = cache / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    expression = ["-k", options.k] if options.k else []
    disk = folder / "payload.img"
    pytest = [*(passed_on or ["-v", "--durations=10"]), *expression, "-p", "no:cacheprovider", "tests/e2e"]
    payload.disk(disk, made, payload.site(made, cache), pytest)
    print(f"payload for Python {made.python}, at {time.monotonic() - began:.0f} s", flush=True)
    outcomes = _boot(made, disk, folder, options.machines)
    for number, outcome in enumerate(outcomes, 1):
        _close(number, outcome, folder / str(number) / "results")
        if outcome.code not in (0, NO_TESTS):
            for line in failures.told(folder / str(number) / "results" / "junit.xml"):
                print(f"  {line}")
    print(f"all done in {time.monotonic() - began:.0f} s; logs in {folder}")
    if not options.keep:
        for disk in folder.rglob("*.img"):
            disk.unlink()
    return combined([outcome.code for outcome in outcomes])


def _boot(made: image.Image, disk: pathlib.Path, folder: pathlib.Path, machines: int) -> list[boot.Outcome]:
    """Run the machines side by side. Raises TroubleError."""
    stop = threading.Event()
    plans = []
    for number in range(1, machines + 1):
        mark = f"{number}| " if machines > 1 else ""
        (folder / str(number)).mkdir()
        plans.append(
            boot.Plan(
                image=made,
                payload=disk,
                folder=folder / str(number),
                number=number,
                machines=machines,
                say=lambda line, mark=mark: print(f"{mark}{line}", flush=True),  # type: ignore[misc]
                stop=stop,
            )
        )
    with futures.ThreadPoolExecutor(machines) as threads:
        try:
            return list(threads.map(boot.run, plans))
        finally:
            stop.set()


def combined(codes: list[int | None]) -> int:
    """One exit code of all machines': the first that is not 0; having no test in its share is fine."""
    told = [1 if code is None else code for code in codes]
    if all(code == NO_TESTS for code in told):
        return NO_TESTS
    return next((code for code in told if code not in (0, NO_TESTS)), 0)


def _close(number: int, outcome: boot.Outcome, results: pathlib.Path) -> None:
    """The lines that a reader looks for at the end."""
    retries = results / "retries.txt"
    slow = len(retries.read_text().splitlines()) if retries.exists() else 0
    ending = "no results came back" if outcome.code is None else f"pytest exited with {outcome.code}"
    print(
        f"machine {number}: {ending}; failed boots before: {outcome.failed_boots}; "
        f"boot {outcome.boot_seconds:.0f} s, tests {outcome.test_seconds:.0f} s; "
        f"requests that were too slow and made again: {slow}"
    )


def _arguments(given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    passed_on: list[str] = []
    if "--" in given:
        at = given.index("--")
        given, passed_on = given[:at], given[at + 1 :]
    parser = argparse.ArgumentParser(prog="hack/vm/e2e.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--suite", default="unstable", help="Debian suite of the node (default: %(default)s)")
    parser.add_argument("--mirror", help="where Debian's packages are (default: mmdebstrap's)")
    parser.add_argument(
        "--cache", type=pathlib.Path, default=pathlib.Path("build/vm"), help="default: %(default)s"
    )
    parser.add_argument(
        "--machines",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="share the tests among so many machines, a CPU and 3 GiB each (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the disks of the run")
    parser.add_argument("-k", metavar="EXPRESSION", help="run the tests that match, as pytest's -k")
    return parser.parse_args(given), passed_on


if __name__ == "__main__":
    main()
