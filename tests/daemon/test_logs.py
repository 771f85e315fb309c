"""The shape of the log, whoever speaks."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.daemon import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leaves the standard library's logging as it was."""
    before = list(logging.getLogger().handlers)
    yield
    for handler in logging.getLogger().handlers[:]:
        if handler not in before:
            logging.getLogger().removeHandler(handler)


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines as objects."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def mistake() -> None:
    """Raises."""
    raise RuntimeError("a mistake")


def test_a_record_is_one_json_object_on_one_line() -> None:
    stream = io.StringIO()
    log = logs.configure("json", stream)
    log.warning("drift.found", pod="a\nb", file="cpuset.cpus", mems=None)
    [record] = records(stream)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "drift.found",
        "level": "warning",
        "pod": "a\nb",
        "file": "cpuset.cpus",
        "mems": None,
    }


def test_text_is_for_people() -> None:
    stream = io.StringIO()
    logs.configure("text", stream).info("mode.changed", mode="nri", reason="containerd")
    [line] = stream.getvalue().splitlines()
    assert "mode.changed" in line
    assert "mode=nri" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_fault_is_told_with_its_traceback(format_: logs.Format) -> None:
    stream = io.StringIO()
    log = logs.configure(format_, stream)
    with pytest.raises(RuntimeError) as raised:
        mistake()
    log.error("agent.failed", what="pass", exc_info=raised.value)
    assert "Traceback (most recent call last)" in stream.getvalue()
    assert "RuntimeError: a mistake" in stream.getvalue()
    if format_ == "json":
        assert len(records(stream)) == 1


def test_the_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json").info("agent.started", online="0-7")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["online"] == "0-7"


def test_what_libraries_say_is_a_record_too() -> None:
    stream = io.StringIO()
    logs.configure("json", stream)
    logging.getLogger("some.library").warning("it is %s", "late")
    logging.getLogger("some.library").info("nothing of note")
    [record] = records(stream)
    assert (record["event"], record["level"]) == ("library.said", "warning")
    assert (record["library"], record["reason"]) == ("some.library", "it is late")


def test_what_libraries_say_goes_to_the_newest_log_only() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("json", first)
    logs.configure("json", second)
    logging.getLogger("some.library").error("late")
    assert records(first) == []
    assert [record["reason"] for record in records(second)] == ["late"]


async def test_a_task_that_failed_unheard_is_a_record_too() -> None:
    async def fail() -> None:
        mistake()

    stream = io.StringIO()
    logs.configure("json", stream)
    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    [record] = records(stream)
    assert (record["library"], record["level"]) == ("asyncio", "error")
    assert "RuntimeError: a mistake" in record["exception"]
