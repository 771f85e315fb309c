"""In a container of its own the agent writes its pod's cgroup, because it may not write its own."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import pytest

from reconciler import observed
from reconciler.host import cgroupfs, contained
from tests.host import groups

# covers: PRD-10.7
POD = "kubepods.slice/kubepods-burstable.slice/pod1.slice"
OWN = f"{POD}/agent.scope"
PAUSE = f"{POD}/pause.scope"


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    for path in (POD, OWN, PAUSE):
        groups.make(str(tmp_path), path, cpus="0-7")
    return str(tmp_path)


@pytest.fixture
def tree(root: str) -> Iterator[cgroupfs.Cgroupfs]:
    """What the agent in that container has."""
    with contextlib.closing(contained.tree(root, f"{root}/{OWN}")) as made:
        yield made


def test_its_own_cgroup_is_found_wherever_it_is(root: str) -> None:
    assert contained.own(root, f"{root}/{OWN}") == OWN
    assert contained.own(root, f"{root}/kubepods.slice") == "kubepods.slice"


@pytest.mark.parametrize("seen", ["{root}", "{root}/nowhere", "/proc"], ids=["host", "nothing", "stranger"])
def test_outside_of_containers_there_is_none(root: str, seen: str) -> None:
    assert contained.own(root, seen.format(root=root)) is None
    tree = contained.tree(root, seen.format(root=root))
    assert type(tree) is cgroupfs.Cgroupfs
    assert contained.steered(tree) is None


def test_its_pods_cgroup_is_written_and_read_in_place_of_its_own(root: str, tree: cgroupfs.Cgroupfs) -> None:
    tree.write(OWN, observed.CPUS, "0-3")
    assert groups.text(root, OWN, observed.CPUS) == "0-7\n"
    assert groups.text(root, POD, observed.CPUS).startswith("0-3")
    assert groups.cpus_of(tree.look(OWN)) == "0-3"
    assert contained.steered(tree) == POD


def test_everyone_elses_cgroup_is_written_as_ever(root: str, tree: cgroupfs.Cgroupfs) -> None:
    tree.write(PAUSE, observed.CPUS, "4-7")
    assert groups.text(root, PAUSE, observed.CPUS).startswith("4-7")
    assert groups.cpus_of(tree.look(PAUSE)) == "4-7"
    assert groups.text(root, POD, observed.CPUS) == "0-7\n"


def test_nothing_stays_open_of_it_once_it_is_forgotten(tree: cgroupfs.Cgroupfs) -> None:
    before = groups.descriptors()
    tree.look(OWN)
    assert groups.descriptors() == before + 1
    tree.forget(OWN)
    assert groups.descriptors() == before
