"""The sentence says whose the CPUs are, why, and what is missing."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler import events, explain, intent
from reconciler.config import schema
from reconciler.policy import desired, lifecycle, state
from reconciler.sim import machine
from tests.pipeline import samples

SHAPE = machine.Shape(sockets=1, cores=4)


def node(*created: events.ContainerCreating) -> state.State:
    now = samples.fresh(SHAPE)
    for event in created:
        now, _, _ = lifecycle.admit(now, event)
    return now


def sentence(now: state.State, its: events.Container) -> str:
    what = now.ledger.intents[its.id]
    return explain.reason(now, its, what, desired.place(now, now.pod_of(its), its, what))


def creating(
    annotations: dict[str, str] | None = None,
    *,
    qos: events.Qos = samples.BURSTABLE,
    cpus: int = 0,
    name: str = "one",
) -> events.ContainerCreating:
    pod = samples.pod(name, qos=qos, annotations=annotations)
    return samples.creating(pod, samples.container(pod, limits=samples.whole(cpus) if cpus else None))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(creating(), "no annotation and no integer semantics: shared pool 0-7", id="shared"),
        pytest.param(
            creating({intent.FORBID: "6-7"}),
            "no annotation and no integer semantics: shared pool 0-7, less the forbidden 6-7",
            id="with forbidden CPUs",
        ),
        pytest.param(
            creating({intent.FORBID: "6-"}),
            "no annotation and no integer semantics: shared pool 0-7 (annotation weka.io/forbid-core-ids "
            "at position 0: '6-' is not a CPU or range; the list is ignored)",
            id="with a forbid list that cannot be right",
        ),
        pytest.param(
            creating(qos=samples.GUARANTEED, cpus=2),
            "Guaranteed pod with a whole CPU limit of 2: 1,5 is exclusive",
            id="integer",
        ),
        pytest.param(
            creating({intent.CORES: "2-3"}, qos=samples.GUARANTEED, cpus=2),
            "annotation weka.io/cores-ids, whole CPUs with requests equal to limits: 2-3 is exclusive",
            id="annotated, exclusive",
        ),
        pytest.param(
            creating({intent.CORES: "2-3"}),
            "annotation weka.io/cores-ids, no integer semantics: 2-3 is shared",
            id="annotated, shared",
        ),
    ],
)
def test_the_reason_of_a_placement(event: events.ContainerCreating, expected: str) -> None:
    assert sentence(node(event), event.container) == expected


def test_whoever_runs_without_what_it_is_entitled_to_says_why() -> None:
    wants = creating(qos=samples.GUARANTEED, cpus=8)
    now = lifecycle.absorb(samples.fresh(SHAPE), wants)
    what = now.ledger.intents[wants.container.id]
    assert explain.shortfall(now, wants.container, what).startswith("8 exclusive CPUs would leave 0 CPUs")
    assert sentence(now, wants.container).startswith("on the shared pool: 8 exclusive CPUs would leave 0")


def test_a_forbid_list_that_the_pool_has_shrunk_into_is_a_shortfall() -> None:
    web = creating({intent.FORBID: "0,2-4,6-7"}, name="web")
    now = node(web)
    assert explain.shortfall(now, web.container, now.ledger.intents[web.container.id]) == ""
    now, _, _ = lifecycle.admit(now, creating(qos=samples.GUARANTEED, cpus=2, name="db"))
    what = now.ledger.intents[web.container.id]
    assert explain.shortfall(now, web.container, what) == (
        "annotation weka.io/forbid-core-ids=0,2-4,6-7 forbids the whole shared pool 0,2-4,6-7"
    )


@pytest.mark.parametrize(
    ("event", "online", "expected"),
    [
        pytest.param(
            creating(qos=samples.GUARANTEED, cpus=2),
            "0-4,6-7",
            "Guaranteed pod with a whole CPU limit of 2: 1,5 is exclusive, and 5 of it offline",
            id="integer",
        ),
        pytest.param(
            creating({intent.CORES: "2-3"}),
            "0-2,4-7",
            "annotation weka.io/cores-ids, no integer semantics: 2-3 is shared, and 3 of it offline",
            id="annotated",
        ),
        pytest.param(
            creating(qos=samples.GUARANTEED, cpus=2),
            "0,2-4,6-7",
            "on the shared pool: none of its CPUs 1,5 is online",
            id="all of them",
        ),
    ],
)
def test_cpus_of_a_claim_that_went_offline_are_told(
    event: events.ContainerCreating, online: str, expected: str
) -> None:
    fewer = samples.fresh(SHAPE, online=online)
    now = dataclasses.replace(node(event), terms=fewer.terms)
    assert sentence(now, event.container) == expected


def test_containers_that_are_left_alone_say_only_that() -> None:
    web = creating()
    config = schema.Config(unmanaged_namespaces=("test",))
    now, _, _ = lifecycle.admit(samples.fresh(SHAPE, config=config), web)
    assert sentence(now, web.container) == "left alone by configuration"
