"""The locked requirements are complete, hashed, free of addresses, and what pyproject.toml asks for."""

from __future__ import annotations

import pathlib
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "hack" / "requirements").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9.-]+)==([^ ;]+)")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _pins(lock: str) -> dict[str, str]:
    text = (ROOT / "hack" / "requirements" / lock).read_text()
    found = (PIN.match(line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match is not None}


def _group(name: str) -> list[Requirement]:
    wanted = []
    for entry in PROJECT["dependency-groups"][name]:
        if isinstance(entry, dict):
            wanted += _group(entry["include-group"])
        else:
            wanted.append(Requirement(entry))
    return wanted


def _extra(name: str) -> list[Requirement]:
    return [Requirement(text) for text in PROJECT["project"]["optional-dependencies"][name]]


def _of_the_agent() -> list[Requirement]:
    return [Requirement(text) for text in PROJECT["project"]["dependencies"]]


WANTED = {
    "node.txt": [*_of_the_agent(), *_extra("systemd"), *_group("e2e")],
    "agent.txt": [*_of_the_agent(), *_extra("cli"), *_extra("systemd"), *_group("build")],
    "checks.txt": [*_of_the_agent(), *_group("build"), *_group("lint")],
    "chart.txt": _group("chart"),
}


@pytest.mark.parametrize("lock", WANTED)
def test_a_lock_has_what_is_asked_for_in_a_version_that_is_asked_for(lock: str) -> None:
    pins = _pins(lock)
    wrong = [
        str(wanted)
        for wanted in WANTED[lock]
        if not wanted.specifier.contains(pins.get(canonicalize_name(wanted.name), "0"))
    ]
    assert wrong == []


def test_the_fuzzer_is_locked_for_every_interpreter_that_has_a_wheel_of_it() -> None:
    text = (ROOT / "hack" / "requirements" / "fuzz.txt").read_text()
    pinned = [Requirement(line.rstrip(" \\")) for line in text.splitlines() if PIN.match(line)]
    for python in ("3.11", "3.12", "3.13", "3.14"):
        its = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": "x86_64"}
        for group in (_group("fuzz"), pinned):
            assert len([one for one in group if one.name == "atheris" and _serves(one, its)]) == 1, python


def _serves(requirement: Requirement, environment: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_locks_agree_with_each_other() -> None:
    checks = _pins("checks.txt")
    fuzz = {name: version for name, version in _pins("fuzz.txt").items() if name != "atheris"}
    assert {**checks, **_pins("agent.txt"), **_pins("node.txt"), **fuzz} == checks


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.name))
def test_a_lock_hashes_every_pin_and_names_no_address(lock: pathlib.Path) -> None:
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert [entry for entry in entries if PIN.match(entry) is None or "--hash=sha256:" not in entry] == []
    assert "://" not in lock.read_text()
