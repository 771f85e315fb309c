"""What kubelet itself does with CPUs: it resizes pods in place, and may give out CPUs of its own."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.cpu.idset import CpuSet
from tests.live import kubernetes, shells
from tests.live.kubernetes import ONLINE

# covers: PRD-2.12, PRD-7.13
CONFIG = "/run/kubelet.json"
STATE = "/var/lib/kubelet/cpu_manager_state"


@pytest.fixture
def static(shell: shells.Shell) -> Iterator[None]:
    """A kubelet whose CPU manager is static; afterwards, the one that was before."""
    before = shell.run("cat", CONFIG)
    try:
        configure(shell, {**json.loads(before), "cpuManagerPolicy": "static", "reservedSystemCPUs": "0"})
        yield
    finally:
        configure(shell, json.loads(before))


def configure(shell: shells.Shell, settings: dict[str, Any]) -> None:
    """Start kubelet anew with other settings: it refuses the record of another policy."""
    shell.run("tee", CONFIG, text=json.dumps(settings))
    shell.run("rm", "--force", STATE)
    shell.restart("kubelet.service")


def test_a_claim_grows_and_shrinks_with_its_pod(
    pods: kubernetes.Pods, taken_away: None, tmp_path: pathlib.Path
) -> None:
    kubernetes.kubectl("apply", "-k", kubernetes.kustomization(tmp_path, "base"))
    kubernetes.until_rolled_out()
    pods.run("web")
    pods.run("db", cpus=2)
    kubernetes.placed(pods)
    before = pods.allowed("db")
    pods.resize("db", cpus=3)
    kubernetes.until("db has three CPUs", lambda: len(pods.allowed("db")) == 3)
    assert before - pods.allowed("db") == CpuSet()
    kubernetes.until("web has the others", lambda: pods.allowed("web") == ONLINE - pods.allowed("db"))
    pods.resize("db", cpus=1)
    kubernetes.until("db has one CPU", lambda: len(pods.allowed("db")) == 1)
    kubernetes.until("web has the others", lambda: pods.allowed("web") == ONLINE - pods.allowed("db"))


def test_a_static_cpu_manager_is_named(
    static: None, pods: kubernetes.Pods, taken_away: None, tmp_path: pathlib.Path
) -> None:
    kubernetes.kubectl("apply", "-k", kubernetes.kustomization(tmp_path, "base"))
    kubernetes.until_rolled_out()
    pods.run("db", cpus=2)
    pods.until_ready("db")
    kubernetes.until("kubelet is named", lambda: bool(kubernetes.records("opponent.found")))
    (found,) = kubernetes.records("opponent.found")
    assert found["kind"] == "kubelet"
    (opponent,) = (its for its in kubernetes.status()["opponents"] if its["kind"] == "kubelet")
    assert opponent["name"] == "kubelet's static CPU manager"
    assert len(pods.allowed("db")) == 2
