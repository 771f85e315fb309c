"""What may be asked of the agent, what may not, and when an answer is marked as out of date."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from reconciler import errors, events, observed
from reconciler.daemon import api, questions
from tests.daemon import node, pods

DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


async def ask(made: node.Node, request: dict[str, object]) -> api.Document:
    answers = questions.answers(made.agent, made.passes, made.book)
    return await answers[str(request["request"])].to(request)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        pytest.param({"request": "status", "pod": "db"}, "unknown field `pod`", id="status takes nothing"),
        pytest.param({"request": "plan", "pod": "db"}, "unknown field `pod`", id="plan takes nothing"),
        pytest.param({"request": "explain"}, "give either `container` or `cpu`", id="explain what"),
        pytest.param(
            {"request": "explain", "container": "db/main", "cpu": 1},
            "give either `container` or `cpu`",
            id="explain one thing",
        ),
        pytest.param({"request": "explain", "pod": "db"}, "unknown field `pod`", id="unknown to explain"),
        pytest.param(
            {"request": "explain", "cpu": "1"}, r"Expected `int \| null`, got `str`", id="no number"
        ),
        pytest.param({"request": "explain", "cpu": -1}, r"`int` >= 0 - at `\$.cpu`", id="below the CPUs"),
        pytest.param(
            {"request": "explain", "cpu": 8192}, r"`int` <= 8191 - at `\$.cpu`", id="above the CPUs"
        ),
        pytest.param({"request": "whatif"}, "give at least one of `cpus`", id="what if what"),
        pytest.param({"request": "whatif", "namespace": "x"}, "give at least one of", id="a namespace alone"),
        pytest.param(
            {"request": "whatif", "cpus": 1, "pod": "db"}, "unknown field `pod`", id="unknown to whatif"
        ),
        pytest.param({"request": "whatif", "cpus": 0}, r"`int` >= 1 - at `\$.cpus`", id="no CPUs"),
        pytest.param(
            {"request": "whatif", "cpus": 8193}, r"`int` <= 8192 - at `\$.cpus`", id="too many CPUs"
        ),
        pytest.param({"request": "whatif", "cpus": 1.5}, "got `float`", id="half a CPU"),
        pytest.param({"request": "whatif", "cores_ids": [1]}, "got `array`", id="a list that is no text"),
        pytest.param({"request": "whatif", "cpus": 1, "namespace": ""}, "length >= 1", id="no namespace"),
    ],
)
async def test_a_request_that_cannot_be_right_is_refused_with_the_key(
    tmp_path: pathlib.Path, request_: dict[str, object], why: str
) -> None:
    async with node.running(tmp_path) as made:
        with pytest.raises(msgspec.ValidationError, match=why):
            await ask(made, request_)


@pytest.mark.parametrize(
    "request_",
    [
        {"request": "explain", "container": "db/main"},
        {"request": "explain", "cpu": 2},
        {"request": "whatif", "cpus": 2},
    ],
    ids=["explain", "explain a CPU", "whatif"],
)
async def test_an_answer_that_may_be_out_of_date_says_so(
    tmp_path: pathlib.Path, request_: dict[str, object]
) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        await made.quiet()
        assert (await ask(made, request_))["note"] is None
        made.passes.everything(hook=True)
        assert (await ask(made, request_))["note"] == (
            "a change is under way: the answer may be another one in a moment"
        )
        await made.quiet()
        made.agent.disconnected("it ended")
        assert (await ask(made, request_))["note"] == (
            "no runtime is connected (it ended): the node may have changed"
        )


class Looks(dict[events.ContainerId, observed.Look]):
    """The last looks at containers, and the threads that asked for them."""

    def __init__(self, looks: Mapping[events.ContainerId, observed.Look]) -> None:
        super().__init__(looks)
        self.threads: set[threading.Thread] = set()

    def get(self, key: events.ContainerId, default: Any = None, /) -> Any:
        """As of any dict."""
        self.threads.add(threading.current_thread())
        return super().get(key, default)


@pytest.mark.parametrize("request_", [{"container": "db/main"}, {"cpu": 2}], ids=["explain", "explain a CPU"])
async def test_no_hook_waits_for_an_explanation(tmp_path: pathlib.Path, request_: dict[str, object]) -> None:
    async with node.running(tmp_path) as made:
        await made.run(DB, INTEGER)
        await made.quiet()
        looks = made.book.latest = Looks(made.book.latest)
        await ask(made, {"request": "explain", **request_})
        assert looks.threads
        assert threading.main_thread() not in looks.threads


async def test_a_container_that_is_not_taken_over_yet_is_not_explained(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ready=False) as made:
        made.make(INTEGER, "2-3")
        made.agent.connected(node.PEER)
        made.agent.synchronized(node.listed((DB, INTEGER)), node.PEER)
        with pytest.raises(errors.Retryable, match="default/db/main: the agent has not taken it over yet"):
            await ask(made, {"request": "explain", "container": "db/main"})
        await made.quiet()
        told: Any = await ask(made, {"request": "explain", "container": "db/main"})
        assert told["desired"]["cpus"] == "2-3"
