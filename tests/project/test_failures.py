"""What a long run says at its end about the tests that failed in it."""

from __future__ import annotations

import pathlib

from hack.vm import failures

REPORT = """<testsuites><testsuite>
<testcase classname="tests.one" name="test_a[x]"><failure message="one&#10;two">long</failure></testcase>
<testcase classname="tests.one" name="test_e"><failure message="brief">
    assert x
E   AssertionError: at length
E     1
E     2
</failure></testcase>
<testcase classname="tests.one" name="test_b"><error>no message</error></testcase>
<testcase classname="tests.one" name="test_c"><skipped message="why"/></testcase>
<testcase classname="tests.one" name="test_d"/>
</testsuite></testsuites>"""


def test_what_failed_is_named_with_its_message(tmp_path: pathlib.Path) -> None:
    report = tmp_path / "junit.xml"
    report.write_text(REPORT)
    assert list(failures.told(report)) == [
        "failure: tests.one::test_a[x]",
        "    one",
        "    two",
        "failure: tests.one::test_e",
        "    AssertionError: at length",
        "    1",
        "    2",
        "error: tests.one::test_b",
        "    no message",
    ]


def test_those_that_failed_are_listed(tmp_path: pathlib.Path) -> None:
    report = tmp_path / "junit.xml"
    report.write_text(REPORT)
    assert failures.names(report) == ["tests.one::test_a[x]", "tests.one::test_e", "tests.one::test_b"]
    assert failures.names(tmp_path / "nowhere.xml") == []


def test_a_report_that_is_not_there_is_told() -> None:
    [line] = failures.told(pathlib.Path("nowhere/junit.xml"))
    assert line.startswith("no report of the tests: ")
