"""Whom a value points to, and where kubelet and the claims differ."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler import events, opponents
from tests.pipeline.samples import cpus, pod

# covers: PRD-7.13

POD = pod("db")
IN_SCOPE = events.Container(
    id=events.ContainerId("one"),
    sandbox=POD.sandbox,
    name="main",
    cgroup="kubepods.slice/kubepods-pod1.slice/cri-containerd-one.scope",
    limits=events.CpuLimits(),
    phase=events.Phase.RUNNING,
    cpus="0-5",
)
IN_GROUP = dataclasses.replace(IN_SCOPE, cgroup="kubepods/pod1/one")
KUBELET = opponents.Assignments(
    policy="static", default=cpus("0,6-7"), entries={(POD.uid, "other"): cpus("1-2")}
)
ITS_OWN = dataclasses.replace(KUBELET, entries={(POD.uid, "main"): cpus("1-2")})


def blamed(
    suspects: opponents.Suspects,
    value: str,
    container: events.Container = IN_GROUP,
    file: str = "cpuset.cpus",
) -> str:
    return opponents.blame(suspects, POD, container, file, value).kind


@pytest.mark.parametrize(
    ("kubelet", "value", "kind"),
    [
        pytest.param(ITS_OWN, "1-2", "kubelet", id="its entry"),
        pytest.param(ITS_OWN, "1,2", "kubelet", id="its entry in other words"),
        pytest.param(ITS_OWN, "0,6-7", "agent", id="the default, though it has an entry"),
        pytest.param(KUBELET, "0,6-7", "kubelet", id="the default of those without an entry"),
        pytest.param(KUBELET, "1-2", "agent", id="someone else's entry"),
        pytest.param(
            dataclasses.replace(ITS_OWN, policy="none"), "1-2", "agent", id="a policy that writes none"
        ),
        pytest.param(
            opponents.Assignments(policy="static"), "", "agent", id="no default, and nothing written"
        ),
        pytest.param(None, "1-2", "agent", id="no kubelet"),
    ],
)
def test_a_value_that_kubelet_has_points_to_it(
    kubelet: opponents.Assignments | None, value: str, kind: str
) -> None:
    assert blamed(opponents.Suspects(kubelet=kubelet), value) == kind


@pytest.mark.parametrize(
    ("records", "value", "kind"),
    [
        pytest.param({}, "0-5", "runtime", id="what it was created with"),
        pytest.param({"one": "0-3"}, "0-3", "runtime", id="what is on record"),
        pytest.param({"one": "0-3"}, "0-5", "agent", id="what was on record before"),
        pytest.param({"one": ""}, "", "agent", id="nothing is never written by a runtime"),
        pytest.param({"one": "nonsense"}, "0-5", "agent", id="a record that is no list"),
    ],
)
def test_a_value_that_is_on_record_points_to_the_runtime(
    records: dict[str, str], value: str, kind: str
) -> None:
    suspects = opponents.Suspects(records={events.ContainerId(id_): text for id_, text in records.items()})
    assert blamed(suspects, value) == kind


def test_of_a_unit_it_says_that_systemd_may_have_the_same() -> None:
    found = opponents.blame(opponents.Suspects(), POD, IN_SCOPE, "cpuset.cpus", "0-5")
    assert (found.kind, found.evidence) == (
        "runtime",
        "0-5 is what the runtime's record has, and may be what systemd's unit has",
    )


@pytest.mark.parametrize(
    ("container", "ago", "value", "kind"),
    [
        pytest.param(IN_SCOPE, None, "", "systemd", id="nothing, in a unit"),
        pytest.param(IN_GROUP, None, "", "agent", id="nothing, in no unit"),
        pytest.param(IN_SCOPE, 10.0, "0-5", "systemd", id="soon after a reload"),
        pytest.param(IN_SCOPE, 10.1, "0-5", "runtime", id="long after a reload"),
        pytest.param(IN_GROUP, 0.1, "0-5", "runtime", id="in no unit, soon after a reload"),
    ],
)
def test_what_a_unit_may_have_points_to_systemd(
    container: events.Container, ago: float | None, value: str, kind: str
) -> None:
    assert blamed(opponents.Suspects(reloaded_ago=ago), value, container) == kind


def test_kubelets_own_entry_counts_before_a_reload() -> None:
    assert blamed(opponents.Suspects(kubelet=ITS_OWN, reloaded_ago=1.0), "1-2", IN_SCOPE) == "kubelet"


def test_what_the_kernel_grants_points_to_an_ancestor() -> None:
    assert blamed(opponents.Suspects(), "2", file="cpuset.cpus.effective") == "ancestor"


def test_memory_and_quotas_point_to_nobody_who_is_known() -> None:
    found = opponents.blame(opponents.Suspects(), POD, IN_GROUP, "cpuset.mems", "0-1")
    assert (found.kind, found.name) == ("agent", "a second agent")
    assert found.evidence == "nobody who is known writes 0-1 into cpuset.mems"


def test_only_containers_of_ours_can_be_contradicted() -> None:
    assignments = opponents.Assignments(
        policy="static",
        entries={("u", "a"): cpus("1"), ("u", "b"): cpus("2"), ("u", "c"): cpus("3"), ("x", "y"): cpus("7")},
    )
    owned = {("u", "c"): cpus(""), ("u", "a"): cpus("1"), ("u", "b"): cpus("4"), ("u", "d"): cpus("5")}
    assert opponents.contradictions(assignments, owned) == {
        ("u", "b"): (cpus("2"), cpus("4")),
        ("u", "c"): (cpus("3"), cpus("")),
        ("u", "d"): (cpus(""), cpus("5")),
    }
