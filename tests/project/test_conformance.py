"""Everything that comparable agents are tested for is shown by a scenario, or it is said what shows it."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from tests.project import conformance, requirements

ROOT = requirements.ROOT
DOCUMENT = (ROOT / "fixtures" / "conformance.yaml").read_text()
SHOWN = {"all.yaml": set(conformance.parse(DOCUMENT).claims)}


def test_every_claim_is_shown() -> None:
    named = conformance.named_by_scenarios(ROOT)
    assert len(named) > 50
    assert conformance.faults(conformance.parse(DOCUMENT), named, ROOT) == []


def altered(**parts: object) -> conformance.Document:
    """The document with other claims or another table, and by default with nothing shown elsewhere."""
    return conformance.parse(yaml.safe_dump({**yaml.safe_load(DOCUMENT), "elsewhere": {}, **parts}))


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param(SHOWN, [], id="all shown"),
        pytest.param(
            {"all.yaml": SHOWN["all.yaml"] - {"W7"}}, ["W7 is shown by nothing"], id="nothing shows it"
        ),
        pytest.param(
            SHOWN | {"a.yaml": {"W57"}}, ["a.yaml shows W57, which is no claim"], id="there is no such claim"
        ),
    ],
)
def test_a_hole_in_what_scenarios_show_is_found(named: dict[str, set[str]], expected: list[str]) -> None:
    assert conformance.faults(altered(), named, ROOT) == expected


def test_a_claim_without_a_sentence_and_one_too_many_are_found() -> None:
    claims = {**yaml.safe_load(DOCUMENT)["claims"], "W57": "one more"}
    del claims["C9"]
    found = conformance.faults(altered(claims=claims), {"all.yaml": set(claims)}, ROOT)
    assert found == ["C9 has no sentence", "W57 is a claim too many"]


@pytest.mark.parametrize("shown_by", ["tests/a.py::test_b", "tests/a.py::test_c", "tests/d.py::test_b"])
def test_what_is_shown_elsewhere_must_exist(shown_by: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.py").write_text("def test_b() -> None: ...\n")
    document = altered(elsewhere={"T1": {"shown_by": shown_by, "why": "it is said so"}})
    found = conformance.faults(document, {"all.yaml": SHOWN["all.yaml"] - {"T1"}}, tmp_path)
    exists = shown_by == "tests/a.py::test_b"
    assert found == ([] if exists else [f"T1 is shown by {shown_by}, which does not exist"])


def test_what_is_shown_twice_over_is_found() -> None:
    this = "tests/project/test_conformance.py::test_what_is_shown_twice_over_is_found"
    document = altered(elsewhere={"T1": {"shown_by": this, "why": "it is said so"}})
    assert conformance.faults(document, SHOWN, ROOT) == ["T1 is shown by a scenario, and elsewhere too"]
