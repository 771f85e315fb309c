"""Runs tests/e2e on a real node: builds a Debian machine, boots it in QEMU, runs pytest in it. I/O.

Usage: e2e.py [--suite SUITE] [--cache DIR] [--keep] [-k EXPRESSION] [-- PYTEST-ARGUMENTS]

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
import time

import boot
import image
import payload
import trouble


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
    outcome = boot.run(made, disk, folder)
    _close(outcome, folder, time.monotonic() - began)
    if not options.keep:
        for name in ("payload.img", "results.img"):
            (folder / name).unlink(missing_ok=True)
    return 1 if outcome.code is None else outcome.code


def _close(outcome: boot.Outcome, folder: pathlib.Path, seconds: float) -> None:
    """The lines that a reader looks for at the end."""
    ending = "no results came back" if outcome.code is None else f"pytest exited with {outcome.code}"
    print(
        f"{ending}; failed boots before: {outcome.failed_boots}; boot {outcome.boot_seconds:.0f} s, "
        f"tests {outcome.test_seconds:.0f} s, all {seconds:.0f} s; logs in {folder}"
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
    parser.add_argument("--keep", action="store_true", help="keep the disks of the run")
    parser.add_argument("-k", metavar="EXPRESSION", help="run the tests that match, as pytest's -k")
    return parser.parse_args(given), passed_on


if __name__ == "__main__":
    main()
