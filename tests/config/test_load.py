"""Files that cannot be a configuration are refused in one sentence with their name, whatever is in them."""

from __future__ import annotations

import pathlib
import resource
import subprocess
import sys

import pytest

from reconciler import errors
from reconciler.config import load, schema

REFERENCE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"


def refusal(text: str) -> str:
    with pytest.raises(errors.Usage) as refused:
        load.parse(text, what="its.yaml")
    return str(refused.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}\n", "null\n"], ids=repr)
def test_a_file_without_keys_means_the_defaults(text: str) -> None:
    assert load.parse(text, what="its.yaml") == schema.Config()


def test_the_example_of_the_reference_is_accepted() -> None:
    _, _, rest = REFERENCE.read_text().partition("```yaml\n")
    example, _, _ = rest.partition("```")
    assert load.parse(example, what="example") == schema.Config(
        min_shared_cpus=2,
        reserved_cpus="0-1",
        integer_memory="pin",
        annotated_namespaces=("storage", "db-*"),
        max_exclusive_cpus={"storage": 16, "*": 4},
        nri=schema.Nri(plugin_index="80"),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("onguard: admit", "Object contains unknown field `onguard`", id="an unknown key"),
        pytest.param(
            "nri: {name: x}", "Object contains unknown field `name` - at `$.nri`", id="an unknown key within"
        ),
        pytest.param("minSharedCpus: 0", "Expected `int` >= 1 - at `$.minSharedCpus`", id="out of range"),
        pytest.param("reservedCpus: 0", "Expected `str`, got `int` - at `$.reservedCpus`", id="a number"),
        pytest.param("reservedCpus: 2001-01-01", "at `$.reservedCpus`", id="what YAML takes for a date"),
        pytest.param("reservedCpus: 2-x", "reservedCpus at position 0", id="no list"),
        pytest.param("reservedCpus: 2001-99-99", "month must be in 1..12", id="an impossible date"),
        pytest.param("onGuard: admit\nonGuard: admit", "key 'onGuard' stands twice", id="a key twice"),
        pytest.param("annotatedNamespaces: [A]", "matching regex", id="no namespace"),
        pytest.param(
            "annotatedNamespaces: db", "Expected `array`, got `str`", id="a name for a list of names"
        ),
        pytest.param("optOutNamespaces: [-a]", "at `$.optOutNamespaces[0]`", id="no namespace to trust"),
        pytest.param("maxExclusiveCpus: {a: -1}", "Expected `int` >= 0", id="less than none"),
        pytest.param(
            "maxExclusiveCpus: {A: 1}", "at `key` in `$.maxExclusiveCpus`", id="no namespace to limit"
        ),
        pytest.param("annotatedOverlap: 1", "at `$.annotatedOverlap`", id="no choice"),
        pytest.param("nri:\n  pluginIndex: '1'\n  pluginIndex: '2'", "line 3", id="a key twice within"),
        pytest.param("a: [", "line 2", id="an open bracket"),
        pytest.param("\tonGuard: admit", "line 1", id="a tab"),
        pytest.param("a: 1\n---\nb: 2", "expected a single document", id="two documents"),
        pytest.param("- onGuard", "Expected `object`, got `array`", id="a list"),
        pytest.param("admit", "Expected `object`, got `str`", id="a word"),
        pytest.param("? [a]\n: 1", "a key is a list or a mapping", id="a list as a key"),
        pytest.param("1: 2", "Expected `str`", id="a number as a key"),
        pytest.param(
            "!!python/object/apply:os.getcwd []", "could not determine a constructor", id="an object"
        ),
        pytest.param("onGuard: !!python/name:os.getcwd", "could not determine a constructor", id="a name"),
        pytest.param("a: *nowhere", "found undefined alias", id="an alias of nothing"),
        pytest.param("a: &a {<<: *a}", "", id="a merge of itself"),
        pytest.param("&a [*a]", "Expected `object`, got `array`", id="a list in itself"),
        pytest.param("nri: &a {nri: *a}", "unknown field `nri` - at `$.nri`", id="a mapping in itself"),
        pytest.param("onGuard: \x01", "control characters are not allowed", id="a control character"),
        pytest.param("passIntervalSeconds: .nan", "at `$.passIntervalSeconds`", id="no number"),
        pytest.param("minSharedCpus: " + "9" * 5000, "", id="a number without end"),
        pytest.param("minSharedCpus: 1e400", "at `$.minSharedCpus`", id="more than a float holds"),
        pytest.param(
            "minSharedCpus: !!int ''", "no int: it is not written as one", id="a number of no digits"
        ),
        pytest.param("!!map [a: 1]", "this is no mapping", id="a list that is called a mapping"),
        pytest.param("nri: !!map ab", "this is no mapping", id="a text that is called a mapping"),
        pytest.param("a: !!bool x", "no bool: it is not written as one", id="neither true nor false"),
        pytest.param("a: !!timestamp x", "no timestamp: it is not written as one", id="no date"),
        pytest.param("a: 1" + ":0" * 300 + ".5", "a number is too long", id="too long to the base of 60"),
        pytest.param('"a\\nb": 1', "unknown field `a b`", id="a key of two lines"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line_with_the_files_name(text: str, told: str) -> None:
    said = refusal(text)
    assert said.startswith("its.yaml: ")
    assert told in said
    assert "\n" not in said


def test_the_second_of_two_equal_keys_is_pointed_at() -> None:
    assert refusal("onGuard: admit\nnri: {}\nonGuard: admit\n") == (
        "its.yaml: key 'onGuard' stands twice in \"<unicode string>\", line 3, column 1"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"onGuard: \xff\n", "not UTF-8 at byte 9", id="not UTF-8"),
        pytest.param("onGuard: admit".encode("utf-16"), "not UTF-8 at byte 0", id="UTF-16"),
        pytest.param(b"#" * (load.LARGEST_BYTES + 1), "larger than 1048576 bytes", id="too large"),
    ],
)
def test_a_file_that_cannot_be_read_as_text_is_refused(
    tmp_path: pathlib.Path, content: bytes, told: str
) -> None:
    path = tmp_path / "its.yaml"
    path.write_bytes(content)
    with pytest.raises(errors.Usage) as refused:
        load.read(str(path))
    assert str(refused.value) == f"{path}: {told}"


def test_a_file_of_the_largest_size_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "its.yaml"
    path.write_bytes(b"onGuard: admit\n".ljust(load.LARGEST_BYTES, b"#"))
    assert load.read(str(path)) == schema.Config(on_guard="admit")


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_a_path_without_a_file_is_refused_with_the_reason(tmp_path: pathlib.Path, kind: str) -> None:
    path = tmp_path if kind == "directory" else tmp_path / "none.yaml"
    with pytest.raises(errors.Usage) as refused:
        load.read(str(path))
    assert str(refused.value).startswith(f"{path}: ")
    assert "(errno " in str(refused.value)


def _levels(first: str, then: str) -> str:
    """Ten levels of ten aliases each: ten thousand million when they are expanded."""
    lines = [f"a0: &a0 {first}"]
    for level in range(1, 11):
        aliases = ",".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} {then.format(aliases)}")
    return "\n".join(lines)


BOMBS = {
    "lists of aliases": _levels("[x]", "[{}]"),
    "merges of aliases": _levels("{x: 1}", "{{<<: [{}]}}"),
    "keys of aliases": "? " + _levels("[x]", "[{}]").replace("\n", "\n? "),
    "brackets": "[" * (1 << 19),
    "braces": "{a: " * (1 << 17),
    "dashes": "- " * (1 << 18) + "x",
    "questions": "? " * (1 << 18) + "x",
}

_PARSE = """
import sys
from reconciler import errors
from reconciler.config import load
try:
    load.parse(sys.stdin.read(), what="bomb")
except errors.Usage as error:
    print(len(str(error)))
"""


def _limit() -> None:
    """Half a GiB of memory and ten seconds of CPU: many times what a mebibyte of text needs."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))


@pytest.mark.parametrize("name", BOMBS)
def test_no_text_explodes(name: str) -> None:
    """In a process of its own with bounded memory and time, which a bomb would take down."""
    done = subprocess.run(
        [sys.executable, "-c", _PARSE],
        input=BOMBS[name],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_limit,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < 500


def test_a_number_without_end_costs_no_more_than_its_bytes() -> None:
    # PyYAML reads it to the base of 60 in quadratic time: 46 s for the largest file there may be.
    assert "a number is too long" in refusal("minSharedCpus: 1" + ":1" * 500_000)
