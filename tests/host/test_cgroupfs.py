"""Cpuset files are read and written as they are now, of the group that is there now."""

# covers: PRD-9.4, PRD-10.4

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import resource
import shutil
from collections.abc import Iterator

import pytest
from pyfakefs import fake_filesystem
from pyfakefs import helpers as fake_users

from reconciler import errors, observed
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.host import cgroupfs
from tests.host import groups

POD = "kubepods.slice/pod1.slice"
SCOPE = f"{POD}/c1.scope"


@pytest.fixture(params=["real", "fake"])
def ground(request: pytest.FixtureRequest) -> str:
    """An empty directory to be the mount: a real one, and one of a fake file system."""
    if request.param == "fake":
        fs: fake_filesystem.FakeFilesystem = request.getfixturevalue("fs")
        fs.create_dir("/mount")
        return "/mount"
    return str(request.getfixturevalue("tmp_path"))


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    return str(tmp_path)


@contextlib.contextmanager
def opened(root: str) -> Iterator[cgroupfs.Cgroupfs]:
    with contextlib.closing(cgroupfs.Cgroupfs(root)) as tree:
        yield tree


def cpus_of(look: observed.Look) -> str:
    """What the outer group asks for."""
    assert isinstance(look, observed.Present)
    return str(look.outer.cpus)


def inner_of(look: observed.Look) -> str | None:
    """What the inner group asks for, None without one."""
    assert isinstance(look, observed.Present)
    return None if look.inner is None else str(look.inner.cpus)


def error_of(look: observed.Look) -> errors.HostFileError:
    assert isinstance(look, observed.Unreadable)
    return look.error


def text(*pieces: str) -> str:
    with open(os.path.join(*pieces), encoding="ascii") as file:
        return file.read()


def test_a_look_gives_what_the_files_say(ground: str) -> None:
    groups.make(ground, SCOPE, cpus="0-1,4", mems="1", effective="4")
    with opened(ground) as tree:
        assert tree.look(SCOPE) == observed.Present(
            outer=observed.Cpuset(
                cpus=CpuSet((0, 1, 4)),
                mems=NodeSet((1,)),
                effective_cpus=CpuSet((4,)),
                effective_mems=NodeSet((1,)),
            )
        )


def test_a_group_that_asks_for_nothing_reaches_what_it_inherits(ground: str) -> None:
    groups.make(ground, SCOPE, effective="2-5")
    with opened(ground) as tree:
        look = tree.look(SCOPE)
    assert isinstance(look, observed.Present)
    assert look.outer.cpus == CpuSet()
    assert look.outer.reach == CpuSet(range(2, 6))


def test_every_look_reads_the_files_anew(ground: str) -> None:
    groups.make(ground, SCOPE, cpus="0-1")
    with opened(ground) as tree:
        assert cpus_of(tree.look(SCOPE)) == "0-1"
        groups.make(ground, SCOPE, cpus="2-3")
        assert cpus_of(tree.look(SCOPE)) == "2-3"


def test_a_list_longer_than_one_read_is_read_whole(ground: str) -> None:
    every_other = CpuSet(range(0, CpuSet.LIMIT, 2))
    groups.make(ground, SCOPE, cpus=str(every_other))
    with opened(ground) as tree:
        assert cpus_of(tree.look(SCOPE)) == str(every_other)


@pytest.mark.parametrize("length", [4095, 4096, 4097, 8192])
def test_a_list_is_read_whole_at_any_length(ground: str, length: int) -> None:
    groups.make(ground, SCOPE, cpus="7".rjust(length - 1))
    assert os.stat(os.path.join(ground, SCOPE, "cpuset.cpus")).st_size == length
    with opened(ground) as tree:
        assert cpus_of(tree.look(SCOPE)) == "7"


@pytest.mark.parametrize(
    "path",
    ["kubepods.slice/other", f"{SCOPE}/cpuset.cpus", f"{SCOPE}/cpuset.cpus/x"],
    ids=["none", "a-file", "below"],
)
def test_what_is_no_group_is_absent(ground: str, path: str) -> None:
    groups.make(ground, SCOPE)
    with opened(ground) as tree:
        assert tree.look(path) == observed.Absent()


@pytest.mark.parametrize(
    "file", ["cpuset.cpus", "cpuset.mems", "cpuset.cpus.effective", "cpuset.mems.effective"]
)
@pytest.mark.parametrize("garbage", ["zebra", "3-1", "0-", "99999", "\udcff1"], ids=ascii)
def test_a_text_that_is_no_list_is_an_error_that_names_the_file(ground: str, file: str, garbage: str) -> None:
    full = groups.make(ground, SCOPE, cpus="0-1")
    with open(os.path.join(full, file), "wb") as written:
        written.write(garbage.encode("ascii", "surrogateescape"))
    with opened(ground) as tree:
        error = error_of(tree.look(SCOPE))
        assert error.path == f"{SCOPE}/{file}"
        assert (error.action, error.errno) == ("read", errno.EINVAL)
        groups.make(ground, SCOPE, cpus="2")
        assert cpus_of(tree.look(SCOPE)) == "2"


def test_a_group_without_cpuset_files_is_an_error_that_says_why(ground: str) -> None:
    os.makedirs(os.path.join(ground, SCOPE))
    with opened(ground) as tree:
        error = error_of(tree.look(SCOPE))
        assert error.errno == errno.ENOENT
        assert str(error).startswith(f"read {SCOPE}/cpuset.cpus: ")
        assert "the cpuset controller is not enabled" in str(error)
        groups.make(ground, SCOPE, cpus="3")
        assert cpus_of(tree.look(SCOPE)) == "3"


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(root: str) -> None:
    full = groups.make(root, SCOPE)
    os.unlink(os.path.join(full, "cpuset.mems"))
    os.mkdir(os.path.join(full, "cpuset.mems"))
    with opened(root) as tree:
        error = error_of(tree.look(SCOPE))
    assert (error.path, error.action, error.errno) == (f"{SCOPE}/cpuset.mems", "read", errno.EISDIR)


def test_a_file_that_may_not_be_read_is_an_error(fs: fake_filesystem.FakeFilesystem) -> None:
    full = groups.make("/mount", SCOPE)
    os.chmod(os.path.join(full, "cpuset.cpus"), 0)
    before = fake_users.get_uid()
    fake_users.set_uid(before + 1000)
    try:
        with opened("/mount") as tree:
            error = error_of(tree.look(SCOPE))
    finally:
        fake_users.set_uid(before)
    assert error.errno == errno.EACCES
    assert str(error) == f"read {SCOPE}/cpuset.cpus: not permitted (errno 13)"


def test_no_descriptor_left_is_an_error_that_passes(root: str) -> None:
    groups.make(root, SCOPE, cpus="1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with opened(root) as tree:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            error = error_of(tree.look(SCOPE))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert error.errno == errno.EMFILE
        assert "raise the limit of open files" in str(error)
        assert cpus_of(tree.look(SCOPE)) == "1"


@pytest.mark.parametrize(
    "path", ["", "/", "/etc", "..", "../other", f"{SCOPE}/../../../..", "a\0b"], ids=ascii
)
def test_a_path_that_leads_out_of_the_tree_is_refused(root: str, path: str) -> None:
    groups.make(root, "mount")
    groups.make(root, "other", cpus="1")
    with opened(os.path.join(root, "mount")) as tree:
        with pytest.raises(errors.Malformed, match="cgroup path"):
            tree.look(path)
        with pytest.raises(errors.Malformed, match="cgroup path"):
            tree.write(path, "cpuset.cpus", "0")
    assert text(root, "other/cpuset.cpus") == "1\n"


def test_two_dots_within_a_name_are_a_name(ground: str) -> None:
    groups.make(ground, "a..b", cpus="1")
    with opened(ground) as tree:
        assert cpus_of(tree.look("a..b")) == "1"


@pytest.mark.parametrize("file", ["cpuset.cpus", "cpuset.mems", "container/cpuset.cpus"])
def test_a_write_puts_the_text_into_the_file_and_no_other(ground: str, file: str) -> None:
    groups.make(ground, SCOPE)
    groups.make(ground, f"{SCOPE}/container")
    names = [f"{folder}{name}" for folder in ("", "container/") for name in ("cpuset.cpus", "cpuset.mems")]
    with opened(ground) as tree:
        tree.write(SCOPE, file, "0-1")
    assert {name: text(ground, SCOPE, name).strip() for name in names} == {
        name: "0-1" if name == file else "" for name in names
    }


def test_clearing_writes_an_end_of_line_because_the_kernel_is_not_told_of_nothing(ground: str) -> None:
    full = groups.make(ground, SCOPE)
    os.truncate(os.path.join(full, "cpuset.cpus"), 0)
    with opened(ground) as tree:
        tree.write(SCOPE, "cpuset.cpus", "")
    assert text(full, "cpuset.cpus") == "\n"


def test_writing_to_a_group_that_is_not_there_is_told_apart_from_failing(ground: str) -> None:
    with opened(ground) as tree, pytest.raises(errors.Gone, match=f"cgroup {SCOPE} does not exist any more"):
        tree.write(SCOPE, "cpuset.cpus", "0")


def test_writing_to_a_group_that_was_removed_says_that_it_is_gone(ground: str) -> None:
    full = groups.make(ground, SCOPE)
    with opened(ground) as tree:
        tree.look(SCOPE)
        shutil.rmtree(full)
        with pytest.raises(errors.Gone):
            tree.write(SCOPE, "cpuset.cpus", "0")
        assert tree.look(SCOPE) == observed.Absent()


def test_a_write_to_a_file_that_the_group_lacks_makes_none(ground: str) -> None:
    full = groups.make(ground, SCOPE)
    os.unlink(os.path.join(full, "cpuset.mems"))
    with opened(ground) as tree, pytest.raises(errors.HostFileError) as caught:
        tree.write(SCOPE, "cpuset.mems", "0")
    assert (caught.value.path, caught.value.action) == (f"{SCOPE}/cpuset.mems", "write")
    assert caught.value.errno == errno.ENOENT
    assert "the cpuset controller is not enabled" in str(caught.value)
    assert not os.path.exists(os.path.join(full, "cpuset.mems"))


def test_a_write_that_the_system_refuses_tells_its_number_and_the_reason(root: str) -> None:
    full = groups.make(root, SCOPE)
    os.unlink(os.path.join(full, "cpuset.cpus"))
    os.symlink("/dev/full", os.path.join(full, "cpuset.cpus"))
    os.unlink(os.path.join(full, "cpuset.mems"))
    os.mkdir(os.path.join(full, "cpuset.mems"))
    with opened(root) as tree:
        with pytest.raises(errors.HostFileError, match="without CPUs or memory") as full_up:
            tree.write(SCOPE, "cpuset.cpus", "0")
        with pytest.raises(errors.HostFileError, match=r"write .*/cpuset\.mems: Is a directory") as folder:
            tree.write(SCOPE, "cpuset.mems", "0")
    assert (full_up.value.errno, folder.value.errno) == (errno.ENOSPC, errno.EISDIR)


def test_a_group_made_anew_is_not_taken_for_the_old_one(root: str) -> None:
    full = groups.make(root, SCOPE, cpus="0-1")
    with opened(root) as tree:
        assert cpus_of(tree.look(SCOPE)) == "0-1"
        shutil.rmtree(full)
        groups.make(root, SCOPE, cpus="2-3")
        assert cpus_of(tree.look(SCOPE)) == "2-3"


def test_a_write_goes_to_the_group_made_anew(root: str) -> None:
    full = groups.make(root, SCOPE, cpus="0-1")
    with opened(root) as tree:
        tree.look(SCOPE)
        shutil.rmtree(full)
        groups.make(root, SCOPE)
        tree.write(SCOPE, "cpuset.cpus", "4-5")
        assert cpus_of(tree.look(SCOPE)) == "4-5"
    assert text(full, "cpuset.cpus").strip() == "4-5"


def test_a_group_is_found_again_though_its_parent_was_made_anew(root: str) -> None:
    groups.make(root, SCOPE, cpus="0-1")
    with opened(root) as tree:
        tree.look(SCOPE)
        shutil.rmtree(os.path.join(root, POD))
        assert tree.look(SCOPE) == observed.Absent()
        groups.make(root, SCOPE, cpus="6")
        assert cpus_of(tree.look(SCOPE)) == "6"


def test_a_group_that_went_and_came_back_without_its_files_is_an_error(root: str) -> None:
    full = groups.make(root, SCOPE)
    with opened(root) as tree:
        tree.look(SCOPE)
        shutil.rmtree(full)
        os.mkdir(full)
        assert error_of(tree.look(SCOPE)).errno == errno.ENOENT


def test_an_inner_group_is_looked_at_from_when_it_is_there(ground: str) -> None:
    groups.make(ground, SCOPE, cpus="0-3")
    with opened(ground) as tree:
        assert inner_of(tree.look(SCOPE)) is None
        groups.make(ground, f"{SCOPE}/container", cpus="1")
        assert inner_of(tree.look(SCOPE)) == "1"
        shutil.rmtree(os.path.join(ground, SCOPE, "container"))
        assert inner_of(tree.look(SCOPE)) is None
        groups.make(ground, f"{SCOPE}/container", cpus="2")
        assert inner_of(tree.look(SCOPE)) == "2"


def test_an_inner_group_is_looked_at_once_its_files_are_there(ground: str) -> None:
    groups.make(ground, SCOPE)
    os.mkdir(os.path.join(ground, SCOPE, "container"))
    with opened(ground) as tree:
        assert inner_of(tree.look(SCOPE)) is None
        groups.make(ground, f"{SCOPE}/container", cpus="1")
        assert inner_of(tree.look(SCOPE)) == "1"


def test_only_crun_s_name_is_an_inner_group(ground: str) -> None:
    groups.make(ground, SCOPE)
    groups.make(ground, f"{SCOPE}/init", cpus="1")
    with opened(ground) as tree:
        assert inner_of(tree.look(SCOPE)) is None


def test_an_inner_group_that_another_child_took_the_place_of_is_not_looked_at(root: str) -> None:
    groups.make(root, SCOPE, cpus="0-3")
    groups.make(root, f"{SCOPE}/container", cpus="1")
    with opened(root) as tree:
        assert inner_of(tree.look(SCOPE)) == "1"
        os.rename(os.path.join(root, SCOPE, "container"), os.path.join(root, SCOPE, "init"))
        assert inner_of(tree.look(SCOPE)) is None
        os.rename(os.path.join(root, SCOPE, "init"), os.path.join(root, SCOPE, "container"))
        assert inner_of(tree.look(SCOPE)) == "1"


def test_garbage_in_an_inner_group_is_an_error_that_names_the_inner_file(ground: str) -> None:
    groups.make(ground, SCOPE)
    groups.make(ground, f"{SCOPE}/container", cpus="zebra")
    with opened(ground) as tree:
        assert error_of(tree.look(SCOPE)).path == f"{SCOPE}/container/cpuset.cpus"


def test_one_descriptor_is_kept_for_each_group_and_none_after_the_end(root: str) -> None:
    names = [f"pod{number}/c.scope" for number in range(50)]
    for name in names:
        groups.make(root, name)
        groups.make(root, f"{name}/container")
    before = groups.descriptors()
    with opened(root) as tree:
        for _ in range(3):
            for name in names:
                tree.look(name)
                tree.write(name, "cpuset.cpus", "0")
        assert groups.descriptors() == before + 50
        tree.forget(names[0])
        tree.forget("never/looked/at")
        assert groups.descriptors() == before + 49
    assert groups.descriptors() == before


def test_groups_that_go_leave_no_descriptor(root: str) -> None:
    before = groups.descriptors()
    with opened(root) as tree:
        for number in range(300):
            full = groups.make(root, SCOPE, cpus=str(number % 8))
            assert cpus_of(tree.look(SCOPE)) == str(number % 8)
            shutil.rmtree(full)
            if number % 3 == 0:
                assert tree.look(SCOPE) == observed.Absent()
                assert groups.descriptors() == before
        tree.look(SCOPE)
        assert groups.descriptors() == before


def test_failures_leave_no_descriptor(root: str) -> None:
    full = groups.make(root, SCOPE, cpus="zebra")
    os.unlink(os.path.join(full, "cpuset.mems"))
    os.mkdir(os.path.join(full, "cpuset.mems"))
    os.mkdir(os.path.join(root, "empty"))
    before = groups.descriptors()
    with opened(root) as tree:
        for _ in range(20):
            error_of(tree.look(SCOPE))
            error_of(tree.look("empty"))
            with pytest.raises(errors.HostFileError):
                tree.write(SCOPE, "cpuset.mems", "0")
    assert groups.descriptors() == before


def test_descriptors_are_not_handed_to_programs_that_are_started(root: str) -> None:
    full = groups.make(root, SCOPE)
    with opened(root) as tree:
        tree.look(SCOPE)
        kept = [int(name) for name in os.listdir("/proc/self/fd") if leads_to(name) == full]
        assert [os.get_inheritable(descriptor) for descriptor in kept] == [False]


def leads_to(descriptor: str) -> str:
    """The path of an open file; "" if it has been closed since it was listed."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""
