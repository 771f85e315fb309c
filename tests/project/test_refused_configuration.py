"""A configuration that cannot be used is refused with its place, and a command with it ends with code 2."""

from __future__ import annotations

import pathlib

import pytest

from reconciler import errors
from reconciler.cli import main
from reconciler.config import load, schema

# covers: PRD-9.2

BAD = [
    pytest.param("minSharedCpu: 2", "unknown field `minSharedCpu`", id="unknown key"),
    pytest.param(
        "nri: {pluginIndx: '10'}", "unknown field `pluginIndx` - at `$.nri`", id="unknown key below"
    ),
    pytest.param("minSharedCpus: two", "at `$.minSharedCpus`", id="type"),
    pytest.param("minSharedCpus: 0", "at `$.minSharedCpus`", id="range"),
    pytest.param("nri: {pluginIndex: '200'}", "at `$.nri.pluginIndex`", id="index"),
    pytest.param("isolatedCpus: maybe", "at `$.isolatedCpus`", id="choice"),
    pytest.param("reservedCpus: 3-1", "reservedCpus at position 0", id="list"),
    pytest.param("onGuard: admit\nonGuard: refuse", "'onGuard' stands twice", id="twice"),
    pytest.param("[1, 2]", "Expected `object`", id="no mapping"),
    pytest.param("a: [", "while parsing", id="no YAML"),
    pytest.param("!!python/object:os.system {}", "could not determine a constructor", id="tag"),
]


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_a_bad_configuration_is_refused_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(errors.Usage) as raised:
        load.parse(text, what="config.yaml")
    assert str(raised.value).startswith("config.yaml: ")
    assert expected in str(raised.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"], ids=["empty", "comment", "mapping"])
def test_an_empty_configuration_is_all_defaults(text: str) -> None:
    assert load.parse(text, what="config.yaml") == schema.Config()


def test_a_bad_configuration_ends_a_command_with_code_2_and_one_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("minSharedCpus: 0\n")
    assert main.main(["check-config", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"cpuset-reconciler: {file}: ")
    assert said.err.count("\n") == 1
