"""The agent's pod has what the program needs, and no more."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import reconciler
from reconciler.cli import main
from reconciler.config import schema
from reconciler.daemon import checkpoint, options
from reconciler.host import cluster, kubelet
from tests.deploy import rendering

# covers: PRD-13.2

BASE = rendering.folder_of("base")
every = pytest.mark.parametrize("overlay", rendering.NAMES)
all_values = pytest.mark.parametrize(
    "values",
    [*map(rendering.values_of, rendering.NAMES), rendering.EVERYTHING],
    ids=[*rendering.NAMES, "everything"],
)


@all_values
def test_the_agent_reads_the_configuration_and_the_arguments_that_the_pod_gives_it(
    values: dict[str, Any],
) -> None:
    made = rendering.rendered(values)
    text = rendering.one(made, "ConfigMap")["data"]["config.yaml"]
    assert schema.convert(yaml.safe_load(text)) == schema.convert(values.get("config", {}))
    container = rendering.container_of(made)
    assert container["command"] == [f"/usr/bin/{main.PROGRAM}"]
    given = main._parse(container["args"])
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {given.config.removesuffix("/config.yaml"), given.state_dir} <= mounts
    assert given.api_socket.removesuffix("/api.sock") in mounts
    wanted = {
        "auto": {given.nri_socket, given.cri_socket},
        "nri": {given.nri_socket},
        "cri": {given.cri_socket},
    }
    sockets = {path.rpartition("/")[0] for path in wanted[given.source]}
    assert sockets == {path for path in mounts if path.startswith(("/run/", "/var/run/"))} - {
        given.api_socket.removesuffix("/api.sock")
    }


def test_every_host_file_that_the_agent_reads_is_mounted_below_its_host_root() -> None:
    container = rendering.container_of(rendering.kustomized(BASE))
    given = main._parse(container["args"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    chosen = options.Options(host_root=given.host_root)
    paths = [
        *("sys/devices/system/cpu/online", "sys/devices/system/node"),
        *(checkpoint._BOOT_ID, checkpoint._MACHINE_ID, kubelet._POD_RESOURCES),
    ]
    read = [chosen.cgroup_root, *(f"{given.host_root}/{path}" for path in paths)]
    assert [path for path in read if not any(f"{path}/".startswith(f"{mount}/") for mount in mounts)] == []


@every
def test_what_is_mounted_of_the_host_is_read_only_but_cgroups_and_the_state(overlay: str) -> None:
    made = rendering.kustomized(rendering.folder_of(overlay))
    of_the_host = {volume["name"] for volume in rendering.pod_of(made)["volumes"] if "hostPath" in volume}
    mounts = [mount for mount in rendering.container_of(made)["volumeMounts"] if mount["name"] in of_the_host]
    assert {mount["name"] for mount in mounts if not mount.get("readOnly")} == {"cgroup", "state"}
    assert of_the_host == {mount["name"] for mount in mounts}


@every
def test_no_privilege_is_given_but_for_attribution(overlay: str) -> None:
    pod = rendering.pod_of(rendering.kustomized(rendering.folder_of(overlay)))
    its = pod["containers"][0]["securityContext"]
    added = ["SYS_ADMIN"] if overlay == "attribution" else []
    assert its["capabilities"]["drop"] == ["ALL"]
    assert its["capabilities"].get("add", []) == added
    assert pod.get("hostPID", False) is (overlay == "attribution")
    assert (its["privileged"], its["allowPrivilegeEscalation"], its["readOnlyRootFilesystem"]) == (
        False,
        False,
        True,
    )
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"hostNetwork", "hostIPC"} & pod.keys() == set()


@pytest.mark.parametrize(
    ("config", "added"),
    [
        pytest.param({}, [], id="default"),
        pytest.param({"isolation": "cpuset"}, [], id="cpuset"),
        pytest.param({"isolation": "partition"}, ["SYS_ADMIN"], id="partition"),
        pytest.param({"isolationNamespaces": ["a"]}, ["SYS_ADMIN"], id="by-annotation"),
        pytest.param({"attribution": "off"}, [], id="no-attribution"),
    ],
)
def test_the_chart_gives_the_capability_that_the_configuration_needs(
    config: dict[str, Any], added: list[str]
) -> None:
    made = rendering.rendered({"config": config})
    assert rendering.container_of(made)["securityContext"]["capabilities"].get("add", []) == added
    assert "hostPID" not in rendering.pod_of(made)


@every
def test_no_token_of_the_api_server_reaches_the_agent_but_for_a_taint(overlay: str) -> None:
    made = rendering.kustomized(rendering.folder_of(overlay))
    has_token = overlay == "startup-taint"
    assert rendering.one(made, "ServiceAccount")["automountServiceAccountToken"] is False
    assert rendering.pod_of(made)["automountServiceAccountToken"] is has_token
    assert ("env" in rendering.container_of(made)) is has_token


def test_to_take_a_taint_off_the_agent_may_change_nodes_and_knows_its_own() -> None:
    made = rendering.kustomized(rendering.folder_of("startup-taint"))
    role, binding = rendering.one(made, "ClusterRole"), rendering.one(made, "ClusterRoleBinding")
    account = rendering.one(made, "ServiceAccount")["metadata"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]
    assert rendering.container_of(made)["env"] == [
        {"name": cluster.NODE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    ]


def test_two_agents_never_run_on_one_node() -> None:
    spec = rendering.one(rendering.kustomized(BASE), "DaemonSet")["spec"]
    assert spec["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
    }


def test_the_agent_runs_on_every_node_and_goes_last() -> None:
    pod = rendering.pod_of(rendering.kustomized(BASE))
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"
    resources = pod["containers"][0]["resources"]
    assert {"cpu", "memory"} == resources["requests"].keys()
    assert "cpu" not in resources["limits"]


def test_probes_ask_over_the_socket() -> None:
    container = rendering.container_of(rendering.kustomized(BASE))
    for probe, ready in (("startupProbe", True), ("readinessProbe", True), ("livenessProbe", False)):
        program, *arguments = container[probe]["exec"]["command"]
        given = main._parse(arguments)
        assert ([program], given.command, given.ready) == (container["command"], "status", ready)
        assert given.api_socket == main._parse(container["args"]).api_socket


def test_a_change_of_the_configuration_rolls_the_pods_of_the_chart() -> None:
    one, same, other = (
        rendering.one(rendering.rendered({"config": config}), "DaemonSet")["spec"]["template"]
        for config in ({}, {}, {"minSharedCpus": 2})
    )
    assert one == same != other


def test_a_change_of_the_configuration_rolls_the_pods_of_a_kustomization() -> None:
    base, other = (
        rendering.one(rendering.kustomized(rendering.folder_of(overlay)), "ConfigMap")["metadata"]["name"]
        for overlay in ("base", "attribution")
    )
    assert base != other
    for overlay, name in (("base", base), ("attribution", other)):
        volumes = rendering.pod_of(rendering.kustomized(rendering.folder_of(overlay)))["volumes"]
        assert {"name": "config", "configMap": {"name": name}} in volumes


@all_values
def test_what_gives_back_after_the_agent_is_told_what_the_agent_was_told(values: dict[str, Any]) -> None:
    made, left = rendering.rendered(values), rendering.hooks(values, "pre-delete")
    agents, its = rendering.container_of(made), rendering.pod_of(left)["initContainers"][0]
    program, command, *_ = its["args"]
    assert (program, command) == (f"/usr/bin/{main.PROGRAM}", "restore")
    assert its["image"] == agents["image"]
    given, agent = main._parse(its["args"][1:]), main._parse(agents["args"])
    assert (given.config, given.host_root, given.cpus) == (agent.config, agent.host_root, "all")
    if agent.source in ("auto", "cri"):
        assert given.cri_socket == agent.cri_socket
    shared = [mount for mount in its["volumeMounts"] if mount["name"] != "cri"]
    assert all(mount in agents["volumeMounts"] for mount in shared)
    assert {"state", "cgroup", "system", "config"} == {mount["name"] for mount in shared}
    config = {each["metadata"]["name"]: each["data"] for each in made + left if each["kind"] == "ConfigMap"}
    assert config["cpuset-reconciler"] == config["cpuset-reconciler-restore"]
    assert its["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_all_name_the_version_of_the_program() -> None:
    image = f"cpuset-reconciler:{reconciler.__version__}"
    assert rendering.container_of(rendering.kustomized(BASE))["image"] == image
    assert rendering.container_of(rendering.rendered({}))["image"] == image
