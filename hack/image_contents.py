"""What is in an image: read from its OCI archive, and judged. I/O: reads one file."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import pathlib
import tarfile
from collections.abc import Iterable, Iterator

BASE_LAYERS = "base.layers"
"""The label that says how many layers are the base's."""
HOME = "opt/cpuset-reconciler/"
PROGRAM = "usr/bin/cpuset-reconciler"
USERS = (0, 65532)
"""Who runs it: a pod as user 0, without a capability; whoever tries a command out as the image's own user."""
UNWANTED = ("pip", "pip3", "gcc", "cc", "g++", "c++", "clang", "ld", "as", "make", "cargo", "rustc", "go")
"""Programs that a finished image must not have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What a layer says of one path, without a slash at either end. `size` is in bytes."""

    path: str
    size: int
    user: int
    mode: int
    is_link: bool


def read(archive: pathlib.Path) -> tuple[list[list[Entry]], int]:
    """The entries of each layer of the first image in an OCI archive, and how many layers its base has.

    Raises ValueError, KeyError or OSError for what is no such archive.
    """
    with tarfile.open(archive) as opened:
        index = json.load(_member(opened, "index.json"))
        manifest = json.load(_member(opened, _blob(index["manifests"][0])))
        layers = [_entries(opened, layer) for layer in manifest["layers"]]
        config = json.load(_member(opened, _blob(manifest["config"])))
    return layers, int(config["config"]["Labels"][BASE_LAYERS])


def complaints(entries: Iterable[Entry]) -> Iterator[str]:
    """What an image with these entries should not have: a sentence each."""
    for entry in entries:
        folder, _, name = entry.path.rpartition("/")
        if folder.endswith("bin") and name in UNWANTED:
            yield f"{entry.path} is in it, and nothing is built in it"
        if folder.endswith(("site-packages", "dist-packages")) and name == "pip":
            yield f"{entry.path} is in it, and nothing is installed in it"
        if f"{entry.path}/".startswith(HOME) or entry.path == PROGRAM:
            if entry.user in USERS:
                yield f"{entry.path} is user {entry.user}'s, who runs it and could change it"
            if entry.mode & 0o022 and not entry.is_link:
                yield f"{entry.path} has mode {entry.mode:o}: others than its owner may change it"


def _entries(archive: tarfile.TarFile, layer: dict[str, str]) -> list[Entry]:
    data = _member(archive, _blob(layer))
    stream = gzip.GzipFile(fileobj=data) if layer["mediaType"].endswith("gzip") else data
    with tarfile.open(fileobj=io.BytesIO(stream.read())) as files:
        return [
            Entry(its.name.strip("./"), its.size, its.uid, its.mode, its.issym())
            for its in files.getmembers()
        ]


def _blob(descriptor: dict[str, str]) -> str:
    return "blobs/" + descriptor["digest"].replace(":", "/")


def _member(archive: tarfile.TarFile, name: str) -> io.BufferedReader:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"the archive has no file {name}")
    return found  # type: ignore[return-value]
