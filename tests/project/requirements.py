"""Reads which requirements there are, and what names them. I/O: reads the documents and tests of the project.

A requirement is a row `| PRD-1.1 | sentence | now | where |` of docs/prd.md.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\| (PRD-\d+\.\d+) \| (.+?) \| ([^|]+?) \| ?(.*?) ?\|$")
_MARK = re.compile(r"^ *# covers: (PRD-.+)$", re.MULTILINE)
_NAMED_FILE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One row. `tests` stand in its last column, as PATH or PATH::TEST; they show what no scenario does."""

    number: str
    sentence: str
    status: str
    tests: tuple[str, ...]


def parse(text: str) -> list[Requirement]:
    """The requirements of a document, in its order. Raises ValueError for a row that has not four cells."""
    found = []
    for line in text.splitlines():
        if not line.startswith("| PRD-"):
            continue
        row = _ROW.match(line)
        if row is None:
            raise ValueError(f"not a requirement: {line}")
        number, sentence, status, where = row.groups()
        found.append(
            Requirement(
                number=number,
                sentence=sentence,
                status=status,
                tests=tuple(_NAMED_FILE.findall(where)),
            )
        )
    return found


def named_by_scenarios(root: pathlib.Path) -> dict[str, set[str]]:
    """The numbers that each scenario below `root` covers, by the scenario's path."""
    folder = root / "fixtures" / "scenarios"
    return {
        str(path.relative_to(root)): set(yaml.safe_load(path.read_text())["covers"])
        for path in sorted(folder.glob("*.yaml"))
    }


def named_by_tests(root: pathlib.Path) -> dict[str, set[str]]:
    """The numbers in `# covers:` comments of test modules below `root`, by the module's path."""
    found = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        if marks := marks_of(path.read_text()):
            found[str(path.relative_to(root))] = marks
    return found


def marks_of(text: str) -> set[str]:
    """The numbers in the `# covers:` comments of one module."""
    return {number.strip() for line in _MARK.findall(text) for number in line.split(",")}


def faults(requirements: list[Requirement], named: Mapping[str, Set[str]], root: pathlib.Path) -> list[str]:
    """One sentence for everything that is not shown, shown too early, or not there."""
    numbers = [requirement.number for requirement in requirements]
    found = [f"{number} stands twice" for number in sorted(set(numbers)) if numbers.count(number) > 1]
    by_number: dict[str, list[str]] = {}
    for where, covered in named.items():
        for number in sorted(covered):
            by_number.setdefault(number, []).append(where)
            if number not in numbers:
                found.append(f"{where} covers {number}, which is no requirement")
    for requirement in requirements:
        found += _faults_of(requirement, by_number.get(requirement.number, []), root)
    return found


def _faults_of(requirement: Requirement, covering: list[str], root: pathlib.Path) -> list[str]:
    number = requirement.number
    if requirement.status.startswith("planned: "):
        return [f"{where} covers {number}, which is planned" for where in covering]
    if requirement.status != "now":
        return [f"{number} has the status {requirement.status!r}, which is neither now nor planned: ..."]
    missing = [name for name in requirement.tests if not _exists(name, root)]
    if missing:
        return [f"{number} is shown by {name}, which does not exist" for name in missing]
    if not covering and not requirement.tests:
        return [f"{number} is shown by nothing: {requirement.sentence}"]
    return []


def _exists(name: str, root: pathlib.Path) -> bool:
    path, _, test = name.partition("::")
    file = root / path
    return file.is_file() and (test == "" or f"def {test}(" in file.read_text())
