"""A watch tells of every cgroup that is made right under another one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil

import pytest

from reconciler import errors
from reconciler.host import births
from tests.host import groups

POD = "kubepods.slice/pod1.slice"


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    groups.make(str(tmp_path), POD)
    return str(tmp_path)


def test_a_new_group_is_told_once_and_a_new_file_is_not(root: str) -> None:
    with contextlib.closing(births.Births(root)) as watcher:
        assert watcher.watch(POD) == ()
        groups.make(root, f"{POD}/c1.scope")
        pathlib.Path(root, POD, "file").touch()
        assert watcher.read() == (frozenset({f"{POD}/c1.scope"}), False)
        assert watcher.read() == (frozenset(), False)


def test_what_is_there_already_is_told_with_the_watch(root: str) -> None:
    groups.make(root, f"{POD}/c1.scope")
    with contextlib.closing(births.Births(root)) as watcher:
        assert watcher.watch(POD) == (f"{POD}/c1.scope",)


def test_a_group_that_is_not_there_is_not_watched(root: str) -> None:
    with contextlib.closing(births.Births(root)) as watcher:
        assert watcher.watch("kubepods.slice/none.slice") == ()
        assert watcher.watched == frozenset()


def test_a_group_that_went_is_watched_no_longer_and_anew_when_it_is_back(root: str) -> None:
    with contextlib.closing(births.Births(root)) as watcher:
        watcher.watch("kubepods.slice")
        watcher.watch(POD)
        shutil.rmtree(os.path.join(root, POD))
        watcher.read()
        assert watcher.watched == {"kubepods.slice"}
        groups.make(root, POD)
        assert watcher.read() == (frozenset({POD}), False)
        watcher.watch(POD)
        groups.make(root, f"{POD}/c2.scope")
        assert watcher.read() == (frozenset({f"{POD}/c2.scope"}), False)


def test_what_is_not_watched_any_more_tells_nothing(root: str) -> None:
    with contextlib.closing(births.Births(root)) as watcher:
        watcher.watch(POD)
        watcher.unwatch(POD)
        watcher.unwatch(POD)
        groups.make(root, f"{POD}/c1.scope")
        assert watcher.read() == (frozenset(), False)


@pytest.mark.parametrize("path", ["../etc", "/etc", "a/../../etc"])
def test_a_path_out_of_the_tree_is_refused(root: str, path: str) -> None:
    with contextlib.closing(births.Births(root)) as watcher, pytest.raises(errors.Malformed):
        watcher.watch(path)
