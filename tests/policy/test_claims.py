"""The conflict table, what is free, the floor under the pool, and what the refusals say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from reconciler import errors, events, intent
from reconciler.config import schema
from reconciler.policy import integer, lifecycle, state
from reconciler.sim import machine
from tests.pipeline import samples
from tests.pipeline.samples import cpus

# covers: PRD-1.5, PRD-2.4, PRD-3.7, PRD-4.4, PRD-5.1, PRD-5.2, PRD-5.3, PRD-5.5, PRD-6.4

FOUR = machine.Shape(sockets=1, cores=2, adjacent=True)
EIGHT = machine.Shape(sockets=1, cores=4, adjacent=True)


def container(
    name: str, count: int = 0, *, annotations: Mapping[str, str] | None = None, its: str = "main"
) -> events.ContainerCreating:
    """Of the pod `name`, with so many whole CPUs; with none the pod is burstable."""
    qos = samples.GUARANTEED if count else samples.BURSTABLE
    pod = samples.pod(name, qos=qos, annotations=annotations)
    return samples.creating(pod, samples.container(pod, its, limits=samples.whole(count) if count else None))


def annotated(name: str, listed: str, count: int = 0, its: str = "main") -> events.ContainerCreating:
    return container(name, count, annotations={intent.CORES: listed}, its=its)


def admitted(now: state.State, *created: events.ContainerCreating) -> state.State:
    for event in created:
        now, _, _ = lifecycle.admit(now, event)
    return now


def refusal(now: state.State, event: events.ContainerCreating) -> str:
    with pytest.raises(errors.Refused) as refused:
        lifecycle.admit(now, event)
    return str(refused.value)


def held(now: state.State, name: str, its: str = "") -> str:
    """What a pod holds, or a container of it."""
    return str(now.ledger.claims[state.ClaimKey(events.PodUid(f"uid-{name}"), its)].cpus)


EXCLUSIVE = annotated("old", "2-3", 2)
SHARED = annotated("old", "2-3")
INTEGER = container("old", 2)
"""All of them hold 2-3 on an empty node of eight CPUs."""


@pytest.mark.parametrize(
    ("new", "by", "told"),
    [
        (annotated("new", "3-4", 2), EXCLUSIVE, "CPU 3 by annotated-exclusive test/old"),
        (annotated("new", "3-4", 2), SHARED, "CPU 3 by annotated-shared test/old"),
        (annotated("new", "3-4"), EXCLUSIVE, "CPU 3 by annotated-exclusive test/old"),
    ],
    ids=[
        "exclusive/exclusive",
        "exclusive/shared",
        "shared/exclusive",
    ],
)
def test_a_conflict_is_refused_with_who_holds_what(
    new: events.ContainerCreating, by: events.ContainerCreating, told: str
) -> None:
    now = admitted(samples.fresh(EIGHT), by)
    assert refusal(now, new) == (
        f"annotation weka.io/cores-ids=3-4 conflicts with CPUs that are held: {told}; "
        f"choose other CPUs or remove that pod"
    )


def test_all_who_hold_cpus_of_a_list_are_named() -> None:
    now = admitted(samples.fresh(EIGHT), annotated("a", "2-3", 2), annotated("b", "4-5", 2))
    assert "CPU 3 by annotated-exclusive test/a; CPU 4 by annotated-exclusive test/b" in refusal(
        now, annotated("c", "3-4", 1)
    )


def test_annotated_pods_without_integer_semantics_share() -> None:
    now = admitted(samples.fresh(EIGHT), SHARED, annotated("new", "3-4"))
    assert (held(now, "old"), held(now, "new")) == ("2-3", "3-4")
    assert (now.pool, now.ledger.pinned) == (cpus("0-7"), cpus("2-4"))


@pytest.mark.parametrize("by", [EXCLUSIVE, SHARED, INTEGER], ids=["exclusive", "shared", "integer"])
def test_an_integer_container_chooses_others(by: events.ContainerCreating) -> None:
    assert held(admitted(samples.fresh(EIGHT), by, container("new", 2)), "new", "main") == "4-5"


def test_the_first_container_with_whole_cpus_raises_the_claim_of_its_pod_and_none_lowers_it() -> None:
    now = samples.fresh(EIGHT)
    seen = []
    for its, count in (("side", 0), ("main", 2), ("late", 0)):
        now = admitted(now, annotated("db", "2-3", count, its))
        (claim,) = now.ledger.claims.values()
        seen.append((claim.kind.value, sorted(claim.holders), str(now.pool)))
    assert seen == [
        ("annotated-shared", ["side"], "0-7"),
        ("annotated-exclusive", ["main", "side"], "0-1,4-7"),
        ("annotated-exclusive", ["late", "main", "side"], "0-1,4-7"),
    ]


def test_a_claim_is_not_raised_onto_cpus_that_another_annotated_pod_shares() -> None:
    now = admitted(samples.fresh(EIGHT), SHARED, annotated("new", "3-4"))
    assert "CPU 3 by annotated-shared test/new" in refusal(now, annotated("old", "2-3", 2, "more"))


@pytest.mark.parametrize(
    ("event", "told"),
    [
        pytest.param(
            annotated("db", "1,8-9"),
            "annotation weka.io/cores-ids=1,8-9: CPU 8-9 is not online on this node (online: 0-7)",
            id="a list with CPUs that are not online",
        ),
        pytest.param(
            annotated("db", "0-7", 8),
            "annotation weka.io/cores-ids=0-7 would leave 0 CPUs in the shared pool, below the minimum of 1 "
            "(pool now: 0-7); request fewer CPUs",
            id="a list that empties the pool",
        ),
        pytest.param(
            container("db", 8),
            "8 exclusive CPUs would leave 0 CPUs in the shared pool, below the minimum of 1 "
            "(pool now: 0-7); request fewer CPUs",
            id="an integer container that empties the pool",
        ),
        pytest.param(
            container("db", 9),
            "9 exclusive CPUs wanted, 8 of 8 are free; request fewer CPUs or remove a pod that holds some",
            id="more CPUs than there are",
        ),
        pytest.param(
            container("web", annotations={intent.FORBID: "0-7"}),
            "the shared pool is 0-7 and annotation weka.io/forbid-core-ids forbids all of it (0-7); "
            "forbid fewer CPUs",
            id="a forbid list that leaves nothing",
        ),
    ],
)
def test_what_cannot_be_on_an_empty_node(event: events.ContainerCreating, told: str) -> None:
    assert refusal(samples.fresh(EIGHT), event) == told


def test_too_few_free_cpus_are_told_with_where_the_others_are() -> None:
    now = samples.fresh(EIGHT, config=schema.Config(reserved_cpus="0-1"))
    now = admitted(now, annotated("a", "2-3", 2), annotated("b", "4"))
    event = container("new", 3, annotations={intent.FORBID: "6"})
    assert refusal(now, event) == (
        "3 exclusive CPUs wanted, 2 of 8 are free (2 held exclusively, 1 held by annotated pods, 2 reserved, "
        "1 forbidden to this pod); request fewer CPUs or remove a pod that holds some"
    )


@pytest.mark.parametrize(
    ("config", "chosen"),
    [
        pytest.param(schema.Config(), "4-5", id="isolated CPUs are not given"),
        pytest.param(schema.Config(isolated_cpus="use"), "2-3", id="isolated CPUs are given"),
        pytest.param(schema.Config(reserved_cpus="4-5"), "6-7", id="reserved CPUs are not given"),
        pytest.param(schema.Config(reserved_cpus="0-99"), None, id="all are reserved"),
    ],
)
def test_what_an_integer_container_can_get(config: schema.Config, chosen: str | None) -> None:
    now = samples.fresh(EIGHT, isolated="2-3", config=config)
    if chosen is None:
        assert "6 reserved" not in refusal(now, container("db", 2))
        assert "0 of 8 are free (8 reserved)" in refusal(now, container("db", 2))
    else:
        assert held(admitted(now, container("db", 2)), "db", "main") == chosen


def test_a_list_may_name_reserved_and_isolated_cpus() -> None:
    now = samples.fresh(EIGHT, isolated="2-3", config=schema.Config(reserved_cpus="4"))
    assert admitted(now, annotated("db", "2-4", 3)).pool == cpus("0-1,5-7")


@pytest.mark.parametrize(("least", "fits"), [(1, True), (2, True), (3, False)])
def test_the_pool_keeps_its_minimum(least: int, *, fits: bool) -> None:
    now = samples.fresh(EIGHT, config=schema.Config(min_shared_cpus=least))
    if fits:
        assert len(admitted(now, container("db", 6)).pool) == 2
    else:
        assert f"below the minimum of {least}" in refusal(now, container("db", 6))


def ended(now: state.State, event: events.ContainerCreating) -> state.State:
    return lifecycle.absorb(now, events.ContainerStopped(pod=event.pod, container=event.container))


@pytest.mark.parametrize(("count", "has"), [(2, "4-5"), (1, "4"), (4, "4-7")])
def test_the_next_container_of_a_pod_has_the_cpus_of_those_that_have_exited(count: int, has: str) -> None:
    other, first = container("other", 2), container("db", 2, its="init")
    now = ended(admitted(samples.fresh(EIGHT), other, first), first)
    now = admitted(now, container("db", count))
    assert held(now, "db", "main") == has
    assert state.ClaimKey(events.PodUid("uid-db"), "init") not in now.ledger.claims
    assert len(now.pool) == 6 - count


def test_a_container_that_comes_again_keeps_its_claim_though_another_of_its_pod_has_exited() -> None:
    first, second = container("db", 2, its="init"), container("db", 2)
    now = admitted(samples.fresh(EIGHT), second, first)
    now = ended(ended(now, first), second)
    again = samples.container(second.pod, limits=samples.whole(2), attempt=1)
    now = admitted(now, samples.creating(second.pod, again))
    assert (held(now, "db", "init"), held(now, "db", "main")) == ("4-5", "2-3")


def test_cpus_of_exited_containers_serve_the_next_of_their_pod_where_free_ones_do_not_suffice() -> None:
    first = container("db", 4, its="init")
    now = admitted(ended(admitted(samples.fresh(EIGHT), first), first), container("db", 6))
    assert held(now, "db", "main") == "2-7"
    assert list(now.ledger.claims) == [state.ClaimKey(events.PodUid("uid-db"), "main")]


def test_a_pod_of_the_same_name_has_its_former_cpus_back() -> None:
    first, other = container("db", 2), container("other", 2)
    now = admitted(samples.fresh(EIGHT), other, first)
    now = lifecycle.absorb(now, events.PodStopped(sandbox=first.pod.sandbox))
    now = lifecycle.absorb(now, events.PodStopped(sandbox=other.pod.sandbox))
    assert now.pool == cpus("0-7")
    again = dataclasses.replace(first.pod, uid=events.PodUid("uid-again"))
    now = admitted(now, samples.creating(again, first.container))
    assert held(now, "again", "main") == "4-5"


def test_former_cpus_are_forgotten_when_somebody_else_claims_one_of_them() -> None:
    first = container("db", 2)
    now = admitted(samples.fresh(EIGHT), first)
    now = lifecycle.absorb(now, events.PodStopped(sandbox=first.pod.sandbox))
    listed = annotated("listed", "3", 1)
    now = admitted(now, listed)
    now = lifecycle.absorb(now, events.PodStopped(sandbox=listed.pod.sandbox))
    assert not now.ledger.former


def test_former_cpus_of_another_number_are_not_given() -> None:
    first = container("db", 2)
    now = admitted(samples.fresh(EIGHT), container("other", 2), first)
    now = lifecycle.absorb(now, events.PodStopped(sandbox=first.pod.sandbox))
    assert len(admitted(now, container("db", 3)).ledger.exclusive) == 5


def test_cpus_of_exited_containers_serve_where_free_ones_would_starve_the_pool() -> None:
    first = container("db", 2, its="init")
    now = admitted(ended(admitted(samples.fresh(FOUR), first), first), container("db", 2))
    assert (held(now, "db", "main"), now.pool) == ("2-3", cpus("0-1"))


def test_a_container_that_runs_lends_nothing_and_one_of_another_pod_neither() -> None:
    first, other = container("db", 4, its="init"), container("other", 2)
    now = admitted(samples.fresh(EIGHT), first)
    assert "1 of 8" not in refusal(now, container("db", 5))
    assert "4 of 8 are free" in refusal(now, container("db", 5))
    now = ended(admitted(now, other), other)
    assert "2 of 8 are free" in refusal(now, container("db", 5))


def test_what_is_lent_is_no_more_than_the_pod_may_use_and_the_rest_goes_back_to_the_pool() -> None:
    first = container("db", 4, its="init")
    now = ended(admitted(samples.fresh(EIGHT), first), first)
    now = admitted(now, container("db", 6, annotations={intent.FORBID: "3"}))
    assert (held(now, "db", "main"), now.pool) == ("1-2,4-7", cpus("0,3"))


def test_as_little_is_taken_from_the_pool_as_its_minimum_demands() -> None:
    first = container("db", 2, its="init")
    now = samples.fresh(EIGHT, config=schema.Config(min_shared_cpus=4))
    now = ended(admitted(now, first), first)
    assert "below the minimum of 4" in refusal(now, container("db", 5))
    now = admitted(now, container("db", 4))
    assert (held(now, "db", "main"), len(now.pool)) == ("2-5", 4)
    assert "4 of 8 are free" in refusal(now, container("db", 5, its="more"))


@pytest.mark.parametrize(
    ("runs_on", "kept"),
    [
        pytest.param("6-7", "6-7", id="valid"),
        pytest.param("5,7", "5,7", id="valid, though not the best"),
        pytest.param("5-7", None, id="too many"),
        pytest.param("7", None, id="too few"),
        pytest.param("2-3", None, id="held by someone"),
        pytest.param("0,7", None, id="reserved"),
        pytest.param("7-8", None, id="not online"),
    ],
)
def test_what_a_container_runs_on_is_kept_where_it_may_have_it(runs_on: str, kept: str | None) -> None:
    now = admitted(
        samples.fresh(EIGHT, config=schema.Config(reserved_cpus="0")), annotated("other", "2-3", 2)
    )
    event = container("db", 2)
    what = intent.decide(event.pod, event.container, now.terms.config)
    ledger = integer.take_as_is(now, event.pod, event.container, what, cpus(runs_on))
    if kept is None:
        assert ledger is None
    else:
        assert ledger is not None
        assert str(ledger.claims[state.ClaimKey(event.pod.uid, "main")].cpus) == kept


def test_a_refusal_changes_nothing() -> None:
    now = admitted(samples.fresh(EIGHT), EXCLUSIVE, container("web"))
    copy = dict(now.ledger.claims), dict(now.ledger.intents), dict(now.inventory.containers), now.pool
    refusal(now, annotated("new", "3", 1))
    refusal(now, container("big", 7))
    assert (
        dict(now.ledger.claims),
        dict(now.ledger.intents),
        dict(now.inventory.containers),
        now.pool,
    ) == copy


def test_annotated_pods_may_overlap_where_the_configuration_allows_it() -> None:
    now = samples.fresh(EIGHT, config=schema.Config(annotated_overlap="allow"))
    now = admitted(now, EXCLUSIVE, annotated("new", "3-4", 2), annotated("third", "4-5"))
    assert (held(now, "old"), held(now, "new"), held(now, "third")) == ("2-3", "3-4", "4-5")
    assert now.pool == cpus("0-1,5-7")
    gone = lifecycle.absorb(now, events.PodStopped(sandbox=EXCLUSIVE.pod.sandbox))
    assert gone.pool == cpus("0-2,5-7")


def test_a_namespace_that_may_not_name_cpus_is_told_so() -> None:
    now = samples.fresh(EIGHT, config=schema.Config(annotated_namespaces=("storage", "db-*")))
    assert refusal(now, annotated("new", "3", 1)) == (
        "annotation weka.io/cores-ids: namespace test may not name CPUs on this node (annotatedNamespaces: "
        "storage, db-*); remove the annotation or have the namespace allowed"
    )


def test_a_namespace_holds_no_more_than_its_maximum() -> None:
    now = samples.fresh(EIGHT, config=schema.Config(max_exclusive_cpus={"te*": 3, "other": 0}))
    now = admitted(now, container("db", 2))
    told = (
        "would give namespace test 4 exclusive CPUs, above its maximum of 3 (maxExclusiveCpus); "
        "request fewer CPUs or remove another of its pods"
    )
    assert refusal(now, container("new", 2)) == f"2 exclusive CPUs {told}"
    assert refusal(now, annotated("new", "6-7", 2)) == f"annotation weka.io/cores-ids=6-7 {told}"
    now = admitted(now, annotated("shares", "5-7"), container("one", 1))
    assert len(now.ledger.exclusive) == 3


def test_a_list_of_one_container_is_its_own_claim() -> None:
    listed = {intent.CORES: "2-3", f"{intent.CORES}.side": "6"}
    now = admitted(
        samples.fresh(EIGHT),
        container("db", 2, annotations=listed),
        container("db", 1, annotations=listed, its="side"),
    )
    assert (held(now, "db"), held(now, "db", "side")) == ("2-3", "6")


def test_lists_of_one_pod_may_not_overlap_where_one_is_exclusive() -> None:
    listed = {intent.CORES: "2-3", f"{intent.CORES}.side": "3-4"}
    now = admitted(samples.fresh(EIGHT), container("db", 2, annotations=listed))
    assert refusal(now, container("db", 2, annotations=listed, its="side")) == (
        "annotation weka.io/cores-ids.side=3-4 conflicts with CPUs that are held: CPU 3 by "
        "annotated-exclusive test/db; choose other CPUs or remove that pod"
    )
