"""The program with everything it needs in one folder, for the interpreter that runs this. I/O: pip.

What is installed are the files that hack/requirements/agent.txt names by their hashes, without the tools that
only build. Used by `artifacts` and `node`.
"""

from __future__ import annotations

import compileall
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCK = ROOT / "hack/requirements/agent.txt"
WHEELS = ROOT / "build/wheels"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAME = PROJECT["project"]["name"]
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
"""The interpreter as wheels name it: what is bundled runs on no other."""


def wheels() -> pathlib.Path:
    """The folder with the locked wheels for this interpreter; they are fetched if they are not there yet."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = WHEELS / f"{TAG}-{digest}"
    if not folder.exists():
        WHEELS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetched-", dir=WHEELS) as scratch:
            fetched = pathlib.Path(scratch, "wheels")
            options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement", str(LOCK)]
            _pip("download", *options, "--dest", str(fetched))
            fetched.rename(folder)
    return folder


def wheel(into: pathlib.Path, source: pathlib.Path = ROOT) -> pathlib.Path:
    """Build the program's own wheel from a source tree or archive; its path. Asks nobody for anything."""
    _pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(into), str(source))
    [built] = into.glob(f"{NAME.replace('-', '_')}-*.whl")
    return built


def install(built: pathlib.Path, target: pathlib.Path) -> None:
    """Put the program of a wheel and what it requires, all extras included, into `target`, a folder that is
    put on the module search path as it is. Without bytecode: see `compiled`."""
    extras = ",".join(PROJECT["project"]["optional-dependencies"])
    wanted = f"{NAME}[{extras}] @ {built.resolve().as_uri()}"
    _pip(
        *("install", "--no-compile", "--no-index", "--find-links", str(wheels())),
        *("--target", str(target), wanted),
    )


def compiled(target: pathlib.Path, seen_at: str) -> None:
    """Compile all modules below `target`, which will be seen at the path `seen_at`."""
    compileall.compile_dir(target, quiet=2, stripdir=str(target), prependdir=seen_at)


def _pip(*arguments: str) -> None:
    run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])


def run(command: Sequence[str]) -> None:
    """Run a command in the repository's root; ends this process with its exit code where it fails."""
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
