"""Who is to be a partition, who is not and why, and who may choose."""

# covers: PRD-4.10, PRD-4.12

from __future__ import annotations

import dataclasses

import pytest

from reconciler import events, intent
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.policy import isolation, lifecycle, state
from reconciler.sim import machine
from tests.daemon import partitioned, pods
from tests.pipeline import samples

EIGHT = machine.Shape(sockets=2, cores=2, adjacent=True)
ISOLATED = schema.Config(isolation="isolated")
CHOICE = schema.Config(isolation_namespaces=("def*",))


def node(config: schema.Config, *containers: tuple[events.Pod, events.Container]) -> state.State:
    """A machine of 8 CPUs with these containers, all born."""
    now = samples.fresh(EIGHT, config=config)
    for pod, container in containers:
        now, _, _ = lifecycle.admit(now, events.ContainerCreating(pod=pod, container=container))
        now = lifecycle.absorb(now, events.ContainerStarting(pod=pod, container=container))
    return now


def wish(now: state.State, container: events.Container) -> isolation.Wish | None:
    """What is wished for a container as the inventory has it."""
    return isolation.wish(now, now.inventory.containers[container.id], now.ledger.intents[container.id])


def one(
    config: schema.Config, pod: events.Pod, *, whole: int = 2
) -> tuple[state.State, isolation.Wish | None]:
    """A node with one container of this pod, and what is wished for it."""
    container = pods.container(pod, whole=whole)
    now = node(config, (pod, container))
    return now, wish(now, container)


@pytest.mark.parametrize(("level", "kind"), [("partition", "root"), ("isolated", "isolated")])
def test_every_exclusive_container_is_a_partition_of_the_configured_kind(
    level: schema.Isolation, kind: str
) -> None:
    now, its = one(schema.Config(isolation=level), pods.guaranteed("db"))
    assert its is not None
    claim = next(iter(now.ledger.claims.values()))
    assert (its.asked, its.level, its.kind, its.cpus, its.why) == (level, level, kind, claim.cpus, "")
    assert list(isolation.wishes(now)) == list(now.ledger.intents)


def test_an_annotated_list_is_a_partition_of_just_that_list() -> None:
    _, its = one(ISOLATED, pods.guaranteed("db", "2,5"))
    assert its is not None
    assert (its.kind, its.cpus) == ("isolated", CpuSet((2, 5)))


def test_by_default_nobody_is_a_partition() -> None:
    now, its = one(schema.Config(), pods.guaranteed("db"))
    assert its is not None
    assert (its.asked, its.level, its.kind, its.why) == ("cpuset", "cpuset", "", "")
    assert isolation.wishes(now) == {}
    assert not isolation.is_in_use(now)


@pytest.mark.parametrize(
    ("pod", "whole"),
    [
        pytest.param(pods.pod("web"), 0, id="shared"),
        pytest.param(pods.pod("web", annotations={pods.CORES: "2-3"}), 0, id="annotated-shared"),
        pytest.param(pods.guaranteed("web"), 0, id="fractional"),
    ],
)
def test_who_has_no_cpus_of_its_own_is_none(pod: events.Pod, whole: int) -> None:
    now, its = one(ISOLATED, pod, whole=whole)
    assert its is None
    assert isolation.wishes(now) == {}


@pytest.mark.parametrize("level", isolation.LEVELS)
def test_a_pod_of_a_trusted_namespace_chooses(level: str) -> None:
    _, its = one(CHOICE, partitioned.isolated("db", level))
    assert its is not None
    assert (its.asked, its.level, its.why) == (level, level, "")


def test_a_pod_of_another_namespace_has_what_is_configured_and_is_told() -> None:
    config = schema.Config(isolation="partition", isolation_namespaces=("storage",))
    _, its = one(config, partitioned.isolated("db", "cpuset"))
    assert its is not None
    assert its.level == "partition"
    why = "annotation weka.io/isolation: namespace default may not choose (isolationNamespaces)"
    assert its.why == f"{why}, and it is ignored"


def test_a_word_that_is_no_level_is_ignored_and_told() -> None:
    _, its = one(CHOICE, partitioned.isolated("db", "Isolated"))
    assert its is not None
    assert its.level == "cpuset"
    assert its.why == (
        "annotation weka.io/isolation: it is none of cpuset, partition, isolated, and is ignored"
    )


def test_two_containers_of_one_list_are_no_partition_while_both_are_there() -> None:
    pod = pods.guaranteed("db", "2-3")
    main, side = pods.container(pod, whole=2), pods.container(pod, "side")
    now = node(ISOLATED, (pod, main), (pod, side))
    for container, other in ((main, "side"), (side, "main")):
        its = wish(now, container)
        assert its is not None
        assert (its.asked, its.level) == ("isolated", "cpuset")
        assert its.why == f"CPUs 2-3 are container {other}'s too, and a partition is one container's"
    assert isolation.wishes(now) == {}
    now = lifecycle.absorb(now, events.ContainerStopped(pod=pod, container=side))
    assert set(isolation.wishes(now)) == {main.id}


def test_a_container_with_a_list_of_its_own_is_one_beside_another() -> None:
    made = pods.guaranteed("db", "2-3")
    pod = dataclasses.replace(made, annotations={**made.annotations, f"{intent.CORES}.side": "5"})
    main, side = pods.container(pod, whole=2), pods.container(pod, "side", whole=1)
    now = node(ISOLATED, (pod, main), (pod, side))
    wanted = {id_: str(its.cpus) for id_, its in isolation.wishes(now).items()}
    assert wanted == {main.id: "2-3", side.id: "5"}


def test_lists_that_overlap_are_none() -> None:
    config = schema.Config(isolation="isolated", annotated_overlap="allow")
    first, second = pods.guaranteed("db", "2-3"), pods.guaranteed("dc", "3-4")
    main, other = pods.container(first, whole=2), pods.container(second, whole=2)
    now = node(config, (first, main), (second, other))
    assert isolation.wishes(now) == {}
    its = wish(now, main)
    assert its is not None
    assert its.why == "CPU 3 is in the list of default/dc too"


def test_one_that_has_stopped_or_has_no_cgroup_is_none() -> None:
    pod = pods.guaranteed("db")
    nowhere = dataclasses.replace(pods.container(pod, "kata", whole=1), cgroup=None)
    stopped = pods.container(pod, whole=2)
    now = node(ISOLATED, (pod, stopped), (pod, nowhere))
    now = lifecycle.absorb(now, events.ContainerStopped(pod=pod, container=stopped))
    assert (wish(now, stopped), wish(now, nowhere)) == (None, None)


def test_one_whose_cpus_are_all_offline_is_none() -> None:
    pod = pods.guaranteed("db", "2-3")
    container = pods.container(pod, whole=2)
    now = node(ISOLATED, (pod, container))
    topology = samples.topology(EIGHT, online="0-1,4-7")
    after = dataclasses.replace(now, terms=state.terms(topology, ISOLATED))
    assert wish(after, container) is None
