"""What the demo says of log records and of its end."""

from __future__ import annotations

import pytest

from reconciler.sim import agent, screen, verdict, wording

OWNER = {"id": "a1", "namespace": "default", "pod": "web", "container": "nginx"}
FOUND = {
    **OWNER,
    "event": "drift.found",
    "file": "cpuset.cpus",
    "desired": "0,2-3",
    "observed": "0-3",
    "found_by": "inotify",
}
REPAIRED = {**OWNER, "event": "drift.repaired", "lasted_ms": 1.26}


def said(*records: wording.Record) -> list[str]:
    teller = wording.Teller(screen.WIDTH)
    return [screen.plain(line) for record in records for line in teller.tell(record)]


def test_a_drift_is_told_with_its_repair() -> None:
    assert said(FOUND) == []
    assert said(FOUND, REPAIRED) == ["    repaired  web/nginx cpuset.cpus: 0-3 -> 0,2-3 in 1.3 ms (inotify)"]


def test_each_file_of_a_drift_is_told_once() -> None:
    mems = {**FOUND, "file": "cpuset.mems", "desired": "0", "observed": ""}
    lines = said(FOUND, mems, REPAIRED, REPAIRED)
    assert [line.split()[2] for line in lines] == ["cpuset.cpus:", "cpuset.mems:"]
    assert "(empty) -> 0" in lines[1]


@pytest.mark.parametrize("event", ["drift.unrepairable", "placement.failed", "placement.held-up"])
def test_what_cannot_be_put_right_is_told(event: str) -> None:
    assert said({**OWNER, "event": event, "reason": "read-only"}) == ["    stuck     web/nginx: read-only"]


@pytest.mark.parametrize(
    ("event", "label"),
    [
        ("placement.admitted", "admitted"),
        ("placement.refused", "refused"),
        ("placement.moved", "moved"),
    ],
)
def test_a_placement_is_told_with_its_reason(event: str, label: str) -> None:
    assert said({**OWNER, "event": event, "reason": "as it is"}) == [f"    {label:<9} web/nginx: as it is"]


def test_other_records_are_not_told() -> None:
    assert said({"event": "pass.done"}, {"event": "agent.started"}, {}) == []


def test_no_line_is_too_long() -> None:
    long = {**OWNER, "event": "placement.refused", "reason": "word " * 60}
    assert max(map(len, said(long))) <= screen.WIDTH


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b'{"event": "pass.done"}\n', {"event": "pass.done"}),
        (b"Traceback (most recent call last):\n", None),
        (b"[1, 2]\n", None),
        (b"\xff\xfe\n", None),
        (b"", None),
    ],
    ids=["record", "traceback", "list", "no-utf8", "empty"],
)
def test_only_json_objects_are_records(line: bytes, record: wording.Record | None) -> None:
    assert agent.parse(line) == record


def test_the_verdict_names_everything_that_is_wrong() -> None:
    rows = [
        wording.Row(name="web/nginx", expected="0-1", found="0-1"),
        wording.Row(name="db/x", expected="2", found="2-3"),
    ]
    checks = [
        wording.Check(what="pods refused", seen="1", ok=True),
        wording.Check(what="wrong writes repaired", seen="3 of 4", ok=False),
    ]
    assert verdict.failures(rows, checks) == ["db/x has 2-3 instead of 2", "wrong writes repaired: 3 of 4"]
    table = [screen.plain(line) for line in wording.summary(rows, checks)]
    assert [line.split()[-1] for line in table if line][1:] == ["ok", "WRONG", "ok", "WRONG"]


def test_nothing_wrong_is_an_empty_verdict() -> None:
    assert verdict.failures([wording.Row(name="a/b", expected="0", found="0")], []) == []
