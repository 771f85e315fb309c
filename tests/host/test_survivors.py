"""Whether a process is left in a cgroup: in the group, below it, or nobody knows."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from reconciler.host import survivors

GROUP = "kubepods/pod1/main"


def group(root: pathlib.Path, path: str, populated: int, procs: str = "") -> None:
    (root / path).mkdir(parents=True)
    (root / path / "cgroup.events").write_text(f"populated {populated}\nfrozen 0\n")
    (root / path / "cgroup.procs").write_text(procs)


def test_a_group_that_is_gone_has_no_process(tmp_path: pathlib.Path) -> None:
    its = survivors.Survivors(str(tmp_path))
    assert not its.is_populated(GROUP)
    assert its.one_in(GROUP) is None


def test_a_group_that_is_empty_has_no_process(tmp_path: pathlib.Path) -> None:
    group(tmp_path, GROUP, 0)
    its = survivors.Survivors(str(tmp_path))
    assert not its.is_populated(GROUP)
    assert its.one_in(GROUP) is None


@pytest.mark.parametrize(
    ("procs", "inner", "pid"),
    [
        pytest.param("4711\n4712\n", None, 4711, id="in the group"),
        pytest.param("", "4713\n", 4713, id="in a group below it"),
        pytest.param("0\n", "4713\n", 4713, id="of another pid namespace, and in a group below it"),
        pytest.param("0\n", None, 0, id="of another pid namespace"),
        pytest.param("nonsense\n", None, 0, id="that cannot be read"),
    ],
)
def test_a_process_is_found(tmp_path: pathlib.Path, procs: str, inner: str | None, pid: int) -> None:
    group(tmp_path, GROUP, 1, procs)
    if inner is not None:
        group(tmp_path, f"{GROUP}/container/leaf", 1, inner)
    its = survivors.Survivors(str(tmp_path))
    assert its.is_populated(GROUP)
    assert its.one_in(GROUP) == pid


def test_where_nothing_can_be_opened_a_process_may_be_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group(tmp_path, GROUP, 0)

    def exhausted(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    its = survivors.Survivors(str(tmp_path))
    monkeypatch.setattr(os, "open", exhausted)
    assert its.is_populated(GROUP)


@pytest.mark.parametrize("path", ["", "/etc", "../elsewhere"])
def test_a_path_that_leads_out_of_the_tree_is_no_group_and_not_read(
    tmp_path: pathlib.Path, path: str
) -> None:
    group(tmp_path, "elsewhere", 1)
    (tmp_path / "mount").mkdir()
    assert not survivors.Survivors(str(tmp_path / "mount")).is_populated(path)


def test_a_group_that_may_be_there_exists(tmp_path: pathlib.Path) -> None:
    its = survivors.Survivors(str(tmp_path))
    assert not its.exists(GROUP)
    (tmp_path / GROUP).mkdir(parents=True)
    assert its.exists(GROUP)
    assert its.exists("../elsewhere"), "of what is no group below the mount nothing is known"
    assert not its.exists(f"{GROUP}/cgroup.procs/more")
