"""The disk with what is tested: package, tests, their dependencies, and the agent's image. I/O.

Made anew each run. Dependencies are the locked wheels for the guest's Python, fetched once and kept beside
the images of the nodes; the agent's image is built where something in it has changed.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import disks
import image  # noqa: TC002  beside this module, not a third party's
import trouble

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCK = ROOT / "hack/requirements/node.txt"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")
PARTS = ("reconciler", "tests", "fixtures", "hack", "deploy", "pyproject.toml")


def site(image_: image.Image, cache: pathlib.Path) -> pathlib.Path:
    """A folder with the dependencies for the guest's Python. Raises TroubleError."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = cache / f"site-{image_.python}-{digest}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(prefix="site-", dir=cache) as scratch:
            made = pathlib.Path(scratch, "site")
            command = [
                *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"),
                *("--target", str(made), "--no-compile", "--no-deps", "--require-hashes"),
                *("--only-binary=:all:", "--implementation", "cp", "--python-version", image_.python),
                *(f"--platform={name}" for name in PLATFORMS),
                *("--requirement", str(LOCK)),
            ]
            if subprocess.run(command, check=False).returncode != 0:
                raise trouble.TroubleError(f"the wheels for Python {image_.python} could not be fetched")
            made.rename(folder)
    return folder


def archive(mirror: str | None) -> pathlib.Path:
    """The agent's image and a second build of it, as an OCI archive. Raises TroubleError."""
    command = [sys.executable, "-m", "hack.image", "--twice"]
    command += ["--mirror", mirror] if mirror else []
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        raise trouble.TroubleError("the agent's image could not be built")
    return pathlib.Path(done.stdout.splitlines()[-1])


def disk(
    target: pathlib.Path,
    image_: image.Image,
    site_: pathlib.Path,
    pytest: Sequence[str],
    archive_: pathlib.Path | None,
) -> None:
    """Write the disk image; `pytest` are the arguments that pytest is given in the guest."""
    tree = image_.root / "opt/payload"
    shutil.rmtree(tree, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    shutil.copytree(site_, tree / "site", ignore=ignore)
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, tree / name)
    if archive_ is not None:
        shutil.copy(archive_, tree / "image.tar")
    (tree / "pytest.json").write_text(json.dumps(list(pytest)))
    log = target.with_suffix(".log")
    compiled(tree, image_, log)
    disks.write(target, tree, "384M", log=log, label="payload")


def compiled(tree: pathlib.Path, image_: image.Image, log: pathlib.Path) -> None:
    """Compile the modules of a folder of the root file system. Raises TroubleError.

    By the guest's Python on the host: in the emulator that takes half a minute.
    """
    # unchecked-hash: the disk may be read-only in the guest, and its times are the copy's.
    compileall = ["python3", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"]
    folder = f"/{tree.relative_to(image_.root)}"
    trouble.call(["chroot", str(image_.root), *compileall, folder], log=log)
