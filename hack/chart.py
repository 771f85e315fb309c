"""Writes what the chart says more than once: its values' defaults, schema and reference, and the version.

The values are stated in `hack/chart_values.py`, and those below `config` in the configuration's own schema.
`--check` says which files are not current.
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
from typing import Any

import msgspec

import reconciler
from hack import chart_values
from reconciler.config import schema

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHART = pathlib.Path("deploy/helm/cpuset-reconciler")
TAGGED = [pathlib.Path("deploy/kustomize", name, "kustomization.yaml") for name in ("base", "restore")]
REFERENCE = pathlib.Path("docs/reference/helm-values.md")

_LOOKAHEAD = re.compile(r"\^\(\?!([^()]*)\)")
_TABLE = re.compile(r"(?s)(?<=\| value \| default \| meaning \|\n\|---\|---\|---\|\n).*?(?=\n\n)")


def files() -> dict[pathlib.Path, str]:
    """The text of every file that is written here, by its path in the project."""
    tree = json_schema()
    return {
        CHART / "values.yaml": values(tree),
        CHART / "values.schema.json": json.dumps(tree, indent=2) + "\n",
        CHART / "Chart.yaml": _versioned(CHART / "Chart.yaml", r"(?m)^((?:appV|v)ersion: ).*$"),
        **{path: _versioned(path, r"(?m)^(    newTag: ).*$") for path in TAGGED},
        REFERENCE: reference(tree),
    }


def json_schema() -> dict[str, Any]:
    """The schema of the values, of draft 7 and with expressions of RE2, as all Helm 3 and 4 understand it."""
    (_, config), definitions = msgspec.json.schema_components(
        (chart_values.Values, schema.Config), ref_template="#/definitions/{name}"
    )
    values_tree = definitions.pop("Values")
    described = values_tree["properties"]["config"]
    values_tree["properties"]["config"] = {**config, "description": described["description"]}
    values_tree["properties"]["global"] = {"type": "object"}  # what Helm gives to every chart below another
    for definition in (values_tree, *definitions.values()):
        definition.pop("description", None)  # of the class, and not of what an operator sets
    tree = {"$schema": "http://json-schema.org/draft-07/schema#", **values_tree, "definitions": definitions}
    plain: dict[str, Any] = _without_lookaheads(tree)
    return plain


def _without_lookaheads(tree: Any) -> Any:
    """The same schema without what RE2 lacks: a negative lookahead at the beginning becomes a `not`. One for
    the newline that Python lets pass after `$` is not needed."""
    match tree:
        case {"pattern": str(pattern), **others}:
            unlike = _LOOKAHEAD.match(pattern)
            refused = {"not": {"pattern": f"^({unlike[1]})"}} if unlike else {}
            plain = _LOOKAHEAD.sub("^", pattern).removesuffix(r"(?!\n)")
            return {**others, "pattern": plain, **refused}
        case dict():
            return {key: _without_lookaheads(value) for key, value in tree.items()}
        case list() | tuple():
            return [_without_lookaheads(value) for value in tree]
        case _:
            return tree


def values(tree: dict[str, Any]) -> str:
    """The text of values.yaml."""
    lines = ["# Written by hack/chart.py. docs/reference/helm-values.md is the reference.", ""]
    defaults = msgspec.to_builtins(chart_values.Values())
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
    defaults = msgspec.to_builtins(chart_values.Values())
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
