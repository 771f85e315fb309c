"""A scenario that cannot be played is refused before it is, and a player sees claims that are not kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.scenarios import ground, model

RUN: dict[str, Any] = {"run": {"pod": "web"}}


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([RUN, RUN], "pod web is run while it is there"),
        ([{"delete": "web"}], "pod web is deleted, and is not there"),
        ([RUN, {"together": [{"delete": "web"}, {"delete": "web"}]}], "is deleted, and is not there"),
        ([{"agent": "restart", "while_down": [RUN, RUN]}], "is run while it is there"),
        ([{"together": [RUN | {"refused": "no"}]}], "nothing is expected of a step within a step"),
        ([RUN | {"delete": "web"}], "a step has exactly one of"),
        ([RUN | {"while_down": [RUN]}], "while_down and expect_down go with agent"),
        ([RUN | {"expect": {"web/main": {}}}], "to have cpus or a count of them"),
        ([RUN | {"expect": {"web/main": {"cpus": "1", "count": 1}}}], "to have cpus or a count of them"),
        ([RUN | {"expects": {}}], "unknown field `expects`"),
    ],
)
def test_a_scenario_that_cannot_be_played_is_refused(steps: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert({"name": "test", "covers": ["PRD-1.1"], "steps": steps}, model.Scenario)


def test_a_pod_may_be_made_anew() -> None:
    steps = [RUN, {"delete": "web"}, RUN]
    scenario = msgspec.convert({"name": "test", "covers": ["PRD-1.1"], "steps": steps}, model.Scenario)
    assert len(scenario.steps) == 3


def entry(pod: str, klass: str, claim: str | None, written: str | None) -> dict[str, Any]:
    """A container as status tells of it, as far as claims go."""
    seen = None if written is None else {"cpus": written}
    return {"namespace": "default", "pod": pod, "class": klass, "claim": claim, "observed": seen}


HOLDER = entry("db", "integer", "2-3", "2-3")
LISTED = entry("listed", "annotated-exclusive", "2-3", "2-3")


@pytest.mark.parametrize(
    ("other", "overlap"),
    [
        pytest.param(entry("web", "shared", None, "0-2"), False, id="a shared one"),
        pytest.param(entry("cache", "integer", "3-4", "3-4"), False, id="another integer one"),
        pytest.param(entry("web", "shared", None, "0-2"), True, id="a shared one where lists may overlap"),
        pytest.param(LISTED, True, id="a list, where only lists may overlap"),
    ],
)
def test_who_is_written_onto_another_ones_claim_is_seen(other: dict[str, Any], overlap: bool) -> None:
    with pytest.raises(AssertionError, match="is on CPUs of"):
        ground.check_that_claims_are_kept({"containers": [other, HOLDER]}, "step 1", overlap=overlap)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        pytest.param(HOLDER, entry("web", "shared", None, "0-1,4-7"), False, id="off the claim"),
        pytest.param(HOLDER, entry("web", "unmanaged", None, "0-7"), False, id="left alone"),
        pytest.param(HOLDER, entry("web", "shared", None, None), False, id="not looked at yet"),
        pytest.param(LISTED, LISTED, False, id="of the same pod's list"),
        pytest.param(LISTED, entry("b", "annotated-exclusive", "3", "3"), True, id="lists that may overlap"),
        pytest.param(
            entry("late", "integer", None, "0-7"),
            entry("web", "shared", None, "0-7"),
            False,
            id="unsatisfied on the pool",
        ),
    ],
)
def test_who_keeps_off_a_claim_or_may_be_on_it_is_let_be(
    one: dict[str, Any], other: dict[str, Any], overlap: bool
) -> None:
    ground.check_that_claims_are_kept({"containers": [one, other]}, "step 1", overlap=overlap)


def test_lists_of_two_containers_of_one_pod_are_held_against_each_other() -> None:
    other = LISTED | {"claim": "3-4", "observed": {"cpus": "3-4"}}
    with pytest.raises(AssertionError, match="is on CPUs of"):
        ground.check_that_claims_are_kept({"containers": [LISTED, other]}, "step 1", overlap=False)
