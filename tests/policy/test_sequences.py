"""Whatever comes in whatever order, claims are disjoint, the pool is the rest, and nothing piles up."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import events, intent, inventory
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.policy import desired, lifecycle, state
from tests.pipeline import samples
from tests.policy import fleet

# covers: PRD-3.4, PRD-4.4, PRD-5.5, PRD-6.1, PRD-6.5

THOROUGH = settings(deadline=None, max_examples=150, print_blob=True)
CONFIG = schema.Config(min_shared_cpus=2, reserved_cpus="0")
FRESH = samples.fresh(fleet.SHAPE, config=CONFIG)

PODS = st.sampled_from(sorted(fleet.MANIFESTS))
CONTAINERS = st.sampled_from(sorted(fleet.LIMITS))
KINDS = ["create"] * 5 + ["exit"] * 2 + ["run", "miss", "forget", "end", "reconnect", "restart"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        PODS,
        CONTAINERS,
    ),
    min_size=5,
    max_size=40,
)
Step = tuple[str, str, str]


def step(its: fleet.Fleet, done: Step) -> None:
    what, pod, container = done
    if what in ("create", "miss") and pod not in its.pods:
        what = "run"
    match what:
        case "run":
            its.run(pod)
        case "create":
            its.create(pod, container)
        case "miss":
            its.miss(pod, container)
        case "exit":
            its.exit(pod, container)
        case "forget":
            its.forget(pod, container)
        case "end":
            its.end_sandbox(pod)
        case "reconnect":
            its.reconnect()
        case _:
            its.restart()


def check_claims(now: state.State) -> None:
    """Disjoint, as the ledger says, and all but them is the pool."""
    claims = list(now.ledger.claims.values())
    exclusive, shared = CpuSet(), CpuSet()
    for claim in claims:
        assert claim.cpus
        assert claim.holders
        if claim.exclusive:
            assert claim.cpus.isdisjoint(exclusive), claim
            exclusive |= claim.cpus
        else:
            shared |= claim.cpus
    assert exclusive.isdisjoint(shared)
    assert (now.ledger.exclusive, now.ledger.pinned) == (exclusive, shared)
    assert state.unions(now.ledger.claims) == (exclusive, shared)
    assert now.pool == now.terms.poolable - exclusive
    assert len(now.pool) >= now.terms.min_shared


def check_entitlement(now: state.State) -> None:
    """Everyone who runs has what it is entitled to, or is unsatisfied; nobody else has it too."""
    for id_, its in desired.desired(now).items():
        container, what = now.inventory.containers[id_], now.ledger.intents[id_]
        assert its.cpus
        if its.owner is None:
            assert its.cpus.isdisjoint(now.ledger.exclusive)
        if container.name == inventory.PAUSE:
            assert its.cpus == now.pool
        elif id_ in now.ledger.unsatisfied:
            continue
        elif what.kind is intent.Kind.INTEGER:
            assert its.owner is not None
            assert len(its.cpus) == what.count
            assert its.cpus.isdisjoint(now.terms.reserved | what.forbidden)
        elif what.kind is intent.Kind.SHARED:
            assert its.cpus == (now.pool - what.forbidden or now.pool)
        else:
            assert its.cpus == what.cpus
            assert its.owner is not None or what.kind is intent.Kind.ANNOTATED_SHARED


def check_bounds(now: state.State) -> None:
    """Nothing is known of anyone who is not there."""
    assert set(now.ledger.intents) == set(now.inventory.containers)
    assert set(now.ledger.unsatisfied) <= set(now.ledger.intents)
    assert {key.uid for key in now.ledger.claims} <= {pod.uid for pod in now.inventory.pods.values()}


@given(STEPS)
@THOROUGH
def test_after_every_event_claims_are_disjoint_and_the_pool_is_the_rest(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
        check_claims(its.now)


@given(STEPS)
@THOROUGH
def test_after_every_event_everyone_has_what_it_is_entitled_to_or_is_unsatisfied(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
        check_entitlement(its.now)


@given(STEPS)
@THOROUGH
def test_after_every_event_nothing_is_known_of_anyone_who_is_not_there(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
        check_bounds(its.now)
    for name in fleet.MANIFESTS:
        its.end_sandbox(name)
    assert len(its.now.ledger.former) <= len(FRESH.terms.topology.online)
    ledger = dataclasses.replace(its.now.ledger, former=FRESH.ledger.former)
    assert dataclasses.replace(its.now, ledger=ledger) == FRESH


@given(STEPS, st.integers(0, (1 << 20) - 1))
@THOROUGH
def test_a_part_of_what_is_desired_equals_that_part_of_the_whole(steps: list[Step], scope: int) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
    everything = desired.desired(its.now)
    ids = [id_ for at, id_ in enumerate(sorted(its.now.inventory.containers)) if scope >> at & 1]
    part = desired.desired(its.now, ids)
    assert part == {id_: everything[id_] for id_ in ids if id_ in everything}


@given(STEPS)
@THOROUGH
def test_a_restart_of_the_agent_moves_nobody_who_has_cpus_of_its_own(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
    before = {id_: placed for id_, placed in desired.desired(its.now).items() if placed.owner is not None}
    kinds = its.now.ledger.intents
    its.restart()
    after = desired.desired(its.now)
    for id_, placed in before.items():
        assert after[id_].cpus == placed.cpus
        if kinds[id_].kind is not intent.Kind.ANNOTATED_SHARED:
            assert after[id_] == placed


@given(STEPS)
@THOROUGH
def test_a_reconnection_moves_nobody(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
    before = desired.desired(its.now)
    its.reconnect()
    assert desired.desired(its.now) == before


@given(STEPS)
@THOROUGH
def test_an_event_that_comes_twice_changes_nothing_the_second_time(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
    for pod, container in itertools.product(its.pods.values(), list(its.containers.values())):
        if container.sandbox != pod.sandbox:
            continue
        for kind in (events.ContainerStarting, events.ContainerStopped, events.ContainerRemoved):
            event = kind(pod=pod, container=container)
            once = lifecycle.absorb(its.now, event)
            assert lifecycle.absorb(once, event) == once


@given(STEPS)
@THOROUGH
def test_a_second_look_for_second_chances_finds_none(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
    assert lifecycle.retry(its.now) == its.now


def test_the_steps_reach_grants_refusals_and_containers_that_are_unsatisfied() -> None:
    its = fleet.Fleet(FRESH)
    for pod, container in itertools.product(("listed", "near", "db", "cache"), fleet.LIMITS):
        for what in ("create", "create", "miss"):
            step(its, (what, pod, container))
    assert its.refusals > 0
    assert its.now.ledger.unsatisfied
    assert {claim.kind for claim in its.now.ledger.claims.values()} == {
        intent.Kind.INTEGER,
        intent.Kind.ANNOTATED_EXCLUSIVE,
    }
