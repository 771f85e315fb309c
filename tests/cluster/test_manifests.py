"""The manifests of the scenarios' pods and of the pod that restores."""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
from typing import Any

import pytest
import yaml

from hack.e2e import cluster, manifests, restoring, selection
from reconciler.cli import restore
from tests.cluster import standin
from tests.scenarios import model

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "kustomize"
by_scenario = pytest.mark.parametrize("path", model.files(), ids=lambda path: path.stem)


def pods(path: pathlib.Path) -> list[model.Pod]:
    """Those of a scenario that the API server can have."""
    runs = [step.run for step in selection.parts(model.load(path)) if step.run is not None]
    return [pod for pod in runs if not list(selection.strange(pod))]


def manifest(pod: model.Pod) -> dict[str, Any]:
    return manifests.pod(pod, namespace="test", node="n1", image="agent:1")


@by_scenario
def test_kubernetes_sees_the_pods_that_the_scenario_says(path: pathlib.Path) -> None:
    for pod in pods(path):
        read = standin.read(manifest(pod))
        assert (read.qos, read.annotations) == (pod.qos, pod.annotations)
        assert list(read.containers) == pod.first
        for name in pod.first:
            assert read.containers[name].limit == pod.containers[name].limit


def test_a_pod_may_nothing() -> None:
    """It passes the restricted standard of pod security, and has no token."""
    spec = manifest(model.Pod(pod="web"))["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    context = spec["containers"][0]["securityContext"]
    assert context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def daemonset() -> dict[str, Any]:
    """As the API server has it once `deploy/kustomize/base` is applied."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "base" / "daemonset.yaml").read_text())
    found["metadata"]["namespace"] = "test-agent"
    return found


def test_the_agents_pod_has_what_is_looked_for_in_it() -> None:
    """The label, the program, and the host's folders that are read and written through it."""
    agent = daemonset()
    key, _, value = cluster.AGENT.partition("=")
    assert agent["spec"]["template"]["metadata"]["labels"][key] == value
    container = agent["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == [cluster.PROGRAM]
    mounts = {its["mountPath"]: its.get("readOnly", False) for its in container["volumeMounts"]}
    assert mounts["/host/sys/fs/cgroup"] is False
    assert "/host/sys/fs/cgroup" in cluster.WRITE
    assert any(cluster.ONLINE.startswith(f"{path}/") for path in mounts)


def test_the_pod_that_restores_has_the_agents_mounts_and_privileges_and_ends() -> None:
    agent, pod = daemonset(), restoring.pod(daemonset(), "n1")
    spec = agent["spec"]["template"]["spec"]
    assert pod["metadata"] == {"name": "restore", "namespace": "test-agent"}
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["spec"]["volumes"] == spec["volumes"]
    container, its = pod["spec"]["containers"][0], spec["containers"][0]
    for key in ("image", "command", "securityContext", "volumeMounts"):
        assert container[key] == its[key]
    assert not [key for key in container if key.endswith("Probe")]


def test_the_pod_that_restores_calls_it_with_options_that_it_has() -> None:
    container = restoring.pod(daemonset(), "n1")["spec"]["containers"][0]
    assert container["args"][0] == "restore"
    parser = argparse.ArgumentParser()
    restore.add_arguments(parser)
    given = parser.parse_args(container["args"][1:])
    assert given.cri_socket == "/run/containerd/containerd.sock"
    assert given.host_root == "/host"
    assert given.cpus == "all"


def test_an_agent_without_cri_cannot_restore() -> None:
    agent = daemonset()
    container = agent["spec"]["template"]["spec"]["containers"][0]
    container["args"] = [word for word in container["args"] if not word.startswith("--cri-socket")]
    with pytest.raises(ValueError, match="CRI"):
        restoring.pod(agent, "n1")


def test_a_write_goes_to_the_containers_own_cgroup(tmp_path: pathlib.Path) -> None:
    id_ = "0123abcd"
    pod = tmp_path / "kubepods.slice" / "pod"
    for name in (f"crio-conmon-{id_}.scope", f"crio-{id_}.scope", f"crio-{id_}.scope/container"):
        (pod / name).mkdir(parents=True)
        (pod / name / "cpuset.cpus").write_text("")
    script = cluster.WRITE.replace("/host/sys/fs/cgroup", os.fspath(tmp_path))
    subprocess.run(["sh", "-c", script, "sh", id_, "2-3"], check=True)
    written = {path.parent.name for path in tmp_path.rglob("cpuset.cpus") if path.read_text() == "2-3\n"}
    assert written == {f"crio-{id_}.scope"}


@pytest.mark.parametrize(("quantity", "thousandths"), [("4", 4000), ("250m", 250), ("0", 0), ("0.5", 500)])
def test_quantities_of_cpu_are_read(quantity: str, thousandths: int) -> None:
    assert cluster.milli(quantity) == thousandths
