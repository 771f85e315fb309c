"""Where descriptors are few the agent does with those that are left; what it cannot do costs nothing else."""

# covers: PRD-11.1

from __future__ import annotations

import errno
import pathlib

import pytest

from reconciler import errors
from reconciler.cpu.idset import CpuSet
from reconciler.host import processes
from reconciler.runtime.nri import dial
from tests.faults import descriptors
from tests.host import groups

NAMES = [f"pod{number}/c.scope" for number in range(60)]


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    for number, name in enumerate(NAMES):
        groups.make(str(tmp_path), name, cpus=str(number % 8))
    return str(tmp_path)


def test_half_of_the_descriptors_are_left_to_others(root: str) -> None:
    before = groups.descriptors()
    with groups.opened(root) as tree:
        with descriptors.limited(before + 40):
            for _ in range(3):
                for number, name in enumerate(NAMES):
                    assert groups.cpus_of(tree.look(name)) == str(number % 8)
            kept = groups.descriptors() - before
        assert kept == (before + 40) // 2


def test_groups_keep_their_descriptors_from_pass_to_pass_though_there_are_more_of_them(root: str) -> None:
    with groups.opened(root) as tree, descriptors.limited(80):
        for name in NAMES:
            tree.look(name)
        first = {name: tree._open[name].descriptor for name in NAMES[:39]}
        for name in NAMES:
            tree.look(name)
        assert {name: tree._open[name].descriptor for name in NAMES[:39]} == first


def test_descriptors_are_given_up_where_others_have_taken_the_rest(root: str) -> None:
    with groups.opened(root) as tree, descriptors.limited(200):
        for name in NAMES[:50]:
            tree.look(name)
        with descriptors.taken(left=0):
            assert groups.cpus_of(tree.look(NAMES[55])) == "7"
            tree.write(NAMES[56], "cpuset.cpus", "5")
            for name in NAMES:
                assert groups.cpus_of(tree.look(name)) != ""
            assert 0 < len(tree._open) < 50
        for name in NAMES:
            tree.look(name)
        assert len(tree._open) == len(NAMES)
    assert groups.text(root, f"{NAMES[56]}/cpuset.cpus") == "5\n"


def test_two_descriptors_are_enough_for_any_number_of_groups(root: str) -> None:
    with groups.opened(root) as tree, descriptors.limited(200), descriptors.taken(left=2):
        for number, name in enumerate(NAMES):
            tree.write(name, "cpuset.cpus", f"{number % 3}")
        assert {groups.cpus_of(tree.look(name)) for name in NAMES} == {"0", "1", "2"}


async def test_a_connection_that_finds_no_descriptor_is_tried_again(tmp_path: pathlib.Path) -> None:
    with (
        descriptors.limited(200),
        descriptors.taken(left=0),
        pytest.raises(errors.Retryable, match="Too many open files"),
    ):
        await dial.UnixDial(str(tmp_path / "nri.sock")).connect()


def test_threads_that_cannot_be_listed_are_an_error_and_no_fault() -> None:
    with descriptors.limited(200), descriptors.taken(left=0), pytest.raises(errors.HostFileError) as caught:
        processes.confine_self(CpuSet([0]))
    assert caught.value.errno == errno.EMFILE
