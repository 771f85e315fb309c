"""The objects that Helm and kubectl make of what is delivered. Runs the real ones, of the lock chart.txt.

Where they are not installed the tests that ask for them are skipped, and say so: `make chart` installs them.
"""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
KUSTOMIZE = DEPLOY / "kustomize"
CHART = DEPLOY / "helm" / "cpuset-reconciler"
OVERLAYS = sorted(path.stem for path in (CHART / "overlays").glob("*.yaml"))
NAMES = ["base", *OVERLAYS]
NAMESPACE = "kube-system"
EVERYTHING: dict[str, Any] = {
    "admission": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
    "systemBus": {"enabled": True},
    "config": {
        "annotatedNamespaces": ["storage", "db-*"],
        "maxExclusiveCpus": {"storage": 16, "*": 4},
        "isolation": "partition",
        "hostSlices": ["system.slice", "user.slice"],
        "startupTaint": "weka.io/cpus-not-ready",
        "metrics": {"listen": "0.0.0.0:9465"},
    },
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "affinity": {"nodeAffinity": {}},
    "hostNetwork": True,
    "seLinuxOptions": {"type": "spc_t"},
    "podLabels": {"a": "b"},
    "podAnnotations": {"c": "d"},
    "maxUnavailable": "10%",
    "machineId": "",
    "logFormat": "text",
    "dryRun": True,
}
"""Values of which each one changes something."""
_HELMS_OWN = re.compile(r"helm\.sh/.*|app\.kubernetes\.io/(?:instance|managed-by|version)|checksum/config")
_HOOK = "helm.sh/hook"
_HASH = re.compile(r"^(cpuset-reconciler(?:-restore)?)-[a-z0-9]{10}$")

Object = dict[str, Any]


def kustomized(folder: pathlib.Path) -> list[Object]:
    """What `kubectl kustomize` makes of a folder."""
    beside = pathlib.Path(sys.executable).with_name("kubectl")
    kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl: `make chart` installs it")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return objects([done.stdout])


def helm() -> Any:
    """Helm, as the library that the program itself is made of."""
    return pytest.importorskip("helm_python", reason="there is no Helm: `make chart` installs it")


def rendered(values: Mapping[str, Any]) -> list[Object]:
    """What `helm install` makes of the chart with these values. Raises HelmValuesError for bad ones."""
    return [each for each in templated(values) if _HOOK not in each["metadata"].get("annotations", {})]


def hooks(values: Mapping[str, Any], when: str) -> list[Object]:
    """What Helm makes at another time, `pre-delete` for example."""
    made = templated(values)
    return [each for each in made if each["metadata"].get("annotations", {}).get(_HOOK) == when]


def templated(values: Mapping[str, Any]) -> list[Object]:
    """All objects of the chart with these values. Raises HelmValuesError for bad ones."""
    with helm().Chart.load(str(CHART)) as chart:
        files = chart.render(dict(values), name="cpuset-reconciler", namespace=NAMESPACE)
    return objects(text for path, text in files.items() if not path.endswith("NOTES.txt"))


def folder_of(name: str) -> pathlib.Path:
    """The kustomization of one of `NAMES`."""
    return KUSTOMIZE / name if name == "base" else KUSTOMIZE / "overlays" / name


def values_of(name: str) -> dict[str, Any]:
    """The chart's values for one of `NAMES`."""
    its: dict[str, Any] = {}
    if name != "base":
        its = yaml.safe_load((CHART / "overlays" / f"{name}.yaml").read_text())
    return its


def objects(texts: Iterable[str]) -> list[Object]:
    """The objects of YAML documents, those that are empty left out."""
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def alike(made: Iterable[Object]) -> dict[tuple[str, str], Object]:
    """The objects by kind and name, without what tells who made them and what a change of the configuration
    changes: Helm's labels and its checksum, kustomize's hash in a name. The configuration is read, and what
    has no order has that of its names."""
    found = {}
    for each in made:
        its = _settled(json.loads(json.dumps(each)))
        if its["kind"] == "ConfigMap":
            its["data"] = {name: yaml.safe_load(text) for name, text in its["data"].items()}
        found[its["kind"], its["metadata"]["name"]] = its
    return found


def _settled(tree: Any) -> Any:
    match tree:
        case dict():
            its = {key: _settled(value) for key, value in tree.items() if not _HELMS_OWN.fullmatch(key)}
            return {key: _sorted(key, value) for key, value in its.items() if key != "annotations" or value}
        case list():
            return [_settled(value) for value in tree]
        case str():
            return _HASH.sub(r"\1", tree)
        case _:
            return tree


def _sorted(key: str, value: Any) -> Any:
    if key in ("volumes", "volumeMounts"):
        return sorted(value, key=lambda one: str(one["name"]))
    return value


def one(made: Iterable[Object], kind: str) -> Object:
    """The only object of a kind."""
    (found,) = (each for each in made if each["kind"] == kind)
    return found


def pod_of(made: Iterable[Object]) -> Object:
    """The specification of the agent's pods."""
    spec: Object = one(made, "DaemonSet")["spec"]["template"]["spec"]
    return spec


def container_of(made: Iterable[Object]) -> Object:
    """The only container of the agent's pods."""
    (container,) = pod_of(made)["containers"]
    its: Object = container
    return its
