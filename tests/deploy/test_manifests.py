"""Chart and kustomizations are one thing said twice: as Kubernetes and Helm take it."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from reconciler import errors
from reconciler.config import schema
from tests.deploy import rendering

# covers: PRD-13.1

BASE = rendering.folder_of("base")
every = pytest.mark.parametrize("overlay", rendering.NAMES)
all_values = pytest.mark.parametrize(
    "values",
    [*map(rendering.values_of, rendering.NAMES), rendering.EVERYTHING],
    ids=[*rendering.NAMES, "everything"],
)


def test_every_overlay_is_there_for_both() -> None:
    folders = {path.name for path in (rendering.KUSTOMIZE / "overlays").iterdir()}
    assert folders == set(rendering.OVERLAYS)
    assert folders == {"nri", "cri-only", "attribution", "k3s", "crio", "startup-taint"}


@every
def test_chart_and_kustomization_give_equal_objects(overlay: str) -> None:
    made = rendering.alike(rendering.kustomized(rendering.folder_of(overlay)))
    assert made == rendering.alike(rendering.rendered(rendering.values_of(overlay)))
    roles = {"ClusterRole", "ClusterRoleBinding"} if overlay == "startup-taint" else set()
    assert {kind for kind, _ in made} == {"ServiceAccount", "ConfigMap", "DaemonSet"} | roles


def test_the_admission_policy_of_the_chart_is_the_one_that_is_delivered_alone() -> None:
    alone = rendering.alike(rendering.kustomized(rendering.DEPLOY / "admission"))
    made = rendering.alike(rendering.rendered({"admission": {"enabled": True}}))
    assert alone.items() <= made.items()
    assert len(alone) == 2


@pytest.mark.parametrize(
    ("config", "expression"),
    [
        pytest.param({}, "['*']", id="all"),
        pytest.param({"annotatedNamespaces": []}, "[]", id="none"),
        pytest.param({"annotatedNamespaces": ["a", "b-*"]}, "['a', 'b-*']", id="some"),
    ],
)
def test_the_admission_policy_of_the_chart_has_the_namespaces_of_the_configuration(
    config: dict[str, Any], expression: str
) -> None:
    made = rendering.rendered({"admission": {"enabled": True}, "config": config})
    policy = rendering.one(made, "ValidatingAdmissionPolicy")
    assert {"name": "namespaces", "expression": expression} in policy["spec"]["variables"]


@pytest.mark.parametrize(
    ("component", "value"), [("disruption-budget", "podDisruptionBudget"), ("system-bus", "systemBus")]
)
def test_what_the_chart_adds_is_what_the_component_adds(
    component: str, value: str, tmp_path: pathlib.Path
) -> None:
    up = pathlib.Path(*[".."] * len(tmp_path.resolve().parts[1:])) / rendering.KUSTOMIZE.relative_to("/")
    text = {
        "namespace": rendering.NAMESPACE,
        "resources": [str(up / "base")],
        "components": [str(up / "components" / component)],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(text))
    made = rendering.alike(rendering.kustomized(tmp_path))
    assert made == rendering.alike(rendering.rendered({value: {"enabled": True}}))
    assert made != rendering.alike(rendering.kustomized(BASE))


def test_what_the_chart_leaves_behind_is_what_a_kustomization_gives() -> None:
    made = rendering.alike(rendering.hooks({}, "pre-delete"))
    assert rendering.alike(rendering.kustomized(rendering.KUSTOMIZE / "restore")) == made
    assert {kind for kind, _ in made} == {"ConfigMap", "DaemonSet"}
    assert rendering.hooks({"restore": {"enabled": False}}, "pre-delete") == []


def faults(made: list[rendering.Object]) -> list[str]:
    """What the three newest versions of Kubernetes that are known would not take."""
    schemas = pytest.importorskip("kubernetes_validate", reason="no schemas: `make chart` installs them")
    major, minor = map(int, schemas.latest_version().split(".")[:2])
    found = []
    for version in (f"{major}.{minor - back}" for back in range(3)):
        for each in made:
            try:
                schemas.validate(each, version, strict=True)
            except schemas.ValidationError as error:
                found.append(f"{version}: {each['kind']}: {error.message}")
    return found


@every
def test_kubernetes_takes_every_object_of_a_kustomization(overlay: str) -> None:
    assert faults(rendering.kustomized(rendering.folder_of(overlay))) == []


@all_values
def test_kubernetes_takes_every_object_of_the_chart(values: dict[str, Any]) -> None:
    assert faults(rendering.templated(values)) == []


@pytest.mark.parametrize("folder", ["admission", "kustomize/restore"])
def test_kubernetes_takes_what_is_delivered_alone(folder: str) -> None:
    assert faults(rendering.kustomized(rendering.DEPLOY / folder)) == []


def test_what_kubernetes_would_not_take_is_seen() -> None:
    made = rendering.kustomized(BASE)
    rendering.one(made, "DaemonSet")["spec"]["template"]["spec"]["hostPid"] = True
    assert len(faults(made)) == 3


@all_values
def test_helm_finds_nothing_wrong_with_the_chart(values: dict[str, Any]) -> None:
    report = rendering.helm().lint(str(rendering.CHART), values, strict=True)
    serious = [said for said in report["messages"] if said["severity"] > 1]
    assert (report["total_charts_linted"], report["errors"], serious) == (1, [], [])


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"minSharedCpus": 0}, id="out-of-range"),
        pytest.param({"minSharedCpus": "2"}, id="wrong-type"),
        pytest.param({"minSharedCpu": 2}, id="unknown"),
        pytest.param({"nri": {"pluginIndex": "9"}}, id="malformed"),
        pytest.param({"nri": {"pluginIndex": "90\n"}}, id="a-newline-more"),
        pytest.param({"maxExclusiveCpus": {"A": 1}}, id="a-bad-key"),
        pytest.param({"annotatedNamespaces": ["a b"]}, id="in-a-list"),
        pytest.param({"isolation": "yes"}, id="not-a-choice"),
        pytest.param({"hostSlices": ["kubepods-burstable.slice"]}, id="what-begins-wrong"),
        pytest.param({"attribution": False}, id="what-YAML-makes-of-off"),
    ],
)
def test_helm_refuses_keys_types_and_values_as_the_agent_does(config: dict[str, Any]) -> None:
    with pytest.raises(errors.Usage):
        schema.convert(config)
    helm = rendering.helm()
    with pytest.raises(helm.HelmValuesError, match="don't meet the specifications"):
        rendering.rendered({"config": config})


@pytest.mark.parametrize(
    "value", [{"source": "docker"}, {"criSocket": "run/c.sock"}, {"replicas": 1}], ids=str
)
def test_helm_refuses_values_that_mean_nothing(value: dict[str, Any]) -> None:
    helm = rendering.helm()
    with pytest.raises(helm.HelmValuesError):
        rendering.rendered(value)


@pytest.mark.skipif(shutil.which("helm") is None, reason="there is no program helm; its library was asked")
@pytest.mark.parametrize("overlay", rendering.OVERLAYS)
def test_the_program_helm_makes_what_its_library_makes(overlay: str) -> None:
    values = rendering.CHART / "overlays" / f"{overlay}.yaml"
    command = ["helm", "template", "cpuset-reconciler", str(rendering.CHART), "--values", str(values)]
    command += ["--namespace", rendering.NAMESPACE, "--kube-version", "1.35.0"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    its = {(one["kind"], one["metadata"]["name"]): one for one in rendering.objects([made])}
    library = rendering.templated(rendering.values_of(overlay))
    assert its == {(one["kind"], one["metadata"]["name"]): one for one in library}
