"""Makes docs/changelog.md of the fragments in docs/changelog.d. I/O: files of the repository.

Usage: python -m hack.changelog [--draft] [--date YYYY-MM-DD]

The fragments' sentences go under the program's version, by kind, and the fragments are deleted. With --draft
that part is printed, and nothing is changed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
import re
import sys
import textwrap

from hack import artifacts

ROOT = pathlib.Path(__file__).resolve().parents[1]
KINDS = ("added", "changed", "fixed", "removed")
"""In the order in which they are listed."""
HEAD = """\
# Changelog

What a user can notice, by version. What has come since is in [changelog.d](changelog.d/README.md).
"""
_WIDTH = 128
_NAME = re.compile(rf"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)\.(?P<kind>{'|'.join(KINDS)})\.md")


class ChangelogError(Exception):
    """There is nothing to make, or it would be wrong; one sentence says why."""


def main(arguments: list[str] | None = None) -> None:
    """Make it, or print it."""
    parser = argparse.ArgumentParser(description="make docs/changelog.md of docs/changelog.d")
    parser.add_argument("--draft", action="store_true", help="print the new part and change nothing")
    parser.add_argument("--date", type=dt.date.fromisoformat, default=dt.datetime.now(dt.UTC).date())
    given = parser.parse_args(arguments)
    try:
        if given.draft:
            print(part(ROOT / "docs", artifacts.version(), given.date), end="")
        else:
            release(ROOT / "docs", artifacts.version(), given.date)
    except ChangelogError as error:
        sys.exit(f"changelog: {error}")


def fragments(docs: pathlib.Path) -> dict[str, dict[str, str]]:
    """Sentences by kind and name. Raises ChangelogError for a file that is none of them, or says nothing."""
    found: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for path in sorted((docs / "changelog.d").iterdir()):
        if path.name == "README.md":
            continue
        match = _NAME.fullmatch(path.name)
        # Links are seen from one folder above from now on.
        text = " ".join(path.read_text().split()).replace("](../", "](")
        if match is None or not text:
            raise ChangelogError(f"{path.name} is no NAME.KIND.md, of {', '.join(KINDS)}, with a sentence")
        found[match["kind"]][match["name"]] = text
    return found


def part(docs: pathlib.Path, version: str, date: dt.date) -> str:
    """What is new. Raises ChangelogError where nothing is, or the version has a part already."""
    found = fragments(docs)
    if not any(found.values()):
        raise ChangelogError("there is no fragment: nothing that a user can notice has changed")
    if f"\n## {version} " in _former(docs):
        raise ChangelogError(f"{version} is in the changelog already: reconciler/__init__.py has the version")
    lines = [f"## {version} ({date.isoformat()})", ""]
    for kind, sentences in found.items():
        if sentences:
            lines += [f"### {kind.capitalize()}", "", *map(_item, sentences.values()), ""]
    return "\n".join(lines)


def release(docs: pathlib.Path, version: str, date: dt.date) -> None:
    """Put the new part before the older ones, and delete the fragments."""
    new = part(docs, version, date)
    older = _former(docs).removeprefix(HEAD).lstrip("\n")
    text = f"{HEAD}\n{new}" + (f"\n{older}" if older else "")
    (docs / "changelog.md").write_text(text)
    for kind, sentences in fragments(docs).items():
        for name in sentences:
            (docs / "changelog.d" / f"{name}.{kind}.md").unlink()


def _item(text: str) -> str:
    wrapper = textwrap.TextWrapper(_WIDTH, initial_indent="- ", subsequent_indent="  ")
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.fill(text)


def _former(docs: pathlib.Path) -> str:
    path = docs / "changelog.md"
    return path.read_text() if path.exists() else HEAD


if __name__ == "__main__":
    main()
