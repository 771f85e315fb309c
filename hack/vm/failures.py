"""The failures of a run in a few lines each, for the end of its output: a long log is cut in front."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from xml.etree import ElementTree as ET

_LINES = 12
"""Of one failure's text; the whole of it is further up and in `pytest.txt`."""


def told(report: pathlib.Path) -> Iterator[str]:
    """Lines on each test of a JUnit report that failed or could not be run; on an unreadable report, one."""
    try:
        cases = list(ET.parse(report).iter("testcase"))  # noqa: S314  our own machine wrote it
    except (OSError, ET.ParseError) as error:
        yield f"no report of the tests: {error}"
        return
    for case in cases:
        for kind in ("failure", "error"):
            for found in case.iter(kind):
                yield f"{kind}: {case.get('classname')}::{case.get('name')}"
                lines = (found.get("message") or found.text or "").splitlines()
                yield from (f"    {line}" for line in lines[:_LINES])
