"""Who is the opponent where it is known who wrote."""

from __future__ import annotations

import pytest

from reconciler import events, opponents
from tests.pipeline.samples import cpus, pod

# covers: PRD-7.12

POD = pod("db")
CONTAINER = events.Container(
    id=events.ContainerId("one"),
    sandbox=POD.sandbox,
    name="main",
    cgroup="kubepods.slice/kubepods-pod1.slice/cri-containerd-one.scope",
    limits=events.CpuLimits(),
    phase=events.Phase.RUNNING,
    cpus="0-5",
)
KUBELET = opponents.Assignments(policy="static", default=cpus("6-7"))
RUNC = opponents.Writer(pid=9, command="runc", cmdline="runc update", unit="containerd.service")
SYSTEMD = opponents.Writer(pid=1, command="systemd", unit="init.scope")


def blamed(
    writer: opponents.Writer | None,
    value: str = "3",
    file: str = "cpuset.cpus",
    kubelet: opponents.Assignments | None = None,
) -> opponents.Opponent:
    suspects = opponents.Suspects(kubelet=kubelet, writer=lambda *_: writer)
    return opponents.blame(suspects, POD, CONTAINER, file, value)


@pytest.mark.parametrize(
    ("writer", "kind"),
    [
        pytest.param(SYSTEMD, "systemd", id="systemd"),
        pytest.param(
            opponents.Writer(pid=8, command="systemd", unit="user@0.service"), "agent", id="a user's"
        ),
        pytest.param(
            opponents.Writer(pid=8, command="kubelet", unit="kubelet.service"), "kubelet", id="kubelet"
        ),
        pytest.param(RUNC, "runtime", id="runc"),
        pytest.param(opponents.Writer(pid=8, command="runc:[2:INIT]"), "runtime", id="a part of runc"),
        pytest.param(opponents.Writer(pid=8, command="containerd-shim"), "runtime", id="a shim"),
        pytest.param(opponents.Writer(pid=8, command="crio"), "runtime", id="CRI-O"),
        pytest.param(opponents.Writer(pid=8, command="bash", unit="session-3.scope"), "agent", id="a shell"),
    ],
)
def test_who_wrote_is_the_opponent_whatever_the_value_points_to(writer: opponents.Writer, kind: str) -> None:
    for value in ("0-5", "", "3"):
        found = blamed(writer, value)
        assert (found.kind, found.name) == (kind, str(writer))
        assert (found.evidence, found.writer) == ("fanotify saw it write", writer)


def test_kubelet_writes_through_the_runtime() -> None:
    found = blamed(RUNC, "6-7", kubelet=KUBELET)
    assert (found.kind, found.name) == ("kubelet", "kubelet's static CPU manager")
    assert found.evidence == (
        "6-7 is what it has on record for it, written by runc (pid 9, containerd.service)"
    )
    assert blamed(SYSTEMD, "6-7", kubelet=KUBELET).kind == "systemd"


def test_an_ancestor_stays_one_and_its_writer_is_named() -> None:
    found = blamed(SYSTEMD, "0-3", file="cpuset.cpus.effective")
    assert (found.kind, found.name, found.writer) == ("ancestor", "an ancestor's cpuset", SYSTEMD)
    assert found.evidence == "the kernel grants 0-3, written by systemd (pid 1, init.scope)"


@pytest.mark.parametrize("writer", [opponents.Writer(pid=9), opponents.Writer(pid=0)])
def test_where_only_the_pid_is_known_the_value_points_to_somebody(writer: opponents.Writer) -> None:
    found = blamed(writer, "0-5")
    assert (found.kind, found.writer) == ("runtime", writer)
    assert found.evidence.startswith("0-5 is what the runtime's record has")


def test_where_nobody_is_known_nothing_is_said_of_a_writer() -> None:
    assert blamed(None).writer is None
    assert opponents.named(None) == {}


@pytest.mark.parametrize(
    ("writer", "text"),
    [
        pytest.param(RUNC, "runc (pid 9, containerd.service)", id="in a unit"),
        pytest.param(opponents.Writer(pid=9), "a process that has ended (pid 9)", id="ended"),
        pytest.param(opponents.Writer(pid=0), "a process of another pid namespace", id="out of sight"),
    ],
)
def test_a_writer_is_called_by_all_that_is_known(writer: opponents.Writer, text: str) -> None:
    assert str(writer) == text
    assert opponents.named(writer) == {
        "writer": {
            "pid": writer.pid,
            "command": writer.command,
            "cmdline": writer.cmdline,
            "unit": writer.unit,
            "container": "",
        }
    }
