"""Builds what a release consists of into a folder: wheel, source archive, zipapp. I/O: pip, files.

Usage: python -m hack.artifacts [--output DIR] [--interpreter PATH]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import zipapp

from hack import bundle, unpacking

INTERPRETER = "/usr/bin/python3"
"""What the zipapp names as its own: a runtime starts its plugins without a PATH to search."""


def main(arguments: list[str] | None = None) -> None:
    """Build all three."""
    parser = argparse.ArgumentParser(description="build wheel, source archive and zipapp")
    parser.add_argument("--output", type=pathlib.Path, default=bundle.ROOT / "dist", help="default: dist")
    parser.add_argument("--interpreter", default=INTERPRETER, help="of the zipapp; default: %(default)s")
    given = parser.parse_args(arguments)
    output: pathlib.Path = given.output.resolve()
    bundle.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(bundle.ROOT)])
    [wheel] = output.glob(f"*-{version()}-*.whl")
    print(zipped(wheel, output, given.interpreter))


def version() -> str:
    """The version, from the one place where it is written."""
    text = (bundle.ROOT / "reconciler/__init__.py").read_text()
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith("__version__"))


def zipped(wheel: pathlib.Path, output: pathlib.Path, interpreter: str) -> pathlib.Path:
    """Pack the program of a wheel with all that it needs into one file that runs; its path."""
    archive = output / f"{bundle.NAME}-{version()}-{bundle.tag(bundle.THIS)}-{platform.machine()}.pyz"
    with tempfile.TemporaryDirectory(prefix="zipapp-") as scratch:
        stage = pathlib.Path(scratch)
        bundle.install(wheel, stage / "lib")
        for extra in ("bin", "include", "share"):
            shutil.rmtree(stage / "lib" / extra, ignore_errors=True)
        (stage / "__main__.py").write_text(_main(_digest(stage / "lib")))
        zipapp.create_archive(stage, archive, interpreter=interpreter, compressed=True)
    archive.chmod(0o755)
    return archive


def _main(digest: str) -> str:
    source = pathlib.Path(str(unpacking.__file__)).read_text()
    for before, after in (
        ("PYTHON = (0, 0)", f"PYTHON = {sys.version_info[:2]}"),
        ('MACHINE = ""', f'MACHINE = "{platform.machine()}"'),
        ('BUILD = ""', f'BUILD = "{version()}-{digest}"'),
    ):
        if before not in source:
            sys.exit(f"hack/unpacking.py has no line {before!r}")
        source = source.replace(before, after)
    return source


def _digest(folder: pathlib.Path) -> str:
    made = hashlib.sha256()
    for path in sorted(its for its in folder.rglob("*") if its.is_file()):
        made.update(os.fsencode(path.relative_to(folder)) + b"\0" + path.read_bytes() + b"\0")
    return made.hexdigest()[:16]


if __name__ == "__main__":
    main()
