"""What may stand in the configuration, key by key, and what is said of what may not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from reconciler import errors
from reconciler.config import schema
from tests.pipeline.samples import cpus

# covers: PRD-9.2

Tree = dict[str, object]

ACCEPTED: list[Tree] = [
    {},
    {"minSharedCpus": 1},
    {"minSharedCpus": 8192},
    {"reservedCpus": ""},
    {"reservedCpus": "0-1,8"},
    {"isolatedCpus": "exclude"},
    {"isolatedCpus": "use"},
    {"integerMemory": "leave"},
    {"integerMemory": "pin"},
    {"cfsQuota": "keep"},
    {"cfsQuota": "lift"},
    {"onGuard": "refuse"},
    {"onGuard": "admit"},
    {"passIntervalSeconds": 0.1},
    {"passIntervalSeconds": 5},
    {"passIntervalSeconds": 3600},
    {"fights": {}},
    {"fights": {"drifts": 2}},
    {"fights": {"drifts": 100, "withinSeconds": 1, "endsAfterSeconds": 3600, "longestPauseSeconds": 0.1}},
    {"fights": {"longestPauseSeconds": 60}},
    {"attribution": "off"},
    {"attribution": "fanotify"},
    {"agreement": "auto"},
    {"agreement": "runtime"},
    {"agreement": "off"},
    {"startupTaint": ""},
    {"startupTaint": "weka.io/cpus-not-ready"},
    {"startupTaint": "cpus"},
    {"nri": {}},
    {"nri": {"pluginName": "a"}},
    {"nri": {"pluginName": "A-Z_a.z+0" + "9" * 55}},
    {"nri": {"pluginIndex": "00"}},
    {"nri": {"pluginIndex": "99"}},
    {"metrics": {}},
    {"metrics": {"listen": ""}},
    {"metrics": {"listen": "127.0.0.1:9465"}},
    {"metrics": {"listen": "[::1]:1"}},
    {"metrics": {"listen": "0.0.0.0:65535"}},
]

REFUSED: list[tuple[Tree, str]] = [
    ({"minSharedCpus": 0}, "$.minSharedCpus"),
    ({"minSharedCpus": -1}, "$.minSharedCpus"),
    ({"minSharedCpus": 8193}, "$.minSharedCpus"),
    ({"minSharedCpus": 1.5}, "$.minSharedCpus"),
    ({"minSharedCpus": "2"}, "$.minSharedCpus"),
    ({"minSharedCpus": True}, "$.minSharedCpus"),
    ({"minSharedCpus": None}, "$.minSharedCpus"),
    ({"reservedCpus": 3}, "$.reservedCpus"),
    ({"reservedCpus": [0, 1]}, "$.reservedCpus"),
    ({"startupTaint": "weka.io/"}, "$.startupTaint"),
    ({"startupTaint": "/cpus"}, "$.startupTaint"),
    ({"startupTaint": "a/b/c"}, "$.startupTaint"),
    ({"startupTaint": "Weka.io/x"}, "$.startupTaint"),
    ({"startupTaint": "-cpus"}, "$.startupTaint"),
    ({"startupTaint": "cpus=true:NoSchedule"}, "$.startupTaint"),
    ({"startupTaint": "cpus\n"}, "$.startupTaint"),
    ({"startupTaint": None}, "$.startupTaint"),
    ({"isolatedCpus": "all"}, "$.isolatedCpus"),
    ({"isolatedCpus": ""}, "$.isolatedCpus"),
    ({"integerMemory": "Pin"}, "$.integerMemory"),
    ({"integerMemory": True}, "$.integerMemory"),
    ({"cfsQuota": "max"}, "$.cfsQuota"),
    ({"cfsQuota": None}, "$.cfsQuota"),
    ({"onGuard": "ignore"}, "$.onGuard"),
    ({"passIntervalSeconds": 0}, "$.passIntervalSeconds"),
    ({"passIntervalSeconds": 0.09}, "$.passIntervalSeconds"),
    ({"passIntervalSeconds": 3600.5}, "$.passIntervalSeconds"),
    ({"passIntervalSeconds": -1}, "$.passIntervalSeconds"),
    ({"passIntervalSeconds": "10"}, "$.passIntervalSeconds"),
    ({"fights": None}, "$.fights"),
    ({"fights": {"drifts": 1}}, "$.fights.drifts"),
    ({"fights": {"drifts": 101}}, "$.fights.drifts"),
    ({"fights": {"drifts": 2.5}}, "$.fights.drifts"),
    ({"fights": {"withinSeconds": 0.5}}, "$.fights.withinSeconds"),
    ({"fights": {"endsAfterSeconds": 3601}}, "$.fights.endsAfterSeconds"),
    ({"fights": {"longestPauseSeconds": 0}}, "$.fights.longestPauseSeconds"),
    ({"fights": {"pause": 1}}, "unknown field `pause` - at `$.fights`"),
    ({"nri": None}, "$.nri"),
    ({"nri": []}, "$.nri"),
    ({"nri": {"pluginName": ""}}, "$.nri.pluginName"),
    ({"nri": {"pluginName": "a" * 65}}, "$.nri.pluginName"),
    ({"nri": {"pluginName": "a b"}}, "$.nri.pluginName"),
    ({"nri": {"pluginName": "name\n"}}, "$.nri.pluginName"),
    ({"nri": {"pluginName": "n\u00e4me"}}, "$.nri.pluginName"),
    ({"nri": {"pluginIndex": "9"}}, "$.nri.pluginIndex"),
    ({"nri": {"pluginIndex": "100"}}, "$.nri.pluginIndex"),
    ({"nri": {"pluginIndex": "90\n"}}, "$.nri.pluginIndex"),
    ({"nri": {"pluginIndex": "\u0669\u0660"}}, "$.nri.pluginIndex"),
    ({"nri": {"pluginIndex": 90}}, "$.nri.pluginIndex"),
    ({"metrics": {"listen": "localhost:9465"}}, "$.metrics.listen"),
    ({"metrics": {"listen": "127.0.0.1"}}, "$.metrics.listen"),
    ({"metrics": {"listen": ":9465"}}, "$.metrics.listen"),
    ({"metrics": {"listen": "127.0.0.1:9465\n"}}, "$.metrics.listen"),
    ({"metrics": {"listen": 9465}}, "$.metrics.listen"),
    ({"unknown": 1}, "unknown field `unknown`"),
    ({"min_shared_cpus": 2}, "unknown field `min_shared_cpus`"),
    ({"nri": {"index": "90"}}, "unknown field `index` - at `$.nri`"),
]


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) < 50 else f"{text[:47]}..."


@pytest.mark.parametrize("tree", ACCEPTED, ids=_shown)
def test_values_within_bounds_are_accepted_and_mean_what_they_say(tree: Tree) -> None:
    made = msgspec.to_builtins(schema.convert(tree))
    for key, value in tree.items():
        inner = value if isinstance(value, dict) else {}
        assert made[key] == value or inner.items() <= made[key].items()


@pytest.mark.parametrize(("tree", "where"), REFUSED, ids=_shown)
def test_values_out_of_bounds_are_refused_with_the_path_of_their_key(tree: Tree, where: str) -> None:
    with pytest.raises(errors.Usage) as refused:
        schema.convert(tree)
    assert where in str(refused.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_a_pause_that_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(errors.Usage, match="passIntervalSeconds"):
        schema.convert({"passIntervalSeconds": number})


@pytest.mark.parametrize("tree", [[], "text", 3, True, [{}]], ids=repr)
def test_a_document_that_is_no_mapping_is_refused(tree: object) -> None:
    with pytest.raises(errors.Usage, match="Expected `object`"):
        schema.convert(tree)


def test_keys_that_are_no_text_are_refused() -> None:
    with pytest.raises(errors.Usage):
        schema.convert({1: 2})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0-", "at position 0: '0-' is not a CPU or range"),
        ("1,8192", "at position 2: CPU 8192 is above 8191"),
    ],
)
def test_reserved_cpus_that_are_no_list_are_refused_with_the_place(text: str, why: str) -> None:
    with pytest.raises(errors.Usage) as refused:
        schema.convert({"reservedCpus": text})
    assert str(refused.value) == f"reservedCpus {why}"


def test_an_empty_document_means_the_defaults() -> None:
    assert schema.convert(None) == schema.convert({}) == schema.Config()
    assert schema.Config().reserved() == cpus("")


def test_reserved_cpus_are_a_set() -> None:
    assert schema.convert({"reservedCpus": "0-1, 8"}).reserved() == cpus("0-1,8")


def valid(value: object, its: Mapping[str, object], definitions: Mapping[str, Mapping[str, object]]) -> bool:
    """Whether a JSON Schema takes the value. Raises KeyError for keywords that are not in use here."""
    return all(_CHECKS[word](value, its[word], its, definitions) for word in its if word not in _NOTES)


def _object(
    value: object, properties: Any, _: Mapping[str, object], definitions: Mapping[str, Mapping[str, object]]
) -> bool:
    return not isinstance(value, dict) or all(
        valid(inner, properties[key], definitions) for key, inner in value.items() if key in properties
    )


def _closed(value: object, allowed: object, its: Mapping[str, Any], _: object) -> bool:
    assert allowed is False
    return not isinstance(value, dict) or set(value) <= set(its["properties"])


def _refers(
    value: object, to: str, _: Mapping[str, object], definitions: Mapping[str, Mapping[str, object]]
) -> bool:
    return valid(value, definitions[to.rpartition("/")[2]], definitions)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_Check = Callable[[object, Any, Mapping[str, object], Mapping[str, Mapping[str, object]]], bool]
_TYPES: dict[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: _is_number(value) and isinstance(value, int),
    "number": _is_number,
}
_NOTES = {"title", "description", "default", "$defs", "required"}
_CHECKS: dict[str, _Check] = {
    "type": lambda value, its, *_: _TYPES[its](value),
    "enum": lambda value, its, *_: value in its,
    "minimum": lambda value, its, *_: not _is_number(value) or value >= its,
    "maximum": lambda value, its, *_: not _is_number(value) or value <= its,
    "pattern": lambda value, its, *_: not isinstance(value, str) or re.search(its, value) is not None,
    "properties": _object,
    "additionalProperties": _closed,
    "$ref": _refers,
}


def _schema_takes(tree: object) -> bool:
    its = schema.json_schema()
    definitions = its["$defs"]
    assert isinstance(definitions, dict)
    return valid(tree, its, definitions)


@pytest.mark.parametrize("tree", ACCEPTED, ids=_shown)
def test_the_json_schema_takes_what_is_accepted(tree: Tree) -> None:
    assert _schema_takes(tree)


@pytest.mark.parametrize("tree", [tree for tree, _ in REFUSED], ids=_shown)
def test_the_json_schema_takes_nothing_that_is_refused(tree: Tree) -> None:
    assert not _schema_takes(tree)


def test_the_json_schema_has_every_key_with_its_default() -> None:
    its = schema.json_schema()["$defs"]
    assert isinstance(its, dict)
    made = msgspec.to_builtins(schema.Config())
    assert {
        key: value.get("default") for key, value in its["Config"]["properties"].items() if key != "nri"
    } == {key: value for key, value in made.items() if key != "nri"}
    assert {key: value["default"] for key, value in its["Nri"]["properties"].items()} == made["nri"]


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("127.0.0.256:9465", "'127.0.0.256' does not appear to be an IPv4 or IPv6 address"),
        ("[1:2]:9465", "'1:2' does not appear to be an IPv4 or IPv6 address"),
        ("[127.0.0.1:9465", "matching regex"),
        ("127.0.0.1:0", "a port is 1 to 65535"),
        ("127.0.0.1:65536", "a port is 1 to 65535"),
    ],
)
def test_an_address_that_cannot_be_is_refused_with_its_key(listen: str, why: str) -> None:
    with pytest.raises(errors.Usage, match=re.escape(why)) as raised:
        schema.convert({"metrics": {"listen": listen}})
    assert "metrics.listen" in str(raised.value)


@pytest.mark.parametrize(
    ("listen", "address"),
    [("", None), ("127.0.0.1:9465", ("127.0.0.1", 9465)), ("[::1]:80", ("::1", 80))],
    ids=["nowhere", "IPv4", "IPv6"],
)
def test_an_address_is_a_host_and_a_port(listen: str, address: tuple[str, int] | None) -> None:
    assert schema.convert({"metrics": {"listen": listen}}).metrics.address() == address
