"""The program with everything it needs in one folder, for this interpreter or a newer one. I/O: pip.

What is installed are the files that hack/requirements/agent.txt names by their hashes, without the tools that
only build. Used by `artifacts` and `node`.
"""

from __future__ import annotations

import compileall
import hashlib
import pathlib
import platform
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
THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""The version of Python that runs this, such as `3.14`."""
LIBRARIES = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""The C libraries that wheels for another Python may need: those of any distribution with Python 3.11."""


def tag(python: str) -> str:
    """A version of Python as wheels name it: what is bundled for it runs on no other."""
    return f"cp{python.replace('.', '')}"


def wheels(python: str = THIS) -> pathlib.Path:
    """The folder with the locked wheels for a Python; they are fetched if they are not there yet."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = WHEELS / f"{tag(python)}-{digest}"
    if not folder.exists():
        WHEELS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetched-", dir=WHEELS) as scratch:
            fetched = pathlib.Path(scratch, "wheels")
            options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement", str(LOCK)]
            _pip("download", *_for(python), *options, "--dest", str(fetched))
            fetched.rename(folder)
    return folder


def wheel(into: pathlib.Path, source: pathlib.Path = ROOT) -> pathlib.Path:
    """Build the program's own wheel from a source tree or archive; its path. Asks nobody for anything."""
    _pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(into), str(source))
    [built] = into.glob(f"{NAME.replace('-', '_')}-*.whl")
    return built


def install(built: pathlib.Path, target: pathlib.Path, python: str = THIS) -> None:
    """Put the program of a wheel and what it requires, all extras included, into `target`, a folder that is
    put on the module search path as it is. Without bytecode: see `compiled`."""
    extras = ",".join(PROJECT["project"]["optional-dependencies"])
    wanted = f"{NAME}[{extras}] @ {built.resolve().as_uri()}"
    _pip(
        *("install", "--no-compile", "--no-index", "--find-links", str(wheels(python)), *_for(python)),
        *("--target", str(target), wanted),
    )


def _for(python: str) -> list[str]:
    """What pip is told beside, where it installs for another Python than the one that runs it. Not for an
    older one: pip asks the one that runs it which requirements a version needs, and older ones need more."""
    if python == THIS:
        return []
    machine = platform.machine()
    named = [*(f"--platform={library}_{machine}" for library in LIBRARIES), "--platform=any"]
    return ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *named]


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
