"""A watch tells of every write to the cpuset files of a group, and of its end."""

from __future__ import annotations

import os
import pathlib
import select
import shutil
import subprocess

import pytest

from reconciler import errors
from tests.host import groups, watched

SCOPE = "kubepods.slice/pod1.slice/c1.scope"
OTHER = "kubepods.slice/pod1.slice/c2.scope"


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    groups.make(str(tmp_path), SCOPE)
    groups.make(str(tmp_path), OTHER)
    return str(tmp_path)


def shell(root: str, command: str) -> None:
    """Run by another process, in the root."""
    subprocess.run(["sh", "-c", command], cwd=root, check=True)


@pytest.mark.parametrize("file", ["cpuset.cpus", "cpuset.mems"])
def test_a_write_by_another_process_is_told(root: str, file: str) -> None:
    with watched.watching(root, SCOPE, OTHER) as watcher:
        shell(root, f"echo 1 > {SCOPE}/{file}")
        assert watcher.read() == watched.written(SCOPE)
        assert watcher.read() == watched.NOTHING


def test_a_write_to_a_quota_is_told_apart(root: str) -> None:
    groups.put(os.path.join(root, SCOPE), "cpu.max", "max 100000\n")
    with watched.watching(root, SCOPE, os.path.dirname(SCOPE)) as watcher:
        watched.put(root, SCOPE, "cpu.max", "max 100000\n")
        assert watcher.read() == watched.limited(SCOPE)
        shell(root, f"echo max 100000 > {SCOPE}/../cpu.max; echo 1 > {SCOPE}/cpuset.cpus")
        told = watcher.read()
        assert told.quotas == {os.path.dirname(SCOPE)}
        assert told.paths == {SCOPE}


def test_a_quota_of_crun_s_inner_group_is_not_told(root: str) -> None:
    groups.put(groups.make(root, f"{SCOPE}/container"), "cpu.max", "max 100000\n")
    with watched.watching(root, SCOPE) as watcher:
        watched.put(root, f"{SCOPE}/container", "cpu.max", "50000 100000\n")
        assert watcher.read() == watched.NOTHING


@pytest.mark.parametrize("inner", ["", "/container"])
def test_that_processes_came_or_ended_is_told_apart(root: str, inner: str) -> None:
    groups.put(groups.make(root, f"{SCOPE}{inner}"), "cgroup.events", "populated 1\n")
    groups.put(os.path.join(root, OTHER), "cgroup.events", "populated 1\n")
    with watched.watching(root, SCOPE, OTHER) as watcher:
        shell(root, f"echo populated 0 > {SCOPE}{inner}/cgroup.events; echo 1 > {OTHER}/cpuset.cpus")
        told = watcher.read()
        assert told.populations == {SCOPE}
        assert told.paths == {OTHER}
        assert watcher.read() == watched.NOTHING


def test_our_own_write_is_told_too(root: str) -> None:
    with watched.watching(root, SCOPE, OTHER) as watcher:
        watched.put(root, OTHER)
        assert watcher.read() == watched.written(OTHER)


def test_a_write_of_what_is_there_already_is_told(root: str) -> None:
    with watched.watching(root, SCOPE) as watcher:
        watched.put(root, SCOPE)
        watched.put(root, SCOPE)
        assert watcher.read() == watched.written(SCOPE)
        watched.put(root, SCOPE)
        assert watcher.read() == watched.written(SCOPE)


def test_many_writes_are_told_once_for_each_group(root: str) -> None:
    with watched.watching(root, SCOPE, OTHER) as watcher:
        shell(
            root,
            f"for n in 1 2 3 4 5 6 7; do echo $n > {SCOPE}/cpuset.cpus; echo 0 > {OTHER}/cpuset.mems; done",
        )
        assert watcher.read() == watched.written(SCOPE, OTHER)
        assert watcher.read() == watched.NOTHING


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("echo 1 > {}/cpuset.cpus.effective", id="effective"),
        pytest.param("echo 100 > {}/cpu.weight", id="a-new-file"),
        pytest.param("cat {}/cpuset.cpus > /dev/null", id="reading"),
        pytest.param("exec 3<>{}/cpuset.cpus", id="opening"),
        pytest.param("touch {}/cpuset.cpus", id="touching"),
        pytest.param("mkdir {}/cpuset.cpus.d", id="a-child-of-another-name"),
        pytest.param("echo 1 > {}/../cpuset.cpus", id="the-parent"),
    ],
)
def test_what_changes_no_wish_is_not_told(root: str, command: str) -> None:
    with watched.watching(root, SCOPE) as watcher:
        shell(root, command.format(SCOPE))
        assert watcher.read() == watched.NOTHING


def test_reading_returns_at_once_when_nothing_has_happened(root: str) -> None:
    with watched.watching(root, SCOPE) as watcher:
        assert watcher.read() == watched.NOTHING


def test_the_descriptor_is_readable_from_an_event_until_it_is_read(root: str) -> None:
    with watched.watching(root, SCOPE) as watcher:
        assert readable(watcher.fd) == []
        watched.put(root, SCOPE)
        assert readable(watcher.fd) == [watcher.fd]
        watcher.read()
        assert readable(watcher.fd) == []


def readable(descriptor: int) -> list[int]:
    return select.select([descriptor], [], [], 0)[0]


@pytest.mark.parametrize("path", ["kubepods.slice/none", f"{SCOPE}/cpuset.cpus"], ids=["none", "a-file"])
def test_what_is_no_group_is_not_watched(root: str, path: str) -> None:
    with watched.watching(root) as watcher:
        assert not watcher.watch(path)
        watched.put(root, SCOPE)
        assert watcher.read() == watched.NOTHING


@pytest.mark.parametrize("path", ["", "/etc", "..", f"{SCOPE}/../../../..", "a\0b"], ids=ascii)
def test_a_path_that_leads_out_of_the_tree_is_refused(root: str, path: str) -> None:
    with watched.watching(root) as watcher, pytest.raises(errors.Malformed, match="cgroup path"):
        watcher.watch(path)


def test_a_group_that_goes_is_told_once(root: str) -> None:
    with watched.watching(root, SCOPE, OTHER) as watcher:
        watched.put(root, SCOPE)
        shutil.rmtree(os.path.join(root, SCOPE))
        assert watcher.read() == watched.vanished(SCOPE)
        assert watcher.read() == watched.NOTHING
        watched.put(root, OTHER)
        assert watcher.read() == watched.written(OTHER)


def test_a_group_that_went_with_its_inner_one_is_told_once(root: str) -> None:
    groups.make(root, f"{SCOPE}/container")
    with watched.watching(root, SCOPE) as watcher:
        shutil.rmtree(os.path.join(root, SCOPE))
        assert watcher.read() == watched.vanished(SCOPE)
        assert watcher.read() == watched.NOTHING


def test_a_group_made_anew_is_watched_when_asked_for_again(root: str) -> None:
    with watched.watching(root, SCOPE) as watcher:
        shutil.rmtree(os.path.join(root, SCOPE))
        assert watcher.read() == watched.vanished(SCOPE)
        groups.make(root, SCOPE)
        assert watcher.watch(SCOPE)
        watched.put(root, SCOPE)
        assert watcher.read() == watched.written(SCOPE)


def test_the_end_of_the_old_group_is_not_told_of_the_new_one(root: str) -> None:
    with watched.watching(root, SCOPE) as watcher:
        watched.put(root, SCOPE)
        shutil.rmtree(os.path.join(root, SCOPE))
        groups.make(root, SCOPE)
        assert watcher.watch(SCOPE)
        assert watcher.read() == watched.NOTHING
        watched.put(root, SCOPE)
        assert watcher.read() == watched.written(SCOPE)
        shutil.rmtree(os.path.join(root, SCOPE))
        assert watcher.read() == watched.vanished(SCOPE)


def test_watching_twice_tells_once_and_takes_no_second_watch(root: str) -> None:
    with watched.watching(root, SCOPE, SCOPE) as watcher:
        assert watched.watches(watcher) == 1
        watched.put(root, SCOPE)
        assert watcher.read() == watched.written(SCOPE)
        watcher.unwatch(SCOPE)
        assert watched.watches(watcher) == 0


def test_what_is_no_longer_watched_is_not_told(root: str) -> None:
    groups.make(root, f"{SCOPE}/container")
    with watched.watching(root, SCOPE, OTHER) as watcher:
        watched.put(root, SCOPE)
        watcher.unwatch(SCOPE)
        watched.put(root, SCOPE)
        watched.put(root, f"{SCOPE}/container")
        assert watcher.read() == watched.NOTHING
        assert watched.watches(watcher) == 1
        watcher.unwatch(SCOPE)
        watcher.unwatch("never/watched")
        assert watched.watches(watcher) == 1


def test_writes_to_the_inner_group_are_told_as_the_container_s(root: str) -> None:
    groups.make(root, f"{SCOPE}/container")
    with watched.watching(root, SCOPE) as watcher:
        shell(root, f"echo 1 > {SCOPE}/container/cpuset.cpus")
        assert watcher.read() == watched.written(SCOPE)


def test_an_inner_group_made_later_is_told_and_watched(root: str) -> None:
    with watched.watching(root, SCOPE) as watcher:
        groups.make(root, f"{SCOPE}/container")
        assert watcher.read() == watched.written(SCOPE)
        watcher.read()
        watched.put(root, f"{SCOPE}/container")
        assert watcher.read() == watched.written(SCOPE)
        assert watched.watches(watcher) == 2


def test_an_inner_group_that_goes_is_not_the_end_of_the_container_s(root: str) -> None:
    groups.make(root, f"{SCOPE}/container")
    with watched.watching(root, SCOPE) as watcher:
        shutil.rmtree(os.path.join(root, SCOPE, "container"))
        assert watcher.read() == watched.NOTHING
        groups.make(root, f"{SCOPE}/container")
        assert watcher.read() == watched.written(SCOPE)
        watcher.read()
        watched.put(root, f"{SCOPE}/container")
        assert watcher.read() == watched.written(SCOPE)
        assert watched.watches(watcher) == 2


def test_a_thousand_groups_are_watched_and_told_apart(tmp_path: pathlib.Path) -> None:
    names = [f"pod{number}.slice" for number in range(1000)]
    for name in names:
        (tmp_path / name).mkdir()
    for name in names[::7]:
        groups.make(str(tmp_path), name)
    with watched.watching(str(tmp_path), *names) as watcher:
        for name in names[::7]:
            watched.put(str(tmp_path), name)
        assert watcher.read() == watched.written(*names[::7])
        for name in names[1::7]:
            (tmp_path / name).rmdir()
        assert watcher.read() == watched.vanished(*names[1::7])
        assert watched.watches(watcher) == 1000 - len(names[1::7])


def test_groups_that_come_and_go_leave_no_watch(root: str) -> None:
    with watched.watching(root, OTHER) as watcher:
        for _ in range(40):
            os.makedirs(os.path.join(root, "short.scope/container"))
            assert watcher.watch("short.scope")
            os.removedirs(os.path.join(root, "short.scope/container"))
            assert watcher.read() == watched.vanished("short.scope")
            assert watched.watches(watcher) == 1
        watched.put(root, OTHER)
        assert watcher.read() == watched.written(OTHER)


def test_nothing_is_left_after_the_end(root: str) -> None:
    before = groups.descriptors()
    with watched.watching(root, SCOPE) as watcher:
        assert groups.descriptors() == before + 1
        assert not os.get_inheritable(watcher.fd)
    assert groups.descriptors() == before
