"""Empty directories to be the mount of cgroup2."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyfakefs.fake_filesystem import FakeFilesystem


@pytest.fixture(params=["real", "fake"])
def ground(request: pytest.FixtureRequest) -> str:
    """A real one, and one of a fake file system."""
    if request.param == "fake":
        fs: FakeFilesystem = request.getfixturevalue("fs")
        fs.create_dir("/mount")
        return "/mount"
    return str(request.getfixturevalue("tmp_path"))


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    """A real one: a fake file system knows directories by their paths only."""
    return str(tmp_path)
