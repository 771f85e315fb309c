"""Every requirement that holds now is shown by something, and what claims to show one names a real one."""

from __future__ import annotations

import pathlib

import pytest

from tests.project import requirements

ROOT = requirements.ROOT
PRD = """
| number | requirement | status | shown by |
|---|---|---|---|
| PRD-1.1 | It places. | now | |
| PRD-1.2 | It frames. | now | `tests/test_frames.py::test_frames` |
| PRD-1.3 | It flies. | planned: wings | |
"""


def test_every_requirement_is_shown() -> None:
    stated = requirements.parse((ROOT / "docs" / "prd.md").read_text())
    named = requirements.named_by_scenarios(ROOT) | requirements.named_by_tests(ROOT)
    assert len(stated) > 50
    assert requirements.faults(stated, named, ROOT) == []


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        pytest.param({"a.yaml": {"PRD-1.1"}}, [], id="all shown"),
        pytest.param({}, ["PRD-1.1 is shown by nothing: It places."], id="nothing shows it"),
        pytest.param(
            {"a.yaml": {"PRD-1.1", "PRD-9.9"}},
            ["a.yaml covers PRD-9.9, which is no requirement"],
            id="no such requirement",
        ),
        pytest.param(
            {"a.yaml": {"PRD-1.1", "PRD-1.3"}},
            ["a.yaml covers PRD-1.3, which is planned"],
            id="covered too early",
        ),
    ],
)
def test_a_hole_in_what_is_shown_is_found(
    named: dict[str, set[str]], expected: list[str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_frames.py").write_text("def test_frames() -> None: ...\n")
    assert requirements.faults(requirements.parse(PRD), named, tmp_path) == expected


@pytest.mark.parametrize("text", [None, "def test_something_else() -> None: ...\n"], ids=["file", "test"])
def test_a_named_test_that_does_not_exist_is_found(text: str | None, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tests").mkdir()
    if text is not None:
        (tmp_path / "tests" / "test_frames.py").write_text(text)
    found = requirements.faults(requirements.parse(PRD), {"a.yaml": {"PRD-1.1"}}, tmp_path)
    assert found == ["PRD-1.2 is shown by tests/test_frames.py::test_frames, which does not exist"]


@pytest.mark.parametrize("row", ["| PRD-1.1 | It places. | now |", "| PRD-1.1 It places. | now | |"])
def test_a_row_without_four_cells_is_no_requirement(row: str) -> None:
    with pytest.raises(ValueError, match="not a requirement"):
        requirements.parse(row)


def test_a_number_that_stands_twice_and_an_unknown_status_are_found(tmp_path: pathlib.Path) -> None:
    rows = "| PRD-1.1 | It places. | now | |\n| PRD-1.1 | It places again. | soon | |"
    assert requirements.faults(requirements.parse(rows), {"a.yaml": {"PRD-1.1"}}, tmp_path) == [
        "PRD-1.1 stands twice",
        "PRD-1.1 has the status 'soon', which is neither now nor planned: ...",
    ]


def test_marks_and_scenarios_are_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "tests").mkdir()
    mark = "# " + "covers: "
    (tmp_path / "tests" / "test_frames.py").write_text(f"{mark}PRD-8.3, PRD-8.4\n\n    {mark}PRD-9.1\n")
    (tmp_path / "fixtures" / "scenarios").mkdir(parents=True)
    (tmp_path / "fixtures" / "scenarios" / "one.yaml").write_text("name: one\ncovers: [PRD-1.1]\n")
    assert requirements.named_by_tests(tmp_path) == {
        "tests/test_frames.py": {"PRD-8.3", "PRD-8.4", "PRD-9.1"}
    }
    assert requirements.named_by_scenarios(tmp_path) == {"fixtures/scenarios/one.yaml": {"PRD-1.1"}}
