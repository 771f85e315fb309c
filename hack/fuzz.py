"""Fuzzes the parsers with atheris: runs targets of tests/fuzz, or makes their corpora small again.

A run begins with the corpus in fixtures/fuzz and the inputs by hand, and adds what it finds to
build/fuzz/TARGET/found. An input that shows a fault is kept as build/fuzz/TARGET/crash-*, timeout-* or oom-*,
and makes the exit code 1. Everything ends by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
from concurrent import futures
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[1]
CORPORA = ROOT / "fixtures" / "fuzz"
BUILT = ROOT / "build" / "fuzz"
MOST_FILES = 60
MOST_BYTES = 100 << 10
"""What a corpus in fixtures/fuzz may have; tests/fuzz/test_targets.py checks it."""

_SECONDS_A_UNIT = 10
_SECONDS_A_MERGE = 1800
_MEGABYTES = 1024
_GRACE = 60
"""Seconds after its time in which a fuzzer must have ended; then it is killed, which is a fault."""
_COVERED = re.compile(r"^#\d+\t\S+ +cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
_UNITS = re.compile(r"^stat::number_of_executed_units: *(\d+)", re.MULTILINE)
_FAULTS = ("crash-*", "timeout-*", "oom-*", "leak-*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one run; `said` is its last output where it has not ended well."""

    target: str
    executions: int
    edges: int
    features: int
    faults: tuple[pathlib.Path, ...]
    said: str = ""

    @property
    def fine(self) -> bool:
        """Whether nothing was found."""
        return not self.faults and not self.said


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; 1 where something was found, 2 where nothing can be run."""
    sys.path.insert(0, str(ROOT))
    from tests.fuzz import targets  # noqa: PLC0415  the path is known only now

    chosen = arguments(list(targets.TARGETS), argv)
    if importlib.util.find_spec("atheris") is None:
        version = ".".join(str(number) for number in sys.version_info[:2])
        print(
            f"atheris is not installed: it has wheels for CPython 3.11 to 3.14 on x86_64 Linux, and this is "
            f"{sys.implementation.name} {version} on {os.uname().machine}; see hack/requirements/fuzz.txt",
            file=sys.stderr,
        )
        return 2
    if chosen.minimise:
        for target in chosen.targets:
            _minimise(target)
        return 0
    with futures.ThreadPoolExecutor(chosen.jobs) as pool:
        runs = [pool.submit(_run, target, chosen.seconds, chosen.seed) for target in chosen.targets]
        return max([_told(run.result()) for run in futures.as_completed(runs)], default=0)


def arguments(names: list[str], argv: list[str] | None) -> argparse.Namespace:
    """What the command line says, with these targets. Raises SystemExit for what is not known."""
    parser = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: another every time)")
    parser.add_argument(
        "--minimise", action="store_true", help="merge what was found into fixtures/fuzz, and keep that small"
    )
    chosen = parser.parse_args(argv)
    chosen.targets = chosen.targets or names
    if unknown := sorted(set(chosen.targets) - set(names)):
        parser.error(f"there is no target {unknown[0]}")
    return chosen


def _run(target: str, seconds: int, seed: int) -> Outcome:
    """Fuzz one target for so many seconds."""
    folder = BUILT / target
    found = folder / "found"
    found.mkdir(parents=True, exist_ok=True)
    known = _faults(folder)
    said, code = _libfuzzer(
        target,
        [
            *(f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={folder}/"),
            *(f"-timeout={_SECONDS_A_UNIT}", f"-rss_limit_mb={_MEGABYTES}", "-print_final_stats=1"),
            *(str(found), *_beginnings(target)),
        ],
        seconds + _GRACE,
    )
    (folder / "log").write_text(said)
    return outcome(target, said, code, folder, known=known)


def outcome(target: str, said: str, code: int, folder: pathlib.Path, *, known: set[pathlib.Path]) -> Outcome:
    """What libFuzzer's output and exit code mean; `known` are inputs in `folder` that were there before."""
    covered = _COVERED.findall(said)
    units = _UNITS.findall(said)
    return Outcome(
        target=target,
        executions=int(units[-1]) if units else 0,
        edges=int(covered[-1][0]) if covered else 0,
        features=int(covered[-1][1]) if covered else 0,
        faults=tuple(sorted(_faults(folder) - known)),
        said="" if code == 0 and units else said[-4000:],
    )


def _faults(folder: pathlib.Path) -> set[pathlib.Path]:
    return {path for pattern in _FAULTS for path in folder.glob(pattern)}


def _libfuzzer(target: str, arguments: list[str], patience: float) -> tuple[str, int]:
    """The output and the exit code of libFuzzer on that target; -9 and what it said if it did not end."""
    command = [sys.executable, "-m", "tests.fuzz", target, *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        said, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return f"{said}\nnot ended after {patience:.0f} s: killed", -9
    return said, process.returncode


def _beginnings(target: str) -> list[str]:
    """The folders with what a run begins with: the corpus, and the inputs by hand as files."""
    from tests.fuzz import seeds  # noqa: PLC0415  as above

    by_hand = BUILT / target / "by-hand"
    by_hand.mkdir(parents=True, exist_ok=True)
    for data in seeds.SEEDS[target]:
        _keep(data, by_hand)
    corpus = CORPORA / target
    return [str(folder) for folder in (corpus, by_hand) if folder.is_dir()]


def _keep(data: bytes, folder: pathlib.Path) -> None:
    (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def _minimise(target: str) -> None:
    """Put into the corpus what reaches as much as all inputs that there are, and as often; where that is more
    than a corpus may have, what reaches every edge at all, the smallest first."""
    inputs = _merged(target, [])
    if len(inputs) > MOST_FILES or sum(map(len, inputs)) > MOST_BYTES:
        inputs = _merged(target, ["-use_counters=0"])
    corpus = CORPORA / target
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    kept = 0
    for data in inputs[:MOST_FILES]:
        if kept + len(data) <= MOST_BYTES:
            _keep(data, corpus)
            kept += len(data)
    print(f"{target}: {len(list(corpus.iterdir()))} of {len(inputs)} inputs kept, {kept} bytes", flush=True)


def _merged(target: str, how: list[str]) -> list[bytes]:
    """The inputs that libFuzzer chooses from the corpus, those by hand and what was found; smallest first."""
    folder = BUILT / target
    chosen, found = folder / "merged", folder / "found"
    shutil.rmtree(chosen, ignore_errors=True)
    chosen.mkdir(parents=True)
    found.mkdir(exist_ok=True)
    sources = [str(found), *_beginnings(target)]
    said, code = _libfuzzer(target, ["-merge=1", *how, str(chosen), *sources], _SECONDS_A_MERGE)
    if code != 0:
        sys.exit(f"{target}: merging failed\n{said[-4000:]}")
    return sorted((path.read_bytes() for path in chosen.iterdir()), key=lambda data: (len(data), data))


def _told(outcome: Outcome) -> int:
    """Print what came of a run, and give its exit code."""
    print(
        f"{outcome.target}: {outcome.executions} executions, {outcome.edges} edges, "
        f"{outcome.features} features, {'nothing found' if outcome.fine else 'FAULT'}",
        flush=True,
    )
    for path in outcome.faults:
        print(f"  {os.path.relpath(path, ROOT)}: {path.read_bytes()[:200]!r}")
    if outcome.said:
        print(outcome.said)
    return 0 if outcome.fine else 1


if __name__ == "__main__":
    sys.exit(main())
