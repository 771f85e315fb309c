"""Writes hack/requirements/*.txt: every package that is installed, pinned, with the hashes of its files.

Usage: lock.py [--modules]

With --modules, *.mod and *.sum in their place, with Go, of the versions that stand in the .mod files.

One lock serves Python 3.11 to 3.14 on x86_64 and aarch64: differences are environment markers.
Needs `uv` on the PATH or beside this interpreter. Reads pyproject.toml, asks the package index.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCKS = ROOT / "hack" / "requirements"
COMPILE = [
    *("pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate", "--quiet"),
    *("--no-emit-package", "colorama"),  # named for Windows only
]
AGENT = ["--extra", "cli", "--extra", "systemd", "--group", "build"]
NODE = ["--extra", "systemd", "--group", "e2e"]
CHECKS = [*AGENT, "--group", "lint"]
FUZZ = ["--group", "fuzz"]
CHART = ["--group", "chart"]


def main() -> None:
    """Compile checks.txt, then the others to the same versions; or the modules."""
    if sys.argv[1:] == ["--modules"]:
        if shutil.which("go") is None:
            sys.exit("go is needed to resolve the modules")
        for mod in LOCKS.glob("*.mod"):
            _tidy(mod)
        return
    beside = pathlib.Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        sys.exit("uv is needed to resolve the locks: `.venv/bin/pip install uv`")
    checks = LOCKS / "checks.txt"
    _compile(uv, CHECKS, checks)
    for name, groups in (("agent", AGENT), ("node", NODE), ("fuzz", FUZZ), ("chart", CHART)):
        _compile(uv, [*groups, "--constraints", str(checks)], LOCKS / f"{name}.txt")


def _compile(uv: str, groups: list[str], lock: pathlib.Path) -> None:
    subprocess.run([uv, *COMPILE, *groups, "--output-file", str(lock)], cwd=ROOT, check=True)


def _tidy(mod: pathlib.Path) -> None:
    files = {"go.mod": mod, "go.sum": mod.with_suffix(".sum")}
    with tempfile.TemporaryDirectory() as scratch:
        for name, file in files.items():
            shutil.copy(file, f"{scratch}/{name}")
        subprocess.run(["go", "mod", "tidy"], cwd=scratch, check=True)
        for name, file in files.items():
            shutil.copy(f"{scratch}/{name}", file)


if __name__ == "__main__":
    main()
