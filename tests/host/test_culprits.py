"""Who a process is, off a procfs as it is and as anyone can make it look."""

from __future__ import annotations

import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.host import culprits

# covers: PRD-7.10

ID = "ab" * 32
KUBELET = "0::/system.slice/kubelet.service\n"


def make(proc: pathlib.Path, pid: int, comm: bytes, cgroup: str = KUBELET, cmdline: bytes = b"") -> None:
    """A process, as procfs has it."""
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "comm").write_bytes(comm + b"\n")
    (folder / "cgroup").write_text(cgroup)
    (folder / "cmdline").write_bytes(cmdline)


def found(proc: pathlib.Path, pid: int) -> culprits.Process:
    """It, which is there."""
    its = culprits.process(str(proc), pid)
    assert its is not None
    return its


def test_a_process_has_its_command_its_arguments_and_its_group(tmp_path: pathlib.Path) -> None:
    make(tmp_path, 812, b"kubelet", cmdline=b"/usr/bin/kubelet\0--config=/etc/k.yaml\0")
    assert found(tmp_path, 812) == culprits.Process(
        pid=812,
        command="kubelet",
        cmdline="/usr/bin/kubelet --config=/etc/k.yaml",
        cgroup="system.slice/kubelet.service",
    )


def test_one_that_is_not_there_is_none(tmp_path: pathlib.Path) -> None:
    assert culprits.process(str(tmp_path), 812) is None


def test_of_one_that_ended_between_two_looks_the_name_stays(tmp_path: pathlib.Path) -> None:
    make(tmp_path, 9, b"runc")
    (tmp_path / "9/cgroup").unlink()
    (tmp_path / "9/cmdline").unlink()
    assert found(tmp_path, 9) == culprits.Process(pid=9, command="runc", cmdline="", cgroup="")


def test_a_name_of_its_own_making_is_printable_and_bounded(tmp_path: pathlib.Path) -> None:
    make(tmp_path, 9, b"a\nb\x1b[2J\xff", cmdline=b"\x1b]0;x\x07\0" + b"y" * 10_000)
    its = found(tmp_path, 9)
    assert its.command == "a?b?[2J�"
    assert its.cmdline.startswith("?]0;x? yyy")
    assert len(its.cmdline) == culprits.MOST_SHOWN


def test_this_process_is_itself() -> None:
    its = found(pathlib.Path("/proc"), os.getpid())
    assert its.command == pathlib.Path("/proc/self/comm").read_text().strip()
    assert "pytest" in its.cmdline


def test_procfs_is_the_host_roots_where_it_has_one(tmp_path: pathlib.Path) -> None:
    assert culprits.procfs(str(tmp_path)) == "/proc"
    (tmp_path / "proc/sys").mkdir(parents=True)
    assert culprits.procfs(str(tmp_path)) == "/proc"
    (tmp_path / "proc/self").symlink_to("812")
    (tmp_path / "proc/812").mkdir()
    assert culprits.procfs(str(tmp_path)) == str(tmp_path / "proc")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param(KUBELET, "system.slice/kubelet.service", id="cgroup2"),
        pytest.param(f"1:name=systemd:/x\n{KUBELET}", "system.slice/kubelet.service", id="hybrid"),
        pytest.param("1:cpuset:/x\n", "", id="v1 alone"),
        pytest.param("0::/\n", "", id="the root"),
        pytest.param("0::/a/b (deleted)\n", "a/b", id="a group that is gone"),
        pytest.param("0::/../../kubelet.service\n", "kubelet.service", id="out of the reader's namespace"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_the_group_is_the_one_in_the_cgroup2_tree(text: str, path: str) -> None:
    assert culprits.cgroup_of(text) == path


@given(st.text())
def test_any_text_names_a_group_below_the_mount(text: str) -> None:
    steps = culprits.cgroup_of(text).split("/")
    assert ".." not in steps


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        pytest.param("init.scope", "init.scope", id="systemd itself"),
        pytest.param("system.slice/containerd.service", "containerd.service", id="a service"),
        pytest.param("system.slice/k3s.service/worker", "k3s.service", id="a group of a service's own"),
        pytest.param("user.slice/user-0.slice/session-3.scope", "session-3.scope", id="a session"),
        pytest.param(
            "user.slice/user-1.slice/user@1.service/app.slice/a.service", "a.service", id="a user's service"
        ),
        pytest.param("user.slice/user-0.slice", "user-0.slice", id="a slice alone"),
        pytest.param(
            f"kubepods.slice/p.slice/cri-containerd-{ID}.scope", f"cri-containerd-{ID}.scope", id="pod"
        ),
        pytest.param(f"kubepods/burstable/pod1/{ID}", "", id="no unit"),
        pytest.param("", "", id="the root"),
    ],
)
def test_the_unit_is_the_innermost(cgroup: str, unit: str) -> None:
    assert culprits.unit(cgroup) == unit
