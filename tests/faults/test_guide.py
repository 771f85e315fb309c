"""The troubleshooting guide quotes what the program says, word for word."""

# covers: PRD-11.8

from __future__ import annotations

import ast
import os
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/how-to/troubleshoot.md").read_text()
REFERENCE = (ROOT / "docs/reference/log.md").read_text()
OTHERS = (
    "socket.accept() out of system resource",  # asyncio/selector_events.py
    "can't start new thread",  # Modules/_threadmodule.c
    "is already in use",  # asyncio/unix_events.py
    "database or disk is full",  # SQLite's src/main.c
    "database is locked",
)
"""What libraries say."""


def literals() -> Iterator[str]:
    """Every text in the program's source, those between the values of an f-string each by itself."""
    for path in (ROOT / "reconciler").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


LITERALS = frozenset(literals())
ERRORS = frozenset(os.strerror(number) for number in range(1, 134))
EVENTS = frozenset(re.findall(r"^\| `([a-z]+\.[a-z-]+)`", REFERENCE, re.MULTILINE))


def events(text: str) -> list[str]:
    """What is quoted and looks like an event of the log."""
    kinds = {event.partition(".")[0] for event in EVENTS}
    quoted = re.findall(r"`([a-z]+\.[a-z-]+)`", text)
    return [name for name in quoted if name.partition(".")[0] in kinds]


def sentences(text: str) -> list[str]:
    """The pieces of what is quoted as said by the program: in bold, or first in a row of a table."""
    cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE) + re.findall(r"\*\*(.*?)\*\*", text, re.DOTALL)
    quoted = [quote for cell in cells for quote in re.findall(r"`([^`]* [^`]*)`", cell)]
    whole = (" ".join(re.sub(r" \(errno \d+\)", "", quote).split()) for quote in quoted)
    pieces = (piece.strip(" :;,") for quote in whole for piece in quote.split("…"))
    return [part for piece in pieces for part in re.split(r": |; (?=raise)", piece) if len(part) > 3]


def is_said(sentence: str) -> bool:
    """Whether the program can say it."""
    return sentence in (*ERRORS, *OTHERS) or any(sentence in literal for literal in LITERALS)


@pytest.mark.parametrize("event", sorted(set(events(GUIDE))))
def test_an_event_of_the_guide_is_one_of_the_log(event: str) -> None:
    assert event in EVENTS
    assert event in LITERALS


@pytest.mark.parametrize("sentence", sorted(set(sentences(GUIDE))))
def test_a_sentence_of_the_guide_is_one_of_the_program(sentence: str) -> None:
    assert is_said(sentence)


def test_what_is_not_said_is_found() -> None:
    text = "**`all is well … with this`** (`drift.imagined`)\n| `too many cooks (errno 24)` | x |\n"
    assert events(text) == ["drift.imagined"]
    assert "drift.imagined" not in EVENTS
    assert sentences(text) == ["too many cooks", "all is well", "with this"]
    assert not any(is_said(sentence) for sentence in ("too many cooks", "all is well"))


def test_the_guide_has_each_fault_that_is_promised() -> None:
    for number in (
        "No space left",
        "Read-only file system",
        "errno 13",
        "errno 24",
        "errno 30",
        "max_user_w",
    ):
        assert number in GUIDE
    assert len(set(events(GUIDE))) > 20
