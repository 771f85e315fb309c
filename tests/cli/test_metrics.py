"""`metrics`: what a running agent has counted, as text."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from reconciler.cli import main
from reconciler.daemon import api, questions
from tests.cli import program
from tests.daemon import node, observing


async def test_the_text_is_printed_as_it_is(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = str(tmp_path / "api.sock")
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        answers = questions.answers(made.agent, made.passes, made.book, its.saver, its)
        async with api.serving(socket, answers):
            assert await asyncio.to_thread(main.main, ["metrics", "--api-socket", socket]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("# HELP cpuset_reconciler_build_info ")
    assert captured.out.endswith("\n")
    assert not captured.out.endswith("\n\n")
    assert 'cpuset_reconciler_mode{mode="nri"} 1.0\n' in captured.out


@pytest.mark.parametrize("is_there", [False, True], ids=["nothing there", "a file there"])
def test_where_no_agent_answers_is_told(
    tmp_path: pathlib.Path, is_there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = str(tmp_path / "api.sock")
    if is_there:
        (tmp_path / "api.sock").touch()
    assert main.main(["metrics", "--api-socket", socket]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert program.is_one_sentence(captured.err), captured.err
