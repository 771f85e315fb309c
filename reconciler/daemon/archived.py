"""Reads the file of drifts: for the running agent's API, and for the command while there is none. I/O."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

from reconciler.daemon import archive

MOST_READ = 1000
"""Rows read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which rows: those of which something was heard at `since` (seconds since the epoch) or later, of this
    pod (`NAMESPACE/NAME`, None for all), and that have changed after the row `after`."""

    since: float = 0.0
    pod: str | None = None
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows as documents, in the order of their last changes, and whether there are `more` after them."""

    rows: tuple[dict[str, object], ...] = ()
    more: bool = False


def read(path: str, asked: Query, *, run: int = 0) -> Page:
    """What the file says; nothing where there is none. A drift of which an agent that has ended does not say
    the end, ended as nobody knows; `run` is the agent that has not ended.

    Raises Unusable and Retryable.
    """
    if not archive.is_there(path):
        return Page()
    with archive.failing(path, "read"), contextlib.closing(archive.connect(path, "ro")) as connection:
        connection.execute("BEGIN")
        if not archive.one(connection, archive.TABLES):
            # It has been made, and not written yet.
            return Page()
        archive.check(connection, path)
        sql = "SELECT rev, run, number, row FROM drifts WHERE rev > ? AND latest >= ?"
        values: list[object] = [asked.after, asked.since]
        if asked.pod is not None:
            sql += " AND namespace = ? AND pod = ?"
            values += asked.pod.split("/", 1)
        found = connection.execute(f"{sql} ORDER BY rev LIMIT ?", (*values, MOST_READ + 1)).fetchall()
    rows = tuple(
        {"drift": f"{its}-{number}", "rev": rev, **_document(path, text, has_ended=its != run)}
        for rev, its, number, text in found[:MOST_READ]
    )
    return Page(rows=rows, more=len(found) > MOST_READ)


def _document(path: str, text: str, *, has_ended: bool) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise archive.Unusable(path, "damaged", f"is damaged: a row is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise archive.Unusable(path, "damaged", "is damaged: a row is no JSON object")
    if has_ended and document.get("ended") is None:
        document["result"] = "unknown"
    return document
