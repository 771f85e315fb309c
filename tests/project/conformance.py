"""Reads the claims of fixtures/conformance.yaml, and which scenarios show them. I/O: reads fixtures."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Set

import msgspec
import yaml

_RANGES = {"C": 9, "W": 56, "M": 9, "X": 8, "T": 7}


class Elsewhere(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What shows a claim that no scenario does: a test as PATH::TEST, and why it is no scenario."""

    shown_by: str
    why: str


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file: a sentence for every number, and the table of those that are shown elsewhere."""

    claims: dict[str, str]
    elsewhere: dict[str, Elsewhere]


def parse(text: str) -> Document:
    """The document that a YAML text means. Raises msgspec.ValidationError."""
    return msgspec.convert(yaml.load(text, Loader=yaml.CSafeLoader), Document)


def named_by_scenarios(root: pathlib.Path) -> dict[str, set[str]]:
    """The claims that each scenario below `root` names, by the scenario's path."""
    folder = root / "fixtures" / "scenarios"
    return {
        str(path.relative_to(root)): set(yaml.safe_load(path.read_text()).get("conformance", ()))
        for path in sorted(folder.glob("*.yaml"))
    }


def faults(document: Document, named: Mapping[str, Set[str]], root: pathlib.Path) -> list[str]:
    """One sentence for every claim that is missing, unknown, not shown, or shown twice over."""
    wanted = {f"{letter}{number}" for letter, last in _RANGES.items() for number in range(1, last + 1)}
    stated = set(document.claims)
    shown = set().union(*named.values())
    elsewhere = set(document.elsewhere)
    found = [f"{claim} has no sentence" for claim in sorted(wanted - stated)]
    found += [f"{claim} is a claim too many" for claim in sorted(stated - wanted)]
    found += [
        f"{where} shows {claim}, which is no claim"
        for where, claims in named.items()
        for claim in sorted(claims - stated)
    ]
    found += [f"{claim} is shown elsewhere and is no claim" for claim in sorted(elsewhere - stated)]
    found += [f"{claim} is shown by a scenario, and elsewhere too" for claim in sorted(elsewhere & shown)]
    found += [f"{claim} is shown by nothing" for claim in sorted(stated & wanted - shown - elsewhere)]
    for claim, its in document.elsewhere.items():
        path, _, test = its.shown_by.partition("::")
        file = root / path
        if not file.is_file() or f"def {test}(" not in file.read_text():
            found.append(f"{claim} is shown by {its.shown_by}, which does not exist")
    return found
