"""The preferences that decided a choice are told against what else could be chosen."""

# covers: PRD-5.8

from __future__ import annotations

from typing import Any

import pytest

from reconciler import events
from reconciler.explain import choice
from reconciler.policy import lifecycle, placement, state
from tests.explain import nodes

ONE = nodes.creating("one", cpus=1)


def document(now: state.State, event: events.ContainerCreating) -> dict[str, Any]:
    what = now.ledger.intents[event.container.id]
    claim = state.claim_of(now.ledger, event.pod, event.container, what)
    assert claim is not None
    return choice.document(now, claim)


def test_every_preference_has_words() -> None:
    assert tuple(choice.PREFERENCES) == placement.Score._fields


def test_the_only_integer_container_is_beside_other_cores_and_other_nodes() -> None:
    now = nodes.node(nodes.DB)
    assert document(now, nodes.DB) == {
        "among": "0-7",
        "cpus": "2-3",
        "score": score(),
        "others": [
            {
                "cpus": "4-5",
                "how": "on other cores",
                "score": score(),
                "decided_by": "node_set",
                "better": False,
            },
        ],
    }


def score(**differs: int) -> dict[str, int]:
    """That of a whole core on an empty node of the two."""
    usual = {
        "nodes": 1,
        "distance": 0,
        "caches": 1,
        "split": 0,
        "broken": 0,
        "new": 2,
        "cpu_0": 0,
        "node_room": 4,
        "cache_room": 4,
        "core_0": 0,
        "unfinished": 0,
    }
    return usual | differs


@pytest.mark.parametrize(
    ("others", "wanted", "cpus", "decided"),
    [
        pytest.param([], 1, "2", {"1": "core_0", "4": "node_set"}, id="not on the core of CPU 0"),
        pytest.param([ONE], 1, "3", {"1": "broken", "4": "broken"}, id="on a core that is half used"),
        pytest.param([ONE], 2, "4-5", {"6-7": "cpus", "0-1": "cpu_0"}, id="not on CPU 0"),
        pytest.param([nodes.NEAR], 2, "4-5", {"2-3": "node_room"}, id="beside others, not in a large block"),
        pytest.param([], 5, "2-6", {}, id="all cores but one, and half of that"),
    ],
)
def test_the_first_preference_that_differs_has_decided(
    others: list[events.ContainerCreating], wanted: int, cpus: str, decided: dict[str, str]
) -> None:
    event = nodes.creating("db", cpus=wanted)
    told = document(nodes.node(*others, event), event)
    assert told["cpus"] == cpus
    assert {other["cpus"]: other["decided_by"] for other in told["others"]} == decided
    assert not any(other["better"] for other in told["others"])


def test_what_became_free_since_is_told_as_better_now() -> None:
    spread = nodes.creating("spread", cpus=3)
    now = nodes.node(ONE, nodes.creating("two", cpus=2), nodes.creating("three", cpus=1), spread)
    assert document(now, spread)["others"] == []
    now = lifecycle.absorb(now, events.PodRemoved(sandbox=events.SandboxId("sandbox-two-0")))
    told = document(now, spread)
    [better] = [other for other in told["others"] if other["better"]]
    assert (told["cpus"], better["cpus"], better["how"], better["decided_by"]) == (
        "1,6-7",
        "4-6",
        "chosen anew",
        "nodes",
    )
    assert (told["score"]["nodes"], better["score"]["nodes"]) == (2, 1)


def test_of_cpus_that_went_offline_the_rest_is_judged() -> None:
    now = nodes.node(nodes.DB)
    fewer = nodes.node(online="0-2,4-7")
    now = state.State(terms=fewer.terms, inventory=now.inventory, ledger=now.ledger)
    told = document(now, nodes.DB)
    assert (told["among"], told["cpus"]) == ("0-2,4-7", "2")


def test_without_any_cpu_online_there_is_nothing_to_compare() -> None:
    now = nodes.node(nodes.DB)
    fewer = nodes.node(online="0-1,4-7")
    now = state.State(terms=fewer.terms, inventory=now.inventory, ledger=now.ledger)
    told = document(now, nodes.DB)
    assert (told["cpus"], told["others"]) == ("", [])
