"""The machines that are generated are those of the fixtures, and are written as a host's files."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from reconciler.cpu import topology as topologies
from reconciler.host import sysfs
from reconciler.sim import machine

MACHINES = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "machines"
EPYC = machine.Shape(sockets=1, nodes=4, llcs=4, cores=2)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        pytest.param("vm", machine.vm(), id="vm"),
        pytest.param("two-socket", machine.two_sockets(), id="two-socket"),
        pytest.param("epyc", machine.build(EPYC), id="epyc"),
        pytest.param("vm-isolated", machine.vm() | {topologies.ISOLATED: "2-3\n"}, id="vm-isolated"),
    ],
)
def test_a_fixture_equals_the_machine_that_is_built(name: str, files: dict[str, str]) -> None:
    text = (MACHINES / f"{name}.yaml").read_text()
    assert yaml.load(text, Loader=yaml.CSafeLoader) == files


def test_siblings_are_neighbours_or_come_after_all_first_threads() -> None:
    apart = topologies.parse(machine.two_sockets())
    assert [str(core) for core in apart.cores] == [f"{cpu},{cpu + 8}" for cpu in range(8)]
    adjacent = topologies.parse(machine.vm())
    assert [str(core) for core in adjacent.cores] == ["0-1", "2-3", "4-5", "6-7"]


def test_nodes_of_one_socket_are_nearer_than_those_of_another() -> None:
    built = topologies.parse(machine.build(machine.Shape(sockets=2, nodes=2, cores=1)))
    assert [dict(node.distances) for node in built.nodes] == [
        {0: 10, 1: 12, 2: 21, 3: 21},
        {0: 12, 1: 10, 2: 21, 3: 21},
        {0: 21, 1: 21, 2: 10, 3: 12},
        {0: 21, 1: 21, 2: 12, 3: 10},
    ]


def test_what_is_written_is_read_back(tmp_path: pathlib.Path) -> None:
    machine.write(str(tmp_path), machine.vm())
    assert sysfs.read(str(tmp_path)) == machine.vm()


def test_writing_again_replaces_only_what_is_given(tmp_path: pathlib.Path) -> None:
    root = str(tmp_path)
    machine.write(root, machine.vm())
    machine.write(root, {topologies.ONLINE: "0-6\n"})
    assert str(sysfs.topology(root).offline) == "7"
    assert not list(tmp_path.rglob("*.new"))
