"""What one container holds, what it cannot have and why, and where its memory is."""

# covers: PRD-5.8

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reconciler import events
from reconciler.config import schema
from reconciler.explain import container
from reconciler.policy import desired, lifecycle, state
from tests.explain import nodes


def document(now: state.State, event: events.ContainerCreating) -> dict[str, Any]:
    its = now.inventory.containers[event.container.id]
    return container.document(now, its, now.ledger.intents[its.id])


def cannot_have(told: dict[str, Any]) -> list[str]:
    """The restrictions as words."""
    return [
        f"{each['cpus']} {each['why']}" + (f" by {each['holder']['pod']}" if each["holder"] else "")
        for each in told["restrictions"]
    ]


def test_an_integer_container_is_explained_whole() -> None:
    now = nodes.node(nodes.LISTED, nodes.DB, config=schema.Config(integer_memory="pin"))
    told = document(now, nodes.DB)
    choice = told.pop("choice")
    assert (choice["cpus"], choice["among"]) == ("6-7", "0-3,6-7")
    assert told == {
        "why": "Guaranteed pod with a whole CPU limit of 2",
        "warning": None,
        "exclusive": True,
        "claim_of": "container",
        "restrictions": [
            {
                "cpus": "4-5",
                "why": "held",
                "holder": {
                    "cpus": "4-5",
                    "pod": "test/listed",
                    "container": None,
                    "class": "annotated-exclusive",
                    "exclusive": True,
                },
            }
        ],
        "memory": "from node 1, where its CPUs are",
        "unsatisfied": None,
    }


def test_everything_that_restricts_an_integer_container_is_told() -> None:
    picky = nodes.creating("picky", cpus=1, forbid="3,9")
    config = schema.Config(reserved_cpus="0")
    now = nodes.node(nodes.LISTED, nodes.NEAR, picky, online="0-6", isolated="1", config=config)
    assert cannot_have(document(now, picky)) == [
        "7 offline",
        "1 isolated",
        "3 forbidden",
        "0 reserved",
        "4-5 held by test/listed",
        "6 held by test/near",
    ]


def test_a_shared_container_may_run_beside_a_shared_list_and_on_reserved_cpus() -> None:
    config = schema.Config(reserved_cpus="0")
    now = nodes.node(nodes.LISTED, nodes.NEAR, nodes.PICKY, config=config)
    told = document(now, nodes.PICKY)
    assert cannot_have(told) == ["0,7 forbidden", "4-5 held by test/listed"]
    assert (told["exclusive"], told["claim_of"], told["choice"], told["memory"]) == (
        False,
        None,
        None,
        "left alone",
    )


def test_isolated_cpus_in_use_restrict_nobody() -> None:
    now = nodes.node(nodes.WEB, isolated="1", config=schema.Config(isolated_cpus="use"))
    assert document(now, nodes.WEB)["restrictions"] == []


@pytest.mark.parametrize(
    ("event", "exclusive", "memory"),
    [
        pytest.param(nodes.LISTED, True, "from node 1, where its CPUs are", id="exclusive"),
        pytest.param(nodes.NEAR, False, "from node 1, where its CPUs are", id="shared"),
        pytest.param(nodes.creating(cores="3-4"), False, "from node 0-1, where its CPUs are", id="two nodes"),
    ],
)
def test_a_list_is_the_pods_and_restricted_by_nobody(
    event: events.ContainerCreating, exclusive: bool, memory: str
) -> None:
    told = document(nodes.node(nodes.DB, event), event)
    assert (told["exclusive"], told["claim_of"], told["memory"]) == (exclusive, "pod", memory)
    assert (told["restrictions"], told["choice"]) == ([], None)


def test_a_list_that_could_not_be_had_says_who_holds_it() -> None:
    other = nodes.creating("other", cpus=1, cores="5-6")
    now = lifecycle.absorb(nodes.node(nodes.LISTED), other)
    told = document(now, other)
    assert cannot_have(told) == ["5 held by test/listed"]
    assert told["claim_of"] is None
    assert told["unsatisfied"].startswith(
        "annotation weka.io/cores-ids=5-6 conflicts with CPUs that are held"
    )


def test_cpus_of_a_list_that_went_offline_are_told() -> None:
    now = nodes.node(nodes.LISTED)
    now = dataclasses.replace(now, terms=nodes.node(online="0-4,6-7").terms)
    assert cannot_have(document(now, nodes.LISTED)) == ["5 offline"]


def test_without_a_cpu_of_its_own_online_it_has_those_of_the_pool() -> None:
    now = dataclasses.replace(nodes.node(nodes.DB), terms=nodes.node(online="0-1,4-7").terms)
    told = document(now, nodes.DB)
    assert (told["exclusive"], told["claim_of"]) == (False, None)
    assert told["unsatisfied"] == "none of its CPUs 2-3 is online"


def test_a_forbid_list_that_is_ignored_is_a_warning() -> None:
    odd = nodes.creating("odd", forbid="6-")
    told = document(nodes.node(odd), odd)
    assert told["warning"].endswith("'6-' is not a CPU or range; the list is ignored")


def test_containers_that_are_left_alone_are_restricted_by_nothing() -> None:
    now = nodes.node(nodes.DB, nodes.WEB, config=schema.Config(unmanaged_namespaces=("test",)))
    told = document(now, nodes.WEB)
    assert (told["why"], told["restrictions"]) == ("left alone by configuration", [])


def test_a_node_without_memory_is_told_to_have_another_stand_for_it() -> None:
    now = nodes.node(nodes.NEAR)
    machine = now.terms.topology
    bare = tuple(dataclasses.replace(node, has_memory=node.id == 0) for node in machine.nodes)
    topology = dataclasses.replace(machine, nodes=bare)
    now = dataclasses.replace(now, terms=dataclasses.replace(now.terms, topology=topology))
    what = now.ledger.intents[nodes.NEAR.container.id]
    placement = desired.place(now, nodes.NEAR.pod, nodes.NEAR.container, what)
    assert container.memory(now, placement) == (
        "from node 0, where its CPUs are (node 1 has none: the nearest stands for it)"
    )


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(
            nodes.DB, "the container has exited; its claim to 2-3 holds for the next attempt", id="integer"
        ),
        pytest.param(nodes.WEB, "the container has exited", id="shared"),
    ],
)
def test_an_exited_container_says_what_is_kept_for_it(event: events.ContainerCreating, expected: str) -> None:
    now = lifecycle.absorb(
        nodes.node(event), events.ContainerStopped(pod=event.pod, container=event.container)
    )
    its = now.inventory.containers[event.container.id]
    assert container.exited(now, its, now.ledger.intents[its.id]) == expected
