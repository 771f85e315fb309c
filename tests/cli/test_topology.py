"""`topology`: the machine as placement sees it."""

from __future__ import annotations

import json
import pathlib

import pytest

from reconciler.cli import main
from reconciler.cpu import topology as topologies
from reconciler.sim import machine
from tests.cli import program


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    """A machine of 8 CPUs, one of which is offline and one isolated."""
    files = machine.vm() | {topologies.ONLINE: "0-6\n", topologies.ISOLATED: "5\n"}
    machine.write(str(tmp_path), files)
    return str(tmp_path)


def test_json_has_everything_as_kernel_lists(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["topology", "--host-root", root, "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "online": "0-6",
        "offline": "7",
        "isolated": "5",
        "sockets": ["0-3", "4-6"],
        "nodes": [
            {"id": 0, "cpus": "0-3", "memory": True, "distances": {"0": 10, "1": 20}},
            {"id": 1, "cpus": "4-6", "memory": True, "distances": {"0": 20, "1": 10}},
        ],
        "llcs": ["0-3", "4-6"],
        "cores": ["0-1", "2-3", "4-5", "6"],
    }


def test_text_is_a_tree(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["topology", "--host-root", root]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "online    0-6",
        "offline   7",
        "isolated  5",
        "sockets   0-3 | 4-6",
        "node 0: CPUs 0-3, distances 0:10 1:20",
        "  cache 0-3: cores [0-1] [2-3]",
        "node 1: CPUs 4-6, distances 0:20 1:10",
        "  cache 4-6: cores [4-5] [6]",
    ]


def test_this_machine_has_a_topology(capsys: pytest.CaptureFixture[str]) -> None:
    online = pathlib.Path("/", topologies.ONLINE).read_text().strip()
    assert main.main(["topology", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["online"] == online


def test_a_folder_without_a_sysfs_is_an_unsuitable_host(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["topology", "--host-root", str(tmp_path)]) == 3
    captured = capsys.readouterr()
    assert program.is_one_sentence(captured.err), captured.err
    assert topologies.ONLINE in captured.err


def test_a_text_that_the_kernel_would_not_write_is_named(
    root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.write(root, {topologies.ONLINE: "0-x\n"})
    assert main.main(["topology", "--host-root", root]) == 1
    captured = capsys.readouterr()
    assert program.is_one_sentence(captured.err), captured.err
    assert topologies.ONLINE in captured.err
