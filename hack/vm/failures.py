"""The failures of a run in a few lines each, for the end of its output: a long log is cut in front."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from xml.etree import ElementTree as ET

_LINES = 12
"""Of one failure's text, and one more; the whole of it is further up and in `pytest.txt`."""


def told(report: pathlib.Path) -> Iterator[str]:
    """Lines on each test of a JUnit report that failed or could not be run; on an unreadable report, one."""
    try:
        for name, found in _failures(report):
            yield f"{found.tag}: {name}"
            yield from (f"    {line}" for line in _said(found))
    except (OSError, ET.ParseError) as error:
        yield f"no report of the tests: {error}"


def names(report: pathlib.Path) -> list[str]:
    """The tests that failed or could not be run; none by an unreadable report."""
    try:
        return [name for name, _ in _failures(report)]
    except (OSError, ET.ParseError):
        return []


def _failures(report: pathlib.Path) -> Iterator[tuple[str, ET.Element]]:
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  our own machine wrote it
        for kind in ("failure", "error"):
            for found in case.iter(kind):
                yield f"{case.get('classname')}::{case.get('name')}", found


def _said(found: ET.Element) -> list[str]:
    """What was not so: the first line of it, and the last ones. pytest begins each of its lines with an E;
    its own short message breaks off early."""
    lines = (found.text or "").splitlines()
    lines = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    lines = lines or (found.get("message") or found.text or "").splitlines()
    return [*lines[:1], *lines[1:][-_LINES:]]
