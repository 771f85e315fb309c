"""A resize in place grows and shrinks claims, changes classes, and is refused without a trace."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler import errors, events, intent
from reconciler.policy import lifecycle, resizing, state
from reconciler.sim import machine
from tests.pipeline import samples
from tests.pipeline.samples import cpus
from tests.policy.test_moving import annotated, held, integer

# covers: PRD-2.12, PRD-5.5

EIGHT = machine.Shape(sockets=1, cores=4, adjacent=True)
PODS = {name: integer(name, 2) for name in ("db", "web")}


def node(*created: events.ContainerCreating) -> state.State:
    now = samples.fresh(EIGHT)
    for event in created:
        now, _, _ = lifecycle.admit(now, event)
    return now


def resized(now: state.State, of: events.ContainerCreating, limits: events.CpuLimits) -> state.State:
    event = events.ContainerUpdating(pod=of.pod, container=of.container, limits=limits)
    assert resizing.is_resize(event)
    return resizing.resize(now, event)


FRACTION = events.CpuLimits(shares=1536, quota=150_000, period=100_000)


@pytest.mark.parametrize(
    ("count", "has"), [(1, "2"), (2, "2-3"), (3, "2-3,6"), (4, "2-3,6-7"), (5, "1-3,6-7")]
)
def test_a_claim_grows_and_shrinks_and_keeps_what_it_can(count: int, has: str) -> None:
    now = resized(node(PODS["db"], PODS["web"]), PODS["db"], samples.whole(count))
    assert held(now) == {"db": has, "web": "4-5"}
    assert now.pool == cpus("0-7") - cpus(has) - cpus("4-5")


def test_a_claim_shrinks_by_whole_cores() -> None:
    now = resized(node(integer("db", 4)), integer("db", 4), samples.whole(2))
    assert held(now) == {"db": "2-3"}


def test_a_change_of_the_quota_alone_is_no_resize() -> None:
    limits = events.CpuLimits(quota=50_000)
    its = PODS["db"]
    assert not resizing.is_resize(
        events.ContainerUpdating(pod=its.pod, container=its.container, limits=limits)
    )


def test_who_loses_integer_semantics_shares_the_pool_and_who_gains_them_has_its_own() -> None:
    now = resized(node(PODS["db"], PODS["web"]), PODS["db"], FRACTION)
    assert (held(now), now.pool) == ({"web": "4-5"}, cpus("0-3,6-7"))
    assert now.ledger.intents[PODS["db"].container.id].kind is intent.Kind.SHARED
    now = resized(now, PODS["db"], samples.whole(2))
    assert held(now) == {"web": "4-5", "db": "2-3"}


def test_the_claim_of_an_annotated_pod_is_raised_and_lowered_with_its_containers() -> None:
    event = annotated("2-3", 2)
    now = resized(node(event), event, FRACTION)
    assert [claim.kind for claim in now.ledger.claims.values()] == [intent.Kind.ANNOTATED_SHARED]
    assert (now.pool, now.ledger.pinned) == (cpus("0-7"), cpus("2-3"))
    now = resized(now, event, samples.whole(2))
    assert (now.pool, now.ledger.pinned) == (cpus("0-1,4-7"), cpus(""))


def test_the_claim_stays_exclusive_while_another_container_of_the_pod_is() -> None:
    event = annotated("2-3", 2)
    side = samples.container(event.pod, "side", limits=samples.whole(1))
    now = resized(node(event, samples.creating(event.pod, side)), event, FRACTION)
    assert now.pool == cpus("0-1,4-7")


@pytest.mark.parametrize("count", [8, 9])
def test_a_resize_that_cannot_be_is_refused_and_changes_nothing(count: int) -> None:
    before = node(PODS["db"])
    with pytest.raises(errors.Refused):
        resized(before, PODS["db"], samples.whole(count))
    assert held(before) == {"db": "2-3"}


@pytest.mark.parametrize(("count", "has"), [(1, "2"), (2, "4-5"), (3, "2,4-5"), (5, "2-6"), (6, "0-5")])
def test_a_short_claim_keeps_its_offline_cpus_in_growing_and_gives_them_back_first_in_shrinking(
    count: int, has: str
) -> None:
    its = integer("db", 4)
    before = node(its)
    assert held(before) == {"db": "2-5"}
    terms = state.terms(samples.topology(EIGHT, online="0-2,4-6"), before.terms.config)
    now = resized(dataclasses.replace(before, terms=terms), its, samples.whole(count))
    assert held(now) == {"db": has}
