"""The partition files of a cgroup are read as they are, or it is said why not."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

import pytest

from reconciler import errors, observed
from reconciler.cpu.idset import CpuSet
from reconciler.host import cgroupfs

EXCLUSIVE = "cpuset.cpus.exclusive"
PARTITION = "cpuset.cpus.partition"


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Iterator[cgroupfs.Cgroupfs]:
    """A tree on a plain directory."""
    with contextlib.closing(cgroupfs.Cgroupfs(str(tmp_path))) as made:
        yield made


def group(root: str, path: str, exclusive: str, state: str) -> pathlib.Path:
    """A group with these files."""
    made = pathlib.Path(root, path)
    made.mkdir(parents=True, exist_ok=True)
    (made / EXCLUSIVE).write_text(exclusive)
    (made / PARTITION).write_text(state)
    (made / observed.EVENTS).write_text("populated 1\nfrozen 0\n")
    return made


def test_whether_a_process_is_in_the_group_is_read_too(tree: cgroupfs.Cgroupfs) -> None:
    made = group(tree.root, "a", "\n", "member\n")
    has = tree.partition("a")
    (made / observed.EVENTS).write_text("populated 0\nfrozen 0\n")
    after = tree.partition("a")
    assert has is not None
    assert after is not None
    assert (has.populated, after.populated) == (True, False)


@pytest.mark.parametrize(
    ("exclusive", "state"),
    [
        ("", "member"),
        ("2-3,8", "root"),
        ("2-3", "isolated"),
        ("2", "isolated invalid (Invalid cpu list in cpuset.cpus.exclusive)"),
    ],
    ids=["member", "root", "isolated", "invalid"],
)
def test_a_group_is_read_without_its_ends_of_lines(
    tree: cgroupfs.Cgroupfs, exclusive: str, state: str
) -> None:
    group(tree.root, "a/b", f"{exclusive}\n", f"{state}\n")
    its = tree.partition("a/b")
    assert its == observed.Partition(exclusive=CpuSet.parse(exclusive, what="test"), state=state)
    assert its is not None
    assert its.is_plain == (state == "member" and not exclusive)


def test_a_group_that_does_not_exist_is_none(tree: cgroupfs.Cgroupfs) -> None:
    assert tree.partition("a") is None
    assert tree.children("a") == ()


def test_a_group_without_the_files_is_told_with_the_file_s_name(
    tree: cgroupfs.Cgroupfs, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(errors.HostFileError, match=r"read a/cpuset\.cpus\.exclusive: no such file") as caught:
        tree.partition("a")
    assert caught.value.errno == errno.ENOENT


def test_garbage_is_an_error_that_names_the_file(tree: cgroupfs.Cgroupfs) -> None:
    group(tree.root, "a", "zebra\n", "member\n")
    with pytest.raises(
        errors.HostFileError, match=r"a/cpuset\.cpus\.exclusive: 'zebra' is not a CPU"
    ) as caught:
        tree.partition("a")
    assert caught.value.errno == errno.EINVAL


def test_a_group_that_was_made_anew_is_not_taken_for_the_old_one(tree: cgroupfs.Cgroupfs) -> None:
    old = group(tree.root, "a", "1\n", "root\n")
    assert tree.partition("a") is not None
    for file in (EXCLUSIVE, PARTITION, observed.EVENTS):
        (old / file).unlink()
    old.rmdir()
    assert tree.partition("a") is None
    group(tree.root, "a", "\n", "member\n")
    its = tree.partition("a")
    assert its is not None
    assert its.is_plain


def test_the_children_of_a_group_are_its_directories_in_order(tree: cgroupfs.Cgroupfs) -> None:
    for name in ("c", "b"):
        group(tree.root, f"a/{name}", "\n", "member\n")
    pathlib.Path(tree.root, "a/file").write_text("")
    assert tree.children("a") == ("a/b", "a/c")


@pytest.mark.parametrize("path", ["", "/etc", "..", "a/../.."], ids=ascii)
def test_a_path_that_leads_out_of_the_tree_is_refused(tree: cgroupfs.Cgroupfs, path: str) -> None:
    for ask in (tree.partition, tree.children):
        with pytest.raises(errors.Malformed, match="cgroup path"):
            ask(path)


def test_no_descriptor_stays_open(tmp_path: pathlib.Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.closing(cgroupfs.Cgroupfs(str(tmp_path))) as tree:
        group(tree.root, "a", "1\n", "root\n")
        tree.partition("a")
    assert len(os.listdir("/proc/self/fd")) == before
