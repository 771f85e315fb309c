"""A host whose cpusets cannot be managed ends the start with code 3 and one sentence."""

from __future__ import annotations

import pathlib

import pytest

from reconciler import errors
from reconciler.cli import main
from reconciler.host import cgroupmount
from reconciler.sim import machine

# covers: PRD-10.2

HYBRID = """\
25 20 0:23 / {root} ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:24 / {root}/unified rw - cgroup2 cgroup2 rw
27 25 0:25 / {root}/cpuset rw - cgroup cgroup rw,cpuset
"""
LEGACY = """\
25 20 0:23 / {root} ro,nosuid - tmpfs tmpfs ro,mode=755
27 25 0:25 / {root}/cpuset rw - cgroup cgroup rw,cpuset
"""
UNIFIED = "25 20 0:23 / {root} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def _check(folder: pathlib.Path, mounts: str, controllers: str = "") -> None:
    root = folder / "cgroup"
    root.mkdir()
    (root / "cgroup.controllers").write_text(controllers)
    mountinfo = folder / "mountinfo"
    mountinfo.write_text(mounts.format(root=root))
    cgroupmount.check(str(root), str(mountinfo))


def test_a_cgroup2_mount_with_cpusets_is_suitable(tmp_path: pathlib.Path) -> None:
    _check(tmp_path, UNIFIED, "cpuset cpu memory\n")
    with pytest.raises(errors.Unsuitable):
        cgroupmount.check(str(tmp_path / "another"), str(tmp_path / "mountinfo"))


@pytest.mark.parametrize(
    ("mounts", "controllers", "why"),
    [
        pytest.param(HYBRID, "", "hybrid layout of cgroup v1 and v2", id="hybrid"),
        pytest.param(LEGACY, "", "has cgroup v1", id="v1"),
        pytest.param(UNIFIED, "cpu memory\n", "without the cpuset controller", id="no cpuset"),
        pytest.param("", "", "is not a cgroup2 mount", id="no mount"),
    ],
)
def test_any_other_host_is_unsuitable(
    mounts: str, controllers: str, why: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(errors.Unsuitable, match=why):
        _check(tmp_path, mounts, controllers)


def test_run_on_such_a_host_ends_with_code_3_and_one_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.write(str(tmp_path), machine.vm())
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    folders = ["--state-dir", str(tmp_path / "state"), "--api-socket", str(tmp_path / "api.sock")]
    assert main.main(["run", "--host-root", str(tmp_path), *folders]) == 3
    said = capsys.readouterr().err
    assert "is not a cgroup2 mount" in said
    assert (said.count("\n"), said.startswith("cpuset-reconciler: ")) == (1, True)
