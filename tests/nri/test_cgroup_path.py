"""Every way in which kubelet and the runtimes name a cgroup leads to its directory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import errors, events
from reconciler.runtime import cgroup_path

ID = "0123456789abcdef" * 4
UID = "1edccc15-71c1-4a3e-8c5d-0123456789ab"
UNDERSCORED = UID.replace("-", "_")
SLICE = f"kubepods-burstable-pod{UNDERSCORED}.slice"
EXPANDED = f"kubepods.slice/kubepods-burstable.slice/{SLICE}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(
            f"{SLICE}:cri-containerd:{ID}", f"{EXPANDED}/cri-containerd-{ID}.scope", id="containerd"
        ),
        pytest.param(f"{SLICE}:crio:{ID}", f"{EXPANDED}/crio-{ID}.scope", id="cri-o"),
        pytest.param(
            f"kubepods-pod{UNDERSCORED}.slice:cri-containerd:{ID}",
            f"kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope",
            id="guaranteed",
        ),
        pytest.param(
            f"kubelet-kubepods-pod{UNDERSCORED}.slice:cri-containerd:{ID}",
            f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice/"
            f"cri-containerd-{ID}.scope",
            id="kind",
        ),
        pytest.param(f":cri-containerd:{ID}", f"system.slice/cri-containerd-{ID}.scope", id="no-slice"),
        pytest.param(f"-.slice:crio:{ID}", f"crio-{ID}.scope", id="root-slice"),
        pytest.param("a.slice:x:b.slice", "a.slice/b.slice", id="name-is-a-slice"),
        pytest.param(f"a.slice::{ID}", f"a.slice/{ID}.scope", id="no-prefix"),
        pytest.param(
            f"/kubepods/burstable/pod{UID}/{ID}", f"kubepods/burstable/pod{UID}/{ID}", id="cgroupfs"
        ),
        pytest.param(f"/kubepods/pod{UID}/crio-{ID}", f"kubepods/pod{UID}/crio-{ID}", id="cgroupfs-cri-o"),
    ],
)
def test_the_directory_of_a_container(path: str, expected: str) -> None:
    assert cgroup_path.directory(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("nonsense", id="word"),
        pytest.param("", id="empty"),
        pytest.param("/", id="root"),
        pytest.param("//a", id="empty-piece"),
        pytest.param("/a/", id="trailing-slash"),
        pytest.param("/kubepods/../../etc", id="upwards"),
        pytest.param("/a/./b", id="here"),
        pytest.param("/a\0b", id="nul"),
        pytest.param("/" + "a" * 256, id="long-name"),
        pytest.param("/a" * 2048, id="long-path"),
        pytest.param("a.slice:b", id="two-parts"),
        pytest.param("a.slice:b:c:d", id="four-parts"),
        pytest.param("a.slice:b:", id="no-name"),
        pytest.param("a.slice:..:/../c", id="slash-in-unit"),
        pytest.param("a:b:c", id="not-a-slice"),
        pytest.param("a--b.slice:c:d", id="double-dash"),
        pytest.param("-a.slice:c:d", id="leading-dash"),
        pytest.param("a-.slice:c:d", id="trailing-dash"),
        pytest.param(".slice:c:d", id="nameless-slice"),
        pytest.param("../x.slice:c:d", id="slash-in-slice"),
        pytest.param("a.slice:c:" + "d" * 300, id="long-unit"),
    ],
)
def test_what_cannot_be_a_cgroup_is_malformed(path: str) -> None:
    with pytest.raises(errors.Malformed):
        cgroup_path.directory(path)


@given(st.text(max_size=60))
def test_no_text_leads_out_of_the_tree(path: str) -> None:
    try:
        found = cgroup_path.directory(path)
    except errors.Malformed:
        return
    assert not {"", ".", ".."} & set(found.split("/"))
    assert "\0" not in found


@pytest.mark.parametrize(
    ("parent", "directory", "qos"),
    [
        pytest.param(SLICE, EXPANDED, events.Qos.BURSTABLE, id="slice"),
        pytest.param("/" + EXPANDED, EXPANDED, events.Qos.BURSTABLE, id="expanded-slice"),
        pytest.param(
            "kubepods-besteffort-podab.slice",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podab.slice",
            events.Qos.BEST_EFFORT,
            id="besteffort",
        ),
        pytest.param(
            "kubepods-podab.slice",
            "kubepods.slice/kubepods-podab.slice",
            events.Qos.GUARANTEED,
            id="guaranteed",
        ),
        pytest.param(
            "kubelet-kubepods-podab.slice",
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podab.slice",
            events.Qos.GUARANTEED,
            id="kind",
        ),
        pytest.param(
            f"/kubepods/pod{UID}", f"kubepods/pod{UID}", events.Qos.GUARANTEED, id="cgroupfs-guaranteed"
        ),
        pytest.param(
            f"/kubelet/kubepods/burstable/pod{UID}",
            f"kubelet/kubepods/burstable/pod{UID}",
            events.Qos.BURSTABLE,
            id="cgroupfs-kind",
        ),
    ],
)
def test_the_directory_and_class_of_a_pod(parent: str, directory: str, qos: events.Qos) -> None:
    assert cgroup_path.parent_directory(parent) == directory
    assert cgroup_path.qos(parent) is qos


@pytest.mark.parametrize(
    "parent",
    [
        pytest.param("", id="empty"),
        pytest.param("system.slice", id="another-slice"),
        pytest.param("kubepods.slice", id="the-root"),
        pytest.param("kubepods-burstable.slice", id="no-pod"),
        pytest.param("mykubepods-podab.slice", id="longer-root"),
        pytest.param("kubepods-guaranteed-podab.slice", id="unknown-class"),
        pytest.param("/kubepods/podab/x", id="too-deep"),
        pytest.param("/other/podab", id="another-root"),
    ],
)
def test_a_pod_that_kubelet_did_not_make_has_no_class(parent: str) -> None:
    with pytest.raises(errors.Malformed, match="not a pod's place under kubepods"):
        cgroup_path.qos(parent)
