"""When systemd last reloaded its units."""

from __future__ import annotations

import os
import pathlib

import pytest

from reconciler.host import units


def made(root: pathlib.Path, name: str, at: float) -> None:
    """A directory of generators' output that was made then."""
    path = root / "run/systemd" / name
    path.mkdir(parents=True)
    os.utime(path, (at, at))


@pytest.mark.parametrize(
    ("directories", "ago"),
    [
        pytest.param({}, None, id="no systemd"),
        pytest.param({"generator": 990.0}, 10.0, id="one"),
        pytest.param({"generator": 990.0, "generator.late": 991.5}, 8.5, id="the latest counts"),
        pytest.param({"system": 995.0}, None, id="another directory"),
        pytest.param({"generator": 1010.0}, 0.0, id="the clock was set back"),
    ],
)
def test_a_reload_shows_in_the_directories_that_it_makes(
    directories: dict[str, float], ago: float | None, tmp_path: pathlib.Path
) -> None:
    for name, at in directories.items():
        made(tmp_path, name, at)
    assert units.reloaded_ago(str(tmp_path), clock=lambda: 1000.0) == ago
