"""Checks the documents: every relative link and anchor in README.md and docs/ leads somewhere. Reads only."""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:")


def main() -> None:
    """Print each broken link with its document; exit 1 if there is one."""
    pages = documents(ROOT)
    broken = [line for page in pages for line in broken_links(page, ROOT)]
    print("\n".join(broken), file=sys.stderr, end="\n" if broken else "")
    print(f"links: {len(pages)} documents, {len(broken)} broken")
    sys.exit(1 if broken else 0)


def documents(root: pathlib.Path) -> list[pathlib.Path]:
    """README.md and every Markdown file below docs/ and .github/."""
    folders = (root / "docs", root / ".github")
    return [root / "README.md", *(page for folder in folders for page in sorted(folder.rglob("*.md")))]


def broken_links(page: pathlib.Path, root: pathlib.Path) -> list[str]:
    """One line per link of `page` whose file, or whose heading in that file, does not exist."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target for target in LINK.findall(prose) if not SCHEME.match(target)]
    return [f"{page.relative_to(root)}: {target}" for target in targets if not _leads(page, target)]


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as web views of Markdown derive them."""
    headings = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _leads(page: pathlib.Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = page if path == "" else page.parent / path
    if not file.exists():
        return False
    return anchor == "" or file.suffix != ".md" or anchor in anchors(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
