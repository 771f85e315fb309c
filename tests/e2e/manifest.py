"""The manifest of a DaemonSet as kustomize would render it, less the names that it makes: I/O of files.

Only what such a base uses: resources, files of generated ConfigMaps, and patches that merge. Where `kubectl`
is at hand `tests/deploy/test_image.py` compares the two.
"""

from __future__ import annotations

import copy
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

_KEYS = {"containers": "name", "volumes": "name", "volumeMounts": "mountPath", "env": "name"}
"""By which field the lists of a pod's manifest merge (kubernetes/api, core/v1, patchMergeKey)."""
_FIELDS = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "configMapGenerator",
    "images",
    "patches",
    "components",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A pod's specification and annotations, and the files of the ConfigMaps by their names."""

    spec: Mapping[str, Any]
    annotations: Mapping[str, str]
    configs: Mapping[str, Mapping[str, str]]

    @property
    def container(self) -> Mapping[str, Any]:
        """The only container."""
        (its,) = self.spec["containers"]
        return dict(its)

    def initial(self) -> Manifest:
        """The same with its only init container in place of the other."""
        return dataclasses.replace(self, spec={**self.spec, "containers": self.spec["initContainers"]})


def read(folder: pathlib.Path) -> Manifest:
    """The DaemonSet of a base or an overlay. Raises AssertionError for what is not understood here."""
    objects, configs = _render(folder)
    (daemonset,) = (its for its in objects if its["kind"] == "DaemonSet")
    template = daemonset["spec"]["template"]
    annotations = template["metadata"].get("annotations", {})
    return Manifest(spec=template["spec"], annotations=annotations, configs=configs)


def _render(folder: pathlib.Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    recipe = _load(folder / "kustomization.yaml")
    assert recipe.keys() <= _FIELDS, f"{folder}: {recipe.keys() - _FIELDS} is not understood"
    objects: list[dict[str, Any]] = []
    configs: dict[str, dict[str, str]] = {}
    for name in recipe.get("resources", []):
        if (folder / name).is_dir():
            below, its = _render(folder / name)
            objects += below
            configs |= its
        else:
            objects.append(_load(folder / name))
    for generator in recipe.get("configMapGenerator", []):
        files = {name: (folder / name).read_text() for name in generator["files"]}
        configs[generator["name"]] = {**configs.get(generator["name"], {}), **files}
    for patch in recipe.get("patches", []):
        change = _load(folder / patch["path"])
        objects = [merged(its, change) if _same(its, change) else its for its in objects]
    return objects, configs


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A strategic merge: maps by key, the lists of `_KEYS` by their field, all else replaced."""
    result = copy.deepcopy(dict(base))
    for key, value in change.items():
        if isinstance(value, dict):
            result[key] = merged(result.get(key) or {}, value)
        elif key in _KEYS:
            result[key] = _merged_list(result.get(key) or [], value, _KEYS[key])
        else:
            result[key] = value
    return result


def _merged_list(base: list[Any], change: list[Any], key: str) -> list[Any]:
    items = {item[key]: item for item in base}
    for item in change:
        if item.get("$patch") == "delete":
            items.pop(item[key], None)
        else:
            items[item[key]] = merged(items.get(item[key], {}), item)
    return list(items.values())


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one["kind"], one["metadata"]["name"]) == (other["kind"], other["metadata"]["name"])


def _load(path: pathlib.Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    return loaded
