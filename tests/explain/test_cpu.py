"""Who may run on a CPU, what its core's other CPU is used for, and whose cpusets have it."""

# covers: PRD-5.9

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reconciler import errors, events
from reconciler.config import schema
from reconciler.explain import cpu
from reconciler.policy import lifecycle
from tests.explain import nodes
from tests.pipeline import samples

DB_CLAIM = {"cpus": "2", "pod": "test/db", "container": "main", "class": "integer", "exclusive": True}


def test_an_exclusive_cpu_is_explained_whole() -> None:
    now = nodes.node(nodes.DB, nodes.WEB, config=schema.Config(reserved_cpus="3"))
    now = dataclasses.replace(nodes.node(nodes.DB, nodes.WEB), terms=now.terms)
    looks = {nodes.DB.container.id: samples.look("2-3"), nodes.WEB.container.id: samples.look("0-1,4-7")}
    assert cpu.document(now, looks, 2) == {
        "cpu": 2,
        "answer": "integer test/db container main, exclusively",
        "online": True,
        "isolated": False,
        "reserved": False,
        "pool": False,
        "claims": [DB_CLAIM],
        "node": 0,
        "socket": "0-3",
        "cache": "0-3",
        "core": "2-3",
        "siblings": [
            {
                "cpu": 3,
                "answer": "integer test/db container main, exclusively",
                "online": True,
                "isolated": False,
                "reserved": True,
                "pool": False,
                "claims": [{**DB_CLAIM, "cpus": "3"}],
            }
        ],
        "containers": [
            {
                "id": nodes.DB.container.id,
                "namespace": "test",
                "pod": "db",
                "container": "main",
                "class": "integer",
                "desired": True,
                "observed": True,
                "effective": True,
            }
        ],
    }


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        pytest.param(0, "the shared pool", id="shared"),
        pytest.param(1, "nobody: the kernel isolates it; an annotation may name it", id="isolated"),
        pytest.param(3, "integer test/db container main, exclusively", id="integer"),
        pytest.param(4, "annotated-exclusive test/listed, exclusively", id="annotated, exclusive"),
        pytest.param(6, "the shared pool, also held by annotated-shared test/near", id="annotated, shared"),
        pytest.param(7, "nobody: it is offline", id="offline"),
    ],
)
def test_who_may_run_there(number: int, answer: str) -> None:
    now = nodes.node(nodes.LISTED, nodes.NEAR, nodes.DB, online="0-6", isolated="1")
    assert cpu.document(now, {}, number)["answer"] == answer


def test_a_held_cpu_that_went_offline_has_a_holder_and_no_place() -> None:
    now = dataclasses.replace(nodes.node(nodes.LISTED), terms=nodes.node(online="0-3,5-7").terms)
    told = cpu.document(now, {}, 4)
    assert told["answer"] == "nobody: it is offline (held by annotated-exclusive test/listed)"
    assert [told[name] for name in ("online", "node", "socket", "cache", "core", "siblings")] == [
        False,
        None,
        None,
        None,
        None,
        [],
    ]


def test_an_isolated_cpu_under_a_shared_list_is_not_the_pools() -> None:
    now = nodes.node(nodes.NEAR, isolated="6")
    assert cpu.document(now, {}, 6)["answer"] == (
        "annotated-shared test/near; not the shared pool: the kernel isolates it"
    )


def test_lists_that_overlap_are_all_told() -> None:
    other = nodes.creating("other", cores="4-5")
    now = nodes.node(nodes.LISTED, other, config=schema.Config(annotated_overlap="allow"))
    assert cpu.document(now, {}, 5)["answer"] == (
        "annotated-exclusive test/listed and annotated-shared test/other, exclusively"
    )


def whose(told: dict[str, Any]) -> dict[str, tuple[bool, bool, bool]]:
    """Of each container, whether it should have the CPU, its file names it, and the kernel grants it."""
    return {its["pod"]: (its["desired"], its["observed"], its["effective"]) for its in told["containers"]}


def test_whoever_has_it_is_told_though_it_should_not_be_so() -> None:
    now = nodes.node(nodes.DB, nodes.WEB, nodes.PICKY)
    looks = {
        nodes.DB.container.id: samples.look("2-3", effective="3"),
        nodes.WEB.container.id: samples.look("0-7"),
        nodes.PICKY.container.id: samples.look("", effective="0-7"),
    }
    assert whose(cpu.document(now, looks, 2)) == {
        "db": (True, True, False),
        "web": (False, True, True),
        "picky": (False, False, True),
    }


def test_containers_that_were_not_looked_at_or_have_exited_have_nothing() -> None:
    now = nodes.node(nodes.DB, nodes.WEB)
    now = lifecycle.absorb(now, events.ContainerStopped(pod=nodes.DB.pod, container=nodes.DB.container))
    assert whose(cpu.document(now, {}, 2)) == {}
    assert whose(cpu.document(now, {}, 0)) == {"web": (True, False, False)}


@pytest.mark.parametrize("number", [8, 8191])
def test_a_cpu_that_the_node_has_not_is_told(number: int) -> None:
    with pytest.raises(errors.Malformed) as told:
        cpu.document(nodes.node(online="0-6"), {}, number)
    assert str(told.value) == f"CPU {number}: this node has no such CPU; it has 0-7"
