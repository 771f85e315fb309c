"""The player of scenarios against a cluster that is as it should be, and against such that are not."""

from __future__ import annotations

from typing import Any

import pytest

from hack.e2e import cluster, play
from reconciler import intent
from reconciler.cpu.idset import CpuSet
from tests.cluster import standin
from tests.scenarios import model


def played(node: standin.Standin, *only: str) -> int:
    there = cluster.Cluster(standin.NAMES, run=node, patience=0)
    return play.run(there, standin.NAMESPACE, only)


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What was said of each scenario, by its name."""
    out = capsys.readouterr().out.splitlines()[:-1]
    return {line[6:].partition(": ")[0]: line for line in out}


def test_what_is_said_of_any_machine_is_played_and_the_rest_is_skipped_with_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert played(standin.Standin()) == 0
    told = lines(capsys)
    words = [line[:4].rstrip() for line in told.values()]
    assert told.keys() == {path.stem for path in model.files()}
    assert words.count("ok") >= 30
    assert "FAIL" not in words
    assert all(": " in line for line in told.values() if line.startswith("skip"))


def test_nothing_is_left_and_nobody_else_is_touched(capsys: pytest.CaptureFixture[str]) -> None:
    node = standin.Standin()
    before = node.status()
    assert played(node, "annotated-*", "a-list-*", "pods-that-come-at-once-*") == 0
    assert node.status() == {**before, "drift": node.status()["drift"]}
    made = [call for call in node.calls if "create" in call or "delete" in call]
    assert made
    assert all(call[call.index("--namespace") + 1] == standin.NAMESPACE for call in made if "delete" in call)


def test_only_what_is_named_is_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert played(standin.Standin(), "pool-grows-*") == 0
    assert capsys.readouterr().out == "ok    pool-grows-back\n1 played, 0 skipped, 0 failed\n"


def test_it_is_a_failure_when_nothing_can_be_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert played(standin.Standin(), "reserved-cpus") == 1
    assert capsys.readouterr().err == "play: no scenario was played to its end\n"


def with_pool(status: dict[str, Any], cpus: str) -> dict[str, Any]:
    """The status of an agent whose shared pool is these CPUs."""
    status["pools"]["shared"] = cpus
    for entry in status["containers"]:
        if entry["class"] == "shared":
            entry |= {"desired": {"cpus": cpus}, "observed": {"cpus": cpus, "effective": cpus}}
    return status


class Leaky(standin.Standin):
    """The kernel lets shared containers run everywhere."""

    def allowed(self, key: str) -> str:
        return super().allowed(key) if key.startswith("db") else "0-15"


class Open(standin.Standin):
    """The shared pool is the whole machine, for the agent and for the kernel."""

    def status(self) -> dict[str, Any]:
        return with_pool(super().status(), "0-15")

    def allowed(self, key: str) -> str:
        return super().allowed(key) if key.startswith("db") else "0-15"


class Stingy(standin.Standin):
    """The agent gives one CPU to whoever asks for two."""

    def status(self) -> dict[str, Any]:
        status = super().status()
        for entry in status["containers"]:
            if entry["pod"] == "db" and entry["class"] == "integer":
                one = str(CpuSet.parse(entry["claim"], what="claim").first())
                entry |= {"claim": one, "desired": {"cpus": one}, "observed": {"cpus": one, "effective": one}}
        return status

    def allowed(self, key: str) -> str:
        cpus = CpuSet.parse(super().allowed(key), what="allowed")
        return str(cpus.first()) if key == "db/main" else str(cpus)


class Forgetful(standin.Standin):
    """CPUs of a pod that is gone do not come back to the pool."""

    lost = False

    def _delete(self, call: standin.Call) -> str:
        self.lost |= "db" in call.words
        return super()._delete(call)

    def status(self) -> dict[str, Any]:
        return with_pool(super().status(), "0-11") if self.lost else super().status()

    def allowed(self, key: str) -> str:
        return "0-11" if self.lost else super().allowed(key)


class Drifting(standin.Standin):
    """The agent never converges."""

    def status(self) -> dict[str, Any]:
        status = super().status()
        for entry in status["containers"]:
            entry |= {"state": "drifted", "reason": "cpuset.cpus: the device is busy"}
        return {**status, "converged": False}


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (Leaky, "step 1: web/main: the kernel says 0-15, the agent 0-13"),
        (Open, "step 1: stranger/POD may run on CPUs 14-15 of stranger/main"),
        (Stingy, "step 2: db/main: has 1 CPUs (4), and should have 4"),
        (Forgetful, "step 3: shared are 0-11, exclusive 14-15, and together they should be 0-15"),
        (Drifting, "step 1: web/POD: drifted: cpuset.cpus: the device is busy"),
    ],
)
def test_a_cluster_that_is_not_as_the_scenario_says_fails_it(
    node: type[standin.Standin], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = node()
    assert played(broken, "pool-grows-back") == 1
    assert lines(capsys)["pool-grows-back"] == f"FAIL  pool-grows-back: {why}"
    assert standin.NAMESPACE not in {entry["namespace"] for entry in broken.status()["containers"]}


class Generous(standin.Standin):
    """Refuses nothing: kubelet tells of no refusal."""

    def _tell(self, pod: str, refusal: str) -> None:
        pass


def test_a_refusal_that_does_not_come_fails_the_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert played(Generous(), "annotated-pods-conflict") == 1
    assert "step 2: pod second is not refused with 'CPU 3 by" in lines(capsys)["annotated-pods-conflict"]


class Full(standin.Standin):
    """The scheduler has no room for pods of four CPUs."""

    def _create(self, call: standin.Call) -> str:
        if "4000m" not in call.text:
            return super()._create(call)
        self._events.append(("uid-of-db", "0/1 nodes are available: 1 Insufficient cpu."))
        return "uid-of-db"


def test_a_pod_that_does_not_start_fails_the_scenario_with_what_is_told_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert played(Full(), "pool-grows-back") == 1
    why = "step 2: pod db is not ready within 0 s: 0/1 nodes are available: 1 Insufficient cpu."
    assert lines(capsys)["pool-grows-back"].endswith(why)


class Hiding(standin.Standin):
    """Tells of the first refusal alone, in an event that outlives its pod."""

    def _tell(self, pod: str, refusal: str) -> None:
        if not self._events:
            super()._tell(pod, refusal)


def test_the_refusal_of_an_earlier_pod_of_that_name_counts_for_nothing() -> None:
    node = Hiding()
    there = cluster.Cluster(standin.NAMES, run=node, patience=0)
    pod = model.Pod(pod="empty", annotations={intent.CORES: ""})
    there.create(pod)
    there.until_refused("empty", "the list is empty")
    there.clear()
    there.create(pod)
    with pytest.raises(cluster.ClusterError, match="nothing is told of it"):
        there.until_refused("empty", "the list is empty")


class Blind(standin.Standin):
    """The agent does not see what others write."""

    def _exec(self, call: standin.Call) -> str:
        return "" if "sh" in call.arguments else super()._exec(call)


def test_drift_that_is_not_found_fails_the_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert played(Blind(), "repeated-drift-*") == 1
    told = lines(capsys)["repeated-drift-is-repaired-each-time"]
    assert told.endswith("step 3: db/main: the agent does not find that its CPUs became none")
