"""Builds the agent's image with buildah, tries it, and says how large it is. I/O: processes, files.

Usage: python -m hack.image [--base IMAGE] [--suite SUITE] [--mirror URL] [--cache DIR] [--output FILE]
[--twice]

Run as root on a Debian host. No registry is asked: without --base the base is made of Debian's packages. The
result is an OCI archive, beside whose image of the tag `built` --twice puts another build, `rebuilt`. Nothing
of the host is changed outside the cache.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Sequence

from hack import image_contents

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "deploy/Dockerfile"
CONTEXT = ("LICENSE", "README.md", "hack/requirements/agent.txt", "pyproject.toml", "reconciler")
NAME = "localhost/cpuset-reconciler"
BASE = "localhost/cpuset-reconciler-base"
MOST_BYTES = 120 << 20
"""Above the base's, unpacked."""
_KEPT = 3
"""Archives in the cache."""


class ImageError(Exception):
    """There is no image; the text is one sentence that says why."""


def main() -> None:
    """Build, judge, and exit."""
    options = _arguments(sys.argv[1:])
    try:
        sys.exit(run(options))
    except ImageError as error:
        sys.exit(f"image: {error}")


def run(options: argparse.Namespace) -> int:
    """Build the archive where it is not there yet, and say how large it is. Raises ImageError."""
    if os.geteuid() != 0:
        raise ImageError("files of other users are made, so this must be run as root")
    cache: pathlib.Path = options.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    output: pathlib.Path = options.output or cache / f"image-{_digest(options)}.tar"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if options.output or not output.exists():
            with tempfile.TemporaryDirectory(prefix="build-", dir=cache) as scratch:
                _build(options, pathlib.Path(scratch), output)
        for old in sorted(cache.glob("image-*.tar"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            old.unlink()
    layers, base = image_contents.read(output)
    above = sum(entry.size for layer in layers[base:] for entry in layer)
    below = sum(entry.size for layer in layers[:base] for entry in layer)
    faults = list(image_contents.complaints(entry for layer in layers for entry in layer))
    if above > MOST_BYTES:
        faults.append(f"it has {above >> 20} MiB above its base's, more than {MOST_BYTES >> 20}")
    print(
        f"unpacked: {above / 2**20:.1f} MiB above the {below / 2**20:.1f} MiB of its base; "
        f"as an archive: {output.stat().st_size / 2**20:.1f} MiB",
        flush=True,
    )
    for fault in faults:
        print(f"image: {fault}", file=sys.stderr)
    print(output)
    return 1 if faults else 0


def _build(options: argparse.Namespace, scratch: pathlib.Path, output: pathlib.Path) -> None:
    buildah = _Buildah(scratch)
    began = time.monotonic()
    base = options.base or _base(buildah, options, scratch.parent)
    print(f"base: {base}, {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    layers = _layers(buildah, base)
    buildah.call(*_build_command(base, layers, scratch), ".")
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    _try(buildah)
    tags = ["built"]
    if options.twice:
        tags.append(_rebuild(buildah))
    layout = scratch / "layout"
    for tag in tags:
        buildah.call("push", "--quiet", f"{NAME}:{tag}", f"oci:{layout}:{NAME}:{tag}")
    partial = output.with_suffix(".partial")
    with tarfile.open(partial, "w") as archive:
        for path in sorted(layout.rglob("*")):
            archive.add(path, arcname=str(path.relative_to(layout)), recursive=False)
    partial.rename(output)


def _build_command(base: str, layers: int, scratch: pathlib.Path) -> list[str]:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"]["path"]
    text = (ROOT / version).read_text()
    number = text.split('__version__ = "', 1)[1].split('"', 1)[0]
    return [
        *("build", "--isolation", "chroot", "--layers=false", "--quiet", "--tag", f"{NAME}:built"),
        *("--build-arg", f"BASE={base}", "--build-arg", f"VERSION={number}"),
        *("--label", f"{image_contents.BASE_LAYERS}={layers}"),
        *("--file", str(DOCKERFILE), "--ignorefile", f"{DOCKERFILE}.dockerignore"),
        *_secrets(scratch),
    ]


def _secrets(scratch: pathlib.Path) -> list[str]:
    """What pip in the build is told of this host's: its certificates, and how long to wait."""
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if not certificates:
        return []
    pip = scratch / "pip.conf"
    timeout = os.environ.get("PIP_DEFAULT_TIMEOUT", "60")
    pip.write_text(f"[global]\ncert = /run/ca.pem\ntimeout = {timeout}\n")
    return ["--secret", f"id=pip.conf,src={pip}", "--secret", f"id=ca.pem,src={certificates}"]


def _base(buildah: _Buildah, options: argparse.Namespace, cache: pathlib.Path) -> str:
    """A base of Debian's essential packages and apt, of which the files are made once."""
    files = cache / f"base-{options.suite}.tar"
    if not files.exists():
        partial = files.with_suffix(".partial.tar")
        _call(_bootstrap(options, partial), cwd=cache)
        partial.rename(files)
    recipe = cache / "Basefile"
    recipe.write_text(f"FROM scratch\nADD {files.name} /\n")
    name = f"{BASE}:{options.suite}"
    buildah.call("build", "--layers=false", "--quiet", "--tag", name, "--file", str(recipe), str(cache))
    return name


def _bootstrap(options: argparse.Namespace, files: pathlib.Path) -> list[str]:
    """mmdebstrap's command line."""
    return [
        # Mounts of its own: one that it cannot undo must not be left on the host.
        *("unshare", "--mount", "--propagation", "private"),
        *("mmdebstrap", "--variant=minbase", "--mode=root", "--quiet"),
        # Both are kept in the base. The release file of a rarely synchronised mirror may be past its date.
        """--aptopt=Acquire::Check-Valid-Until "false";""",
        """--aptopt=Acquire::Retries "3";""",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")),
        *(options.suite, str(files)),
        *([options.mirror] if options.mirror else []),
    ]


def _try(buildah: _Buildah) -> None:
    """Run it as its own user: its version, and a whole simulated node."""
    container = buildah.call("from", "--pull-never", f"{NAME}:built").strip()
    for words in (["--version"], ["demo", "--plain", "--speed", "1000"]):
        command = ["run", "--isolation", "chroot", container, "--", f"/{image_contents.PROGRAM}", *words]
        print(f"$ cpuset-reconciler {' '.join(words)}")
        print(buildah.call(*command).strip().splitlines()[-1], flush=True)
    buildah.call("rm", container)


def _rebuild(buildah: _Buildah) -> str:
    """Another image of the same files, as the next build is for the runtime; its tag."""
    container = buildah.call("from", "--pull-never", f"{NAME}:built").strip()
    buildah.call("config", "--label", "build=second", container)
    buildah.call("commit", "--quiet", "--rm", container, f"{NAME}:rebuilt")
    return "rebuilt"


def _layers(buildah: _Buildah, image: str) -> int:
    """How many layers an image has; it is fetched where it is not there."""
    container = buildah.call("from", "--pull", image).strip()
    told = json.loads(buildah.call("inspect", container))
    buildah.call("rm", container)
    return len(told["OCIv1"]["rootfs"]["diff_ids"])


class _Buildah:
    """buildah with a store of its own, without overlays, which are not there in every container."""

    def __init__(self, scratch: pathlib.Path) -> None:
        storage = ["--root", str(scratch / "storage"), "--runroot", str(scratch / "run")]
        self.words = ["buildah", *storage, "--storage-driver", "vfs"]

    def call(self, *words: str, cwd: pathlib.Path = ROOT) -> str:
        """Its output. Raises ImageError."""
        return _call([*self.words, *words], cwd=cwd)


def _call(command: Sequence[str], cwd: pathlib.Path) -> str:
    if shutil.which(command[0]) is None:
        raise ImageError(f"{command[0]} is missing: `apt-get install buildah mmdebstrap`")
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        end = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise ImageError(f"`{' '.join(command)}` failed with code {done.returncode}:\n{end}")
    return done.stdout


def _digest(options: argparse.Namespace) -> str:
    """What the archive depends on, but for the date."""
    state = hashlib.sha256(f"{options.base} {options.suite} {options.twice}".encode())
    paths = [DOCKERFILE, pathlib.Path(__file__)]
    for name in CONTEXT:
        here = ROOT / name
        paths += sorted(here.rglob("*.py*")) if here.is_dir() else [here]
    for path in paths:
        if path.suffix != ".pyc" and path.is_file():
            state.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return state.hexdigest()[:12]


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hack.image", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--base", help="image to build on, from a registry (default: made of Debian's packages)"
    )
    parser.add_argument("--suite", default="trixie", help="Debian's, for the base (default: %(default)s)")
    parser.add_argument("--mirror", help="where Debian's packages are (default: mmdebstrap's)")
    parser.add_argument(
        "--cache", type=pathlib.Path, default=pathlib.Path("build/image"), help="default: %(default)s"
    )
    parser.add_argument("--output", type=pathlib.Path, help="the archive (default: in the cache)")
    parser.add_argument("--twice", action="store_true", help="add a second build under the tag `rebuilt`")
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
