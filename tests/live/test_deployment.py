"""The agent as an administrator deploys it: with Helm and by kustomize, upgraded, and taken away."""

from __future__ import annotations

import pathlib

import pytest

from hack.e2e import cluster
from tests.live import kubernetes
from tests.live.kubernetes import ONLINE

# covers: PRD-13.1, PRD-13.5, PRD-13.7


def test_helm_installs_upgrades_and_takes_away_while_containers_run(
    pods: kubernetes.Pods, taken_away: None
) -> None:
    kubernetes.helm("install")
    kubernetes.until_rolled_out()
    pods.run("web")
    pods.run("db", cpus=2)
    kubernetes.placed(pods)
    assert kubernetes.status()["mode"] == "nri"
    before = pods.allowed("db")

    kubernetes.kubectl(
        *("--namespace", kubernetes.AGENTS, "delete", "pod", "--selector"),
        *(cluster.AGENT, "--grace-period=0", "--force"),
    )
    kubernetes.until_rolled_out()
    kubernetes.placed(pods)
    kubernetes.helm("upgrade", "--reuse-values", tag=kubernetes.REBUILT)
    kubernetes.until_rolled_out()
    kubernetes.placed(pods)
    kubernetes.helm("upgrade", "--set=config.minSharedCpus=2", tag=kubernetes.REBUILT)
    kubernetes.until_rolled_out()
    kubernetes.placed(pods)
    assert pods.allowed("db") == before

    kubernetes.run("helm", "uninstall", "cpuset-reconciler", "--namespace", kubernetes.AGENTS)
    kubernetes.until_rolled_out("daemonset/cpuset-reconciler-restore")
    assert pods.allowed("db") == pods.allowed("web") == ONLINE
    own = ("--namespace", kubernetes.AGENTS, "--selector", kubernetes.RESTORER)
    kubernetes.kubectl("delete", "daemonset,configmap", *own, "--cascade=foreground", kubernetes.LIMIT)
    left = kubernetes.kubectl("get", "all,configmap,serviceaccount", "--all-namespaces", "--output=name")
    assert "cpuset-reconciler" not in left


def test_a_pod_that_ends_while_the_agent_is_away_leaves_its_cpus(
    pods: kubernetes.Pods, taken_away: None, tmp_path: pathlib.Path
) -> None:
    deployed = kubernetes.kustomization(tmp_path, "overlays/nri")
    kubernetes.kubectl("apply", "-k", deployed)
    kubernetes.until_rolled_out()
    pods.run("job", cpus=2)
    pods.until_ready("job")
    kubernetes.kubectl("delete", "-k", deployed, "--cascade=foreground", kubernetes.LIMIT)
    pods.delete("job")
    kubernetes.kubectl("apply", "-k", deployed)
    kubernetes.until_rolled_out()
    # Within a period at the latest, and long before kubelet removes the sandbox.
    kubernetes.until("nobody has CPUs", lambda: kubernetes.status()["pools"]["shared"] == str(ONLINE))


@pytest.mark.parametrize(
    ("overlay", "mode"), [("nri", "nri"), ("cri-only", "cri"), ("k3s", "nri"), ("attribution", "nri")]
)
def test_an_overlay_serves(
    pods: kubernetes.Pods, taken_away: None, tmp_path: pathlib.Path, overlay: str, mode: str
) -> None:
    kubernetes.kubectl("apply", "-k", kubernetes.kustomization(tmp_path, f"overlays/{overlay}"))
    kubernetes.until_rolled_out()
    pods.run("web")
    pods.run("db", cpus=2)
    kubernetes.placed(pods)
    assert kubernetes.status()["mode"] == mode


def test_attribution_names_who_wrote(pods: kubernetes.Pods, taken_away: None, tmp_path: pathlib.Path) -> None:
    kubernetes.kubectl("apply", "-k", kubernetes.kustomization(tmp_path, "overlays/attribution"))
    kubernetes.until_rolled_out()
    pods.run("web")
    pods.run("db", cpus=2)
    kubernetes.placed(pods)
    (its,) = (
        entry
        for entry in kubernetes.status()["containers"]
        if (entry["pod"], entry["container"]) == ("web", "main")
    )
    # Who has ended is not named: it stays a moment. Nobody else writes this list: the runtime wrote another.
    kubernetes.ask("sh", "-c", f"{cluster.WRITE}sleep 3", "sh", its["id"], "0-6")
    kubernetes.until("the drift is found", lambda: bool(writers("0-6")))
    assert writers("0-6") == ["sh"]
    kubernetes.placed(pods)


def writers(observed: str) -> list[str]:
    """Who wrote this, by the drifts in the agent's log; "" where nobody is named."""
    drifts = (record for record in kubernetes.records("drift.found") if record["observed"] == observed)
    return [drift.get("writer", {}).get("command", "") for drift in drifts]


def test_pods_wait_for_the_agent_behind_the_startup_taint(
    pods: kubernetes.Pods, taken_away: None, tmp_path: pathlib.Path
) -> None:
    kubernetes.kubectl("taint", "node", kubernetes.node(), f"{kubernetes.TAINT}=:NoSchedule")
    pods.run("web")
    pods.run("db", cpus=2)
    kubernetes.until("the pods are kept off", lambda: unscheduled() == {"web", "db"})
    kubernetes.kubectl("apply", "-k", kubernetes.kustomization(tmp_path, "overlays/startup-taint"))
    kubernetes.placed(pods)
    assert "taints" not in kubernetes.get("node", kubernetes.node())["spec"]
    assert [record["key"] for record in kubernetes.records("taint.removed")] == [kubernetes.TAINT]


def unscheduled() -> set[str]:
    """The pods for which the scheduler has found no node."""
    items = kubernetes.get("pods", "--namespace", kubernetes.NAMESPACE)["items"]
    return {
        item["metadata"]["name"]
        for item in items
        for condition in item["status"].get("conditions", [])
        if (condition["type"], condition.get("reason")) == ("PodScheduled", "Unschedulable")
    }
