"""How `explain` and `whatif` show the preferences that decided a choice of CPUs. Pure."""

from __future__ import annotations

from typing import Any

from reconciler.cli import output
from reconciler.explain import choice


def text(document: dict[str, Any]) -> str:
    """A column for the CPUs, and one for each other choice; a row for each preference in which there is a
    difference or a fault."""
    others = document["others"]
    columns = [document, *others]
    header = ["PREFERENCE", "ITS CPUS", *(other["how"].upper() for other in others)]
    rows = [["CPUs", *(column["cpus"] for column in columns)]]
    for name in document["score"]:
        values = [column["score"][name] for column in columns]
        if name != "new" and (any(values) or len(set(values)) > 1):
            rows.append([choice.PREFERENCES[name], *map(str, values)])
    if others:
        rows.append(["decided by", "", *map(_decision, others)])
    return f"{_heading(document, others)}\n\n{output.table(header, rows)}"


def _heading(document: dict[str, Any], others: list[dict[str, Any]]) -> str:
    among = f"Among {document['among']}, which is free now or its own,"
    if any(other["better"] for other in others):
        verdict = f"{among} a choice made now would be another."
    else:
        verdict = f"{among} no choice is better."
    if not others:
        return f"{verdict}\nOn other cores there are not enough."
    return f"{verdict}\nLess is better, and the first difference decides."


def _decision(other: dict[str, Any]) -> str:
    words = choice.PREFERENCES[other["decided_by"]]
    return f"{words}, now better" if other["better"] else words
