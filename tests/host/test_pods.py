"""A walk through the pods' cgroups: whole, or an error that says where it broke off."""

from __future__ import annotations

import os
import pathlib

import pytest

from reconciler import errors, observed
from reconciler.cpu.bandwidth import Bandwidth
from reconciler.cpu.idset import CpuSet
from reconciler.host import pods
from tests.host import groups

UID = "5b8a3f10_0000_4000_8000_000000000001"
ID = "a" * 64
POD = f"kubepods.slice/kubepods-pod{UID}.slice"
SCOPE = f"{POD}/cri-containerd-{ID}.scope"
NONE: frozenset[str] = frozenset()


def make(root: pathlib.Path, path: str, *, populated: bool = True, **files: str) -> None:
    full = groups.make(str(root), path, files.pop("cpus", ""))
    groups.put(full, "cgroup.events", f"populated {int(populated)}\nfrozen 0\n")
    for name, text in files.items():
        groups.put(full, name.replace("_", "."), f"{text}\n")


def paths(root: pathlib.Path) -> dict[str, list[str]]:
    return {its.path: [group.path for group in its.groups] for its in pods.walk(str(root), NONE)}


def test_a_container_is_told_with_what_its_files_say(tmp_path: pathlib.Path) -> None:
    make(tmp_path, SCOPE, cpus="2-3", cpu_max="200000 100000", cpu_weight="79")
    [pod] = pods.walk(str(tmp_path), NONE)
    assert pod == observed.PodGroup(
        path=POD,
        groups=(
            observed.Group(
                path=SCOPE,
                is_populated=True,
                quota=Bandwidth(quota=200_000),
                weight=79,
                cpus=CpuSet([2, 3]),
            ),
        ),
    )


def test_of_one_that_is_known_only_its_processes_are_looked_at(tmp_path: pathlib.Path) -> None:
    make(tmp_path, SCOPE, cpus="2-3", cpu_max="no number")
    [pod] = pods.walk(str(tmp_path), frozenset({SCOPE}))
    assert pod.groups == (observed.Group(path=SCOPE, is_populated=True),)


def test_one_without_a_process_says_so_and_nothing_else(tmp_path: pathlib.Path) -> None:
    make(tmp_path, SCOPE, populated=False, cpus="2-3")
    [pod] = pods.walk(str(tmp_path), NONE)
    assert pod.groups == (observed.Group(path=SCOPE, is_populated=False),)


@pytest.mark.parametrize(
    "pod",
    [
        POD,
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID}.slice",
        f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID}.slice",
        f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID}.slice",
        "kubepods/pod5b8a",
        "kubepods/burstable/pod5b8a",
        "kubepods/besteffort/pod5b8a",
        "kubelet/kubepods/burstable/pod5b8a",
    ],
)
def test_pods_of_either_driver_and_of_each_class_are_found(tmp_path: pathlib.Path, pod: str) -> None:
    make(tmp_path, f"{pod}/{ID}")
    make(tmp_path, "system.slice/some-pod1.slice")
    assert paths(tmp_path) == {pod: [f"{pod}/{ID}"]}


def test_what_is_no_pod_is_not_told(tmp_path: pathlib.Path) -> None:
    for path in ("kubepods.slice/other.slice", "kubepods.slice/kubepods-burstable.slice/x.scope", POD):
        make(tmp_path, path)
    assert paths(tmp_path) == {POD: []}


@pytest.mark.parametrize("made", [(), ("container",), ("user.slice/init.scope",)])
def test_a_tree_that_is_not_a_hosts_is_an_error_and_not_an_empty_node(
    tmp_path: pathlib.Path, made: tuple[str, ...]
) -> None:
    for path in made:
        make(tmp_path, path)
    with pytest.raises(errors.HostFileError, match="there is no kubepods cgroup"):
        pods.walk(str(tmp_path), NONE)


@pytest.mark.parametrize("made", ["init.scope", "system.slice"])
def test_a_host_on_which_kubelet_has_not_started_has_no_pods(tmp_path: pathlib.Path, made: str) -> None:
    make(tmp_path, made)
    assert pods.walk(str(tmp_path), NONE) == ()


def test_a_group_that_goes_during_the_walk_is_left_out(tmp_path: pathlib.Path) -> None:
    make(tmp_path, SCOPE)
    os.unlink(tmp_path / SCOPE / "cgroup.events")
    assert paths(tmp_path) == {POD: []}


@pytest.mark.parametrize("file", ["cgroup.events", "cpu.max"])
def test_what_cannot_be_read_breaks_the_walk_off(tmp_path: pathlib.Path, file: str) -> None:
    make(tmp_path, SCOPE)
    (tmp_path / SCOPE / file).unlink(missing_ok=True)
    (tmp_path / SCOPE / file).mkdir()
    with pytest.raises(errors.HostFileError, match=f"{file}: Is a directory"):
        pods.walk(str(tmp_path), NONE)


@pytest.mark.parametrize(("file", "text"), [("cpu.max", "lots"), ("cpuset.cpus", "3-2")])
def test_what_cannot_be_right_breaks_the_walk_off(tmp_path: pathlib.Path, file: str, text: str) -> None:
    make(tmp_path, SCOPE)
    groups.put(str(tmp_path / SCOPE), file, f"{text}\n")
    with pytest.raises(errors.Malformed, match="cri-containerd"):
        pods.walk(str(tmp_path), NONE)


def test_a_kernel_without_the_cpu_controller_says_nothing_of_limits(tmp_path: pathlib.Path) -> None:
    make(tmp_path, SCOPE)
    [pod] = pods.walk(str(tmp_path), NONE)
    assert pod.groups == (observed.Group(path=SCOPE, is_populated=True),)
