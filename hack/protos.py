"""Generates the protobuf modules beside their .proto files; `--check` says which ones are not current.

The generator is grpcio-tools 1.72: what it writes runs on every protobuf from 6.30 on, while newer
generators refuse older runtimes. It has no build for Python 3.14; there the check is skipped, and says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main() -> None:
    """Write the modules, or compare them with what would be written."""
    parser = argparse.ArgumentParser(prog="hack/protos.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one is not current")
    options = parser.parse_args()
    if importlib.util.find_spec("grpc_tools") is None:
        print("protobuf modules: not checked, grpcio-tools is not installed for this Python")
        sys.exit(0 if options.check else 1)
    if not options.check:
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as scratch:
        stale = differing(generate(pathlib.Path(scratch)), pathlib.Path(scratch))
    for name in stale:
        print(f"{name}: not what its .proto file gives; run `make protos`", file=sys.stderr)
    print(f"protobuf modules: {len(stale)} not current")
    sys.exit(1 if stale else 0)


def generate(target: pathlib.Path) -> list[pathlib.Path]:
    """Run the generator over every .proto file of the package; the files written, relative to `target`."""
    protos = sorted(path.relative_to(ROOT) for path in ROOT.glob("reconciler/**/*.proto"))
    options = ["-I.", f"--python_out={target}", f"--pyi_out={target}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *options, *map(str, protos)]
    subprocess.run(command, cwd=ROOT, check=True)
    return [proto.with_name(proto.stem + ending) for proto in protos for ending in ("_pb2.py", "_pb2.pyi")]


def differing(names: list[pathlib.Path], fresh: pathlib.Path) -> list[pathlib.Path]:
    """Those of `names` whose committed file is missing or not equal to the one in `fresh`."""
    return [name for name in names if not _equal(ROOT / name, fresh / name)]


def _equal(committed: pathlib.Path, fresh: pathlib.Path) -> bool:
    return committed.exists() and committed.read_bytes() == fresh.read_bytes()


if __name__ == "__main__":
    main()
