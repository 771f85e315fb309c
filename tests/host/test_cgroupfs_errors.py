"""What cannot be read or written is told with its file, its number and its reason, and costs nothing else."""

# covers: PRD-9.4

from __future__ import annotations

import errno
import os
import resource

import pytest
from pyfakefs import fake_filesystem
from pyfakefs import helpers as fake_users

from reconciler import errors, observed
from tests.host import groups

SCOPE = "kubepods.slice/pod1.slice/c1.scope"


@pytest.mark.parametrize(
    "file", ["cpuset.cpus", "cpuset.mems", "cpuset.cpus.effective", "cpuset.mems.effective"]
)
@pytest.mark.parametrize("garbage", ["zebra", "3-1", "0-", "99999", "\udcff1"], ids=ascii)
def test_a_text_that_is_no_list_is_an_error_that_names_the_file(ground: str, file: str, garbage: str) -> None:
    full = groups.make(ground, SCOPE, cpus="0-1")
    with open(os.path.join(full, file), "wb") as written:
        written.write(garbage.encode("ascii", "surrogateescape"))
    with groups.opened(ground) as tree:
        error = groups.error_of(tree.look(SCOPE))
        assert error.path == f"{SCOPE}/{file}"
        assert (error.action, error.errno) == ("read", errno.EINVAL)
        groups.make(ground, SCOPE, cpus="2")
        assert groups.cpus_of(tree.look(SCOPE)) == "2"


def test_a_group_without_cpuset_files_is_an_error_that_says_why(ground: str) -> None:
    os.makedirs(os.path.join(ground, SCOPE))
    with groups.opened(ground) as tree:
        error = groups.error_of(tree.look(SCOPE))
        assert error.errno == errno.ENOENT
        assert str(error).startswith(f"read {SCOPE}/cpuset.cpus: ")
        assert "the cpuset controller is not enabled" in str(error)
        groups.make(ground, SCOPE, cpus="3")
        assert groups.cpus_of(tree.look(SCOPE)) == "3"


@pytest.mark.parametrize(
    ("text", "number", "why"),
    [
        (None, errno.ENOENT, "the cpu controller is not enabled"),
        ("zebra", errno.EINVAL, "'zebra' is not a quota and a period"),
        ("", errno.EINVAL, "'' is not a quota and a period"),
    ],
    ids=["missing", "garbage", "empty"],
)
@pytest.mark.parametrize("file", ["cpu.max", "../cpu.max"])
def test_a_quota_that_cannot_be_read_is_an_error_in_its_place_and_the_cpuset_is_read(
    ground: str, file: str, text: str | None, number: int, why: str
) -> None:
    full = groups.make(ground, SCOPE, cpus="0-1")
    if text is not None:
        groups.put(full, file, text)
    with groups.opened(ground) as tree:
        look = tree.look(SCOPE, [file])
    assert groups.cpus_of(look) == "0-1"
    assert isinstance(look, observed.Present)
    error = look.says(file)
    assert isinstance(error, errors.HostFileError)
    assert (error.path, error.action, error.errno) == (f"{SCOPE}/{file}", "read", number)
    assert why in str(error)


@pytest.mark.parametrize("file", ["cpu.max", "../cpu.max"])
def test_a_quota_that_is_not_there_cannot_be_written_and_that_says_why(ground: str, file: str) -> None:
    groups.make(ground, SCOPE)
    with (
        groups.opened(ground) as tree,
        pytest.raises(errors.HostFileError, match="the cpu controller is not enabled"),
    ):
        tree.write(SCOPE, file, "max 100000")


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(root: str) -> None:
    full = groups.make(root, SCOPE)
    os.unlink(os.path.join(full, "cpuset.mems"))
    os.mkdir(os.path.join(full, "cpuset.mems"))
    with groups.opened(root) as tree:
        error = groups.error_of(tree.look(SCOPE))
    assert (error.path, error.action, error.errno) == (f"{SCOPE}/cpuset.mems", "read", errno.EISDIR)


def test_a_file_that_may_not_be_read_is_an_error(fs: fake_filesystem.FakeFilesystem) -> None:
    full = groups.make("/mount", SCOPE)
    os.chmod(os.path.join(full, "cpuset.cpus"), 0)
    before = fake_users.get_uid()
    fake_users.set_uid(before + 1000)
    try:
        with groups.opened("/mount") as tree:
            error = groups.error_of(tree.look(SCOPE))
    finally:
        fake_users.set_uid(before)
    assert error.errno == errno.EACCES
    assert str(error) == f"read {SCOPE}/cpuset.cpus: not permitted (errno 13)"


def test_no_descriptor_left_is_an_error_that_passes(root: str) -> None:
    groups.make(root, SCOPE, cpus="1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with groups.opened(root) as tree:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            error = groups.error_of(tree.look(SCOPE))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert error.errno == errno.EMFILE
        assert "raise the limit of open files" in str(error)
        assert groups.cpus_of(tree.look(SCOPE)) == "1"


@pytest.mark.parametrize(
    "path", ["", "/", "/etc", "..", "../other", f"{SCOPE}/../../../..", "a\0b"], ids=ascii
)
def test_a_path_that_leads_out_of_the_tree_is_refused(root: str, path: str) -> None:
    groups.make(root, "mount")
    groups.make(root, "other", cpus="1")
    with groups.opened(os.path.join(root, "mount")) as tree:
        with pytest.raises(errors.Malformed, match="cgroup path"):
            tree.look(path)
        with pytest.raises(errors.Malformed, match="cgroup path"):
            tree.write(path, "cpuset.cpus", "0")
    assert groups.text(root, "other/cpuset.cpus") == "1\n"


def test_two_dots_within_a_name_are_a_name(ground: str) -> None:
    groups.make(ground, "a..b", cpus="1")
    with groups.opened(ground) as tree:
        assert groups.cpus_of(tree.look("a..b")) == "1"


def test_a_write_to_a_file_that_the_group_lacks_makes_none(ground: str) -> None:
    full = groups.make(ground, SCOPE)
    os.unlink(os.path.join(full, "cpuset.mems"))
    with groups.opened(ground) as tree, pytest.raises(errors.HostFileError) as caught:
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
    with groups.opened(root) as tree:
        with pytest.raises(errors.HostFileError, match="without CPUs or memory") as full_up:
            tree.write(SCOPE, "cpuset.cpus", "0")
        with pytest.raises(errors.HostFileError, match=r"write .*/cpuset\.mems: Is a directory") as folder:
            tree.write(SCOPE, "cpuset.mems", "0")
    assert (full_up.value.errno, folder.value.errno) == (errno.ENOSPC, errno.EISDIR)


def test_garbage_in_an_inner_group_is_an_error_that_names_the_inner_file(ground: str) -> None:
    groups.make(ground, SCOPE)
    groups.make(ground, f"{SCOPE}/container", cpus="zebra")
    with groups.opened(ground) as tree:
        assert groups.error_of(tree.look(SCOPE)).path == f"{SCOPE}/container/cpuset.cpus"


def test_failures_leave_no_descriptor(root: str) -> None:
    full = groups.make(root, SCOPE, cpus="zebra")
    os.unlink(os.path.join(full, "cpuset.mems"))
    os.mkdir(os.path.join(full, "cpuset.mems"))
    os.mkdir(os.path.join(root, "empty"))
    before = groups.descriptors()
    with groups.opened(root) as tree:
        for _ in range(20):
            groups.error_of(tree.look(SCOPE))
            groups.error_of(tree.look("empty"))
            with pytest.raises(errors.HostFileError):
                tree.write(SCOPE, "cpuset.mems", "0")
    assert groups.descriptors() == before
