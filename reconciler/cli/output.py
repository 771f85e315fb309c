"""How commands print: JSON for programs, aligned tables for people. I/O: standard output."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence


def add_output(parser: argparse.ArgumentParser) -> None:
    """The option that every command with a result has."""
    parser.add_argument("--output", choices=["text", "json"], default="text", help="default: %(default)s")


def print_json(document: object) -> None:
    """One JSON document, indented."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart, without spaces at the ends of lines."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def fields(pairs: Sequence[tuple[str, str]]) -> str:
    """One line a name and its value, the values aligned."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name.ljust(width)}  {value}".rstrip() for name, value in pairs)
