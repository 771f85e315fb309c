"""`check-config`: what the agent would make of a configuration."""

# covers: PRD-9.2

from __future__ import annotations

import json
import pathlib

import pytest

from reconciler.cli import main
from tests.cli import program

DEFAULTS = {
    "minSharedCpus": 1,
    "reservedCpus": "",
    "isolatedCpus": "exclude",
    "integerMemory": "leave",
    "cfsQuota": "keep",
    "isolation": "cpuset",
    "isolationNamespaces": [],
    "attribution": "off",
    "agreement": "auto",
    "hostSlices": [],
    "startupTaint": "",
    "onGuard": "refuse",
    "annotatedNamespaces": ["*"],
    "annotatedOverlap": "refuse",
    "maxExclusiveCpus": {},
    "unmanagedNamespaces": [],
    "optOutNamespaces": [],
    "passIntervalSeconds": 10.0,
    "fights": {"drifts": 2, "withinSeconds": 60.0, "endsAfterSeconds": 60.0, "longestPauseSeconds": 0.8},
    "nri": {"pluginName": "cpuset-reconciler", "pluginIndex": "90"},
    "metrics": {"listen": ""},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", {}, id="an empty file"),
        pytest.param("# nothing yet\n", {}, id="a comment"),
        pytest.param(
            "reservedCpus: 0-1\nonGuard: admit\n", {"reservedCpus": "0-1", "onGuard": "admit"}, id="keys"
        ),
    ],
)
def test_a_good_one_is_printed_with_its_defaults(
    tmp_path: pathlib.Path, text: str, expected: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert main.main(["check-config", str(tmp_path / "config.yaml")]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {**DEFAULTS, **expected}
    assert captured.err == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("minSharedCPUs: 2\n", "minSharedCPUs", id="unknown key"),
        pytest.param("nri: {pluginIndex: 9}\n", "$.nri.pluginIndex", id="wrong type"),
        pytest.param("minSharedCpus: 0\n", "$.minSharedCpus", id="out of range"),
        pytest.param("minSharedCpus: 1\nminSharedCpus: 2\n", "stands twice", id="a key twice"),
        pytest.param("reservedCpus: 3-1\n", "reservedCpus at position", id="not a list of CPUs"),
        pytest.param("- a\n- b\n", "config.yaml", id="a list"),
        pytest.param("{", "config.yaml", id="not YAML"),
        pytest.param("\xff", "not UTF-8", id="not UTF-8"),
        pytest.param(None, "No such file or directory", id="no file"),
    ],
)
def test_a_bad_one_is_refused_with_the_place_of_the_fault(
    tmp_path: pathlib.Path, text: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    assert main.main(["check-config", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert program.is_one_sentence(captured.err), captured.err
    assert str(path) in captured.err
    assert words in captured.err


def test_the_schema_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["check-config", "--schema"]) == 0
    definitions = json.loads(capsys.readouterr().out)["$defs"]
    assert set(definitions["Config"]["properties"]) == set(DEFAULTS)
    assert definitions["Config"]["additionalProperties"] is False
