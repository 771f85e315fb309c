"""The documents lead somewhere, the checks that say so can fail, and the sources keep to the house rules."""

from __future__ import annotations

import ast
import pathlib
import subprocess

import pytest

from hack import links, protos

ROOT = links.ROOT
MODULES = sorted(path for path in (ROOT / "reconciler").rglob("*.py") if not path.stem.endswith("_pb2"))


def test_every_relative_link_leads_somewhere() -> None:
    assert [line for page in links.documents(ROOT) for line in links.broken_links(page, ROOT)] == []


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        pytest.param("[a](other.md)", [], id="file"),
        pytest.param("[a](other.md#a-heading)", [], id="heading of a file"),
        pytest.param("# Here\n[a](#here)", [], id="heading of this file"),
        pytest.param("[a](https://example.com/x)", [], id="address"),
        pytest.param("```\n[a](none.md)\n```", [], id="in a listing"),
        pytest.param("[a](none.md)", ["README.md: none.md"], id="no file"),
        pytest.param("[a](other.md#none)", ["README.md: other.md#none"], id="no heading"),
        pytest.param("![a](none.svg)", ["README.md: none.svg"], id="no picture"),
    ],
)
def test_a_broken_link_is_found(text: str, broken: list[str], tmp_path: pathlib.Path) -> None:
    (tmp_path / "other.md").write_text("# A heading\n")
    page = tmp_path / "README.md"
    page.write_text(text)
    assert links.broken_links(page, tmp_path) == broken


def test_a_generated_module_that_is_not_current_is_found(tmp_path: pathlib.Path) -> None:
    name = pathlib.Path("reconciler/runtime/nri/nri_pb2.py")
    fresh = tmp_path / name
    fresh.parent.mkdir(parents=True)
    fresh.write_bytes((ROOT / name).read_bytes())
    assert protos.differing([name], tmp_path) == []
    fresh.write_bytes(b"# something else\n")
    assert protos.differing([name], tmp_path) == [name]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_and_stays_under_300_lines(path: pathlib.Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)) is not None
    assert len(text.splitlines()) < 300


def test_every_target_of_the_makefile_is_listed() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert {line.split()[1] for line in listed.splitlines()} == set(phony.split()[1:])
