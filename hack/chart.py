"""Writes what the chart says more than once: its values' defaults, schema and reference, and the version.

The values are stated here, and those below `config` in the configuration's own schema. `--check` says which
files are not current.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

import reconciler
from reconciler.config import schema
from reconciler.daemon import options

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHART = pathlib.Path("deploy/helm/cpuset-reconciler")
BASE = pathlib.Path("deploy/kustomize/base/kustomization.yaml")
REFERENCE = pathlib.Path("docs/reference/helm-values.md")

_PATH = r"^/[^\x00-\x1f ]*$"
Path = Annotated[str, msgspec.Meta(pattern=_PATH)]
Labels = dict[str, str]
_RESOURCES = {"requests": {"cpu": "100m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}
_TABLE = re.compile(r"(?s)(?<=\| value \| default \| meaning \|\n\|---\|---\|---\|\n).*?(?=\n\n)")


def says(text: str) -> msgspec.Meta:
    """What a value means."""
    return msgspec.Meta(description=text)


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A table of values."""


class Image(Struct, frozen=True):
    """Where the image is."""

    repository: Annotated[str, says("registry and name of the image; there is no public one")] = (
        "cpuset-reconciler"
    )
    tag: Annotated[str, says("its tag; empty: the version of the chart")] = ""
    digest: Annotated[
        str, msgspec.Meta(pattern=r"^(|sha256:[0-9a-f]{64})$"), says("its digest, which then counts alone")
    ] = ""
    pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"], says("when the node asks the registry")
    ] = "IfNotPresent"


class Probe(Struct, frozen=True):
    """One probe."""

    enabled: Annotated[
        bool,
        says(
            "whether an agent that has not answered for ten minutes is started again; switch it off where "
            "another instance may serve the host, for this one waits for it in silence"
        ),
    ] = True


class Budget(Struct, frozen=True):
    """The disruption budget."""

    enabled: Annotated[
        bool,
        says(
            "whether a PodDisruptionBudget refuses evictions of the agent; alerts on budgets that are not "
            "met then fire"
        ),
    ] = False


class Admission(Struct, frozen=True):
    """The admission policy."""

    enabled: Annotated[
        bool,
        says(
            "whether the API server refuses bad annotations: Kubernetes 1.30 or newer; one release a cluster"
        ),
    ] = False


class Values(Struct, frozen=True):
    """All values of the chart, but what is below `config`."""

    image: Image = Image()
    image_pull_secrets: Annotated[
        list[dict[str, str]], says("names of secrets with which the image is pulled: `[{name: …}]`")
    ] = []
    config: Annotated[dict[str, Any], says("the configuration of the agent; empty: all defaults")] = {}
    source: Annotated[
        options.Source, says("door to the runtime; a socket that is not needed is not mounted")
    ] = "auto"
    nri_socket: Annotated[Path, says("the runtime's socket for NRI; its directory is mounted")] = (
        options.NRI_SOCKET
    )
    cri_socket: Annotated[Path, says("the runtime's socket for CRI; its directory is mounted")] = (
        options.CRI_SOCKET
    )
    log_format: Annotated[Literal["json", "text"], says("how the log is written")] = "json"
    dry_run: Annotated[bool, says("plan, log the plan, and write nothing")] = False
    state_dir: Annotated[
        Path, says("directory of the host for claims, drifts and the lock; shared by all instances of a host")
    ] = options.STATE_DIR
    kubelet_dir: Annotated[Path, says("kubelet's root directory")] = "/var/lib/kubelet"
    machine_id: Annotated[
        str,
        msgspec.Meta(pattern=rf"^$|{_PATH}"),
        says("file of the host with its machine-id; empty where it has none"),
    ] = "/etc/machine-id"
    resources: Annotated[
        dict[str, Any], says("requests and limits; a CPU limit would throttle the answers to the runtime")
    ] = msgspec.field(default_factory=lambda: {**_RESOURCES})
    priority_class_name: Annotated[str, says("priority class of the pods; empty: none")] = (
        "system-node-critical"
    )
    node_selector: Annotated[Labels, says("labels of the nodes that get an agent")] = msgspec.field(
        default_factory=lambda: {"kubernetes.io/os": "linux"}
    )
    affinity: Annotated[dict[str, Any], says("affinity of the pods")] = {}
    tolerations: Annotated[list[dict[str, Any]], says("taints that keep no agent away: all")] = msgspec.field(
        default_factory=lambda: [{"operator": "Exists"}]
    )
    max_unavailable: Annotated[
        int | Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,3}%$")],
        says("nodes that an update takes at a time, as a number or a percentage"),
    ] = 1
    host_network: Annotated[
        bool, says("the host's network: the agent then starts before the network plugin does")
    ] = False
    se_linux_options: Annotated[
        Labels, says("where SELinux is enforced: `{type: spc_t}`, for containers may not write cgroups there")
    ] = msgspec.field(name="seLinuxOptions", default_factory=dict)
    pod_labels: Annotated[Labels, says("further labels of the pods")] = {}
    pod_annotations: Annotated[Labels, says("further annotations of the pods")] = {}
    liveness_probe: Probe = Probe()
    pod_disruption_budget: Budget = Budget()
    admission: Admission = Admission()


def files() -> dict[pathlib.Path, str]:
    """The text of every file that is written here, by its path in the project."""
    tree = json_schema()
    return {
        CHART / "values.yaml": values(tree),
        CHART / "values.schema.json": json.dumps(tree, indent=2) + "\n",
        CHART / "Chart.yaml": _versioned(CHART / "Chart.yaml", r"(?m)^((?:appV|v)ersion: ).*$"),
        BASE: _versioned(BASE, r"(?m)^(    newTag: ).*$"),
        REFERENCE: reference(tree),
    }


def json_schema() -> dict[str, Any]:
    """The schema of the values, of draft 7 and with expressions of RE2, as all Helm 3 and 4 understand it."""
    (_, config), definitions = msgspec.json.schema_components(
        (Values, schema.Config), ref_template="#/definitions/{name}"
    )
    values_tree = definitions.pop("Values")
    described = values_tree["properties"]["config"]
    values_tree["properties"]["config"] = {**config, "description": described["description"]}
    values_tree["properties"]["global"] = {"type": "object"}  # what Helm gives to every chart below another
    tree = {"$schema": "http://json-schema.org/draft-07/schema#", **values_tree, "definitions": definitions}
    plain: dict[str, Any] = json.loads(json.dumps(tree).replace("(?!\\\\n)", ""))
    return plain


def values(tree: dict[str, Any]) -> str:
    """The text of values.yaml."""
    lines = ["# Written by hack/chart.py. docs/reference/helm-values.md is the reference.", ""]
    defaults = msgspec.to_builtins(Values())
    for name, its in tree["properties"].items():
        if name not in defaults:
            continue
        rows = list(_rows(name, its, defaults[name], tree))
        if len(rows) == 1 and rows[0][0] == name:
            lines += [*_comment(rows[0][2], 0), f"{name}: {_text(defaults[name])}"]
            continue
        lines.append(f"{name}:")
        for path, default, text, _ in rows:
            lines += [*_comment(text, 2), f"  {path.removeprefix(name + '.')}: {_text(default)}"]
    return "\n".join(lines) + "\n"


def reference(tree: dict[str, Any]) -> str:
    """The text of the reference: what it is, with the table of the values written anew."""
    defaults = msgspec.to_builtins(Values())
    lines = [
        f"| `{path}` | `{_text(default)}` | {text}{choices} |"
        for name, its in tree["properties"].items()
        if name in defaults
        for path, default, text, choices in _rows(name, its, defaults[name], tree)
    ]
    return _TABLE.sub(lambda _: "\n".join(lines), (ROOT / REFERENCE).read_text(), count=1)


def _rows(
    name: str, its: dict[str, Any], default: Any, tree: dict[str, Any]
) -> Iterator[tuple[str, Any, str, str]]:
    """Path, default, meaning and choices of a value, or of each in a table of values."""
    if "$ref" in its and name != "config":
        table = tree["definitions"][its["$ref"].rpartition("/")[2]]
        for inner, of_inner in table["properties"].items():
            yield from _rows(f"{name}.{inner}", of_inner, default[inner], tree)
        return
    choices = "".join(f", `{choice}`" for choice in its.get("enum", ()))
    yield name, default, its["description"], f": {choices[2:]}" if choices else ""


def _text(value: Any) -> str:
    """A value in YAML, on one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(_text(inner) for inner in value) + "]"
        case str() if re.fullmatch(r"[A-Za-z/][A-Za-z0-9/._-]*|[0-9]+[a-zA-Z]+", value):
            return value
        case _:
            return json.dumps(value)


def _comment(text: str, indent: int) -> list[str]:
    prefix = " " * indent + "# "
    return textwrap.wrap(
        text[0].upper() + text[1:] + ".", 110, initial_indent=prefix, subsequent_indent=prefix
    )


def _versioned(path: pathlib.Path, line: str) -> str:
    return re.sub(line, rf"\g<1>{reconciler.__version__}", (ROOT / path).read_text())


def main() -> None:
    """Write the files, or compare them with what would be written."""
    parser = argparse.ArgumentParser(prog="hack/chart.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not current")
    parser.add_argument("--package", metavar="DIR", help="write the chart's archive into this folder instead")
    given = parser.parse_args()
    if given.package is not None:
        print(package(pathlib.Path(given.package)))
        return
    check = given.check
    fresh = files()
    stale = [path for path, text in fresh.items() if not _equal(ROOT / path, text)]
    for path in stale:
        if check:
            print(f"{path}: not what hack/chart.py gives; run it", file=sys.stderr)
        else:
            (ROOT / path).write_text(fresh[path])
    print(f"the chart: {len(stale)} files {'not current' if check else 'written'}")
    sys.exit(1 if check and stale else 0)


def package(folder: pathlib.Path) -> str:
    """Write the archive of the chart into `folder`; its path. Needs Helm's library, of the lock chart.txt."""
    helm = importlib.import_module("helm_python")
    folder.mkdir(parents=True, exist_ok=True)
    path: str = helm.package(str(ROOT / CHART), destination=str(folder))
    return path


def _equal(path: pathlib.Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    main()
