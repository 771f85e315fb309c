"""The changelog is made of fragments, and the fragments that there are can be made one."""

from __future__ import annotations

import datetime as dt
import pathlib

import pytest

from hack import artifacts, changelog

DATE = dt.date(2026, 1, 2)


@pytest.fixture
def docs(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of documents with fragments of two kinds."""
    folder = tmp_path / "changelog.d"
    folder.mkdir()
    (folder / "README.md").write_text("# Fragments\n")
    (folder / "new-thing.added.md").write_text("A new\nthing, see the [guide](../how-to/guide.md).\n")
    (folder / "fault.fixed.md").write_text("A fault.\n")
    return tmp_path


def test_fragments_are_moved_under_their_version_by_kind_and_links_still_lead_there(
    docs: pathlib.Path,
) -> None:
    changelog.release(docs, "1.0.0", DATE)
    assert (docs / "changelog.md").read_text() == (
        f"{changelog.HEAD}\n## 1.0.0 (2026-01-02)\n\n### Added\n\n"
        "- A new thing, see the [guide](how-to/guide.md).\n\n### Fixed\n\n- A fault.\n"
    )
    assert [path.name for path in (docs / "changelog.d").iterdir()] == ["README.md"]


def test_the_newest_version_comes_first_and_the_older_ones_stay_as_they_are(docs: pathlib.Path) -> None:
    changelog.release(docs, "1.0.0", DATE)
    first = (docs / "changelog.md").read_text().removeprefix(changelog.HEAD)
    (docs / "changelog.d/gone.removed.md").write_text("A thing.\n")
    changelog.release(docs, "1.1.0", DATE)
    assert (docs / "changelog.md").read_text() == (
        f"{changelog.HEAD}\n## 1.1.0 (2026-01-02)\n\n### Removed\n\n- A thing.\n{first}"
    )


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("Thing.added.md", "A thing.", "Thing.added.md is no NAME.KIND.md"),
        ("thing.news.md", "A thing.", "thing.news.md is no NAME.KIND.md"),
        ("thing.added.md", " \n", "thing.added.md is no NAME.KIND.md"),
    ],
    ids=["name", "kind", "empty"],
)
def test_a_file_that_is_no_fragment_is_told_and_nothing_is_changed(
    docs: pathlib.Path, name: str, text: str, why: str
) -> None:
    (docs / "changelog.d" / name).write_text(text)
    with pytest.raises(changelog.ChangelogError, match=why):
        changelog.release(docs, "1.0.0", DATE)
    assert not (docs / "changelog.md").exists()
    assert (docs / "changelog.d/fault.fixed.md").exists()


def test_a_version_is_released_once(docs: pathlib.Path) -> None:
    changelog.release(docs, "1.0.0", DATE)
    with pytest.raises(changelog.ChangelogError, match="no fragment"):
        changelog.release(docs, "1.1.0", DATE)
    (docs / "changelog.d/thing.added.md").write_text("A thing.\n")
    with pytest.raises(changelog.ChangelogError, match="in the changelog already"):
        changelog.release(docs, "1.0.0", DATE)


def test_the_fragments_that_there_are_make_a_changelog() -> None:
    assert changelog.part(changelog.ROOT / "docs", artifacts.version(), DATE).startswith("## ")
