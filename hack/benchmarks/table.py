"""Rows as an aligned text table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def render(rows: Sequence[Mapping[str, float | str]]) -> str:
    """A header of the keys and a line for each row; numbers with as many digits as mean something."""
    if not rows:
        return ""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    )


def _cell(value: float | str) -> str:
    if isinstance(value, int | str):
        return str(value)
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"
