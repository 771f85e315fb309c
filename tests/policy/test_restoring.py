"""Going on with a checkpoint: what is held stays held, what does not fit is dropped, what changed is seen."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from rpds import HashTrieMap

from reconciler import events, intent, observed
from reconciler.config import schema
from reconciler.policy import checkpoint, desired, lifecycle, restoring, state
from reconciler.sim import machine
from tests.pipeline import samples
from tests.pipeline.samples import cpus
from tests.policy import fleet
from tests.policy import test_sequences as sequences
from tests.policy.test_sequences import FRESH, STEPS, Step, step

# covers: PRD-6.1, PRD-6.5, PRD-6.7

EIGHT = machine.Shape(sockets=1, cores=4, adjacent=True)
DB = samples.pod("db", qos=samples.GUARANTEED)
OTHER = samples.pod("other", qos=samples.GUARANTEED)
LISTED = samples.pod("listed", qos=samples.GUARANTEED, annotations={intent.CORES: "2-3"})
KIND = intent.Kind


def running(pod: events.Pod, count: int = 2, *, name: str = "main", attempt: int = 0) -> events.Container:
    return samples.container(
        pod, name, limits=samples.whole(count), attempt=attempt, phase=events.Phase.RUNNING
    )


def a_node(
    *containers: tuple[events.Pod, events.Container], config: schema.Config | None = None
) -> state.State:
    """A node on which these were created, one after the other."""
    now = samples.fresh(EIGHT, config=config)
    for pod, its in containers:
        now = lifecycle.absorb(now, events.PodStarted(pod=pod))
        now, _, _ = lifecycle.admit(now, samples.creating(pod, its))
        now = lifecycle.absorb(now, events.ContainerStarting(pod=pod, container=its))
    return now


def held(now: state.State) -> dict[str, str]:
    return {
        f"{claim.pod}/{key.name}".rstrip("/"): str(claim.cpus) for key, claim in now.ledger.claims.items()
    }


def restarted(
    before: state.State,
    *containers: tuple[events.Pod, events.Container],
    looks: dict[str, str] | None = None,
    terms: state.Terms | None = None,
) -> state.State:
    """The agent starts with what was saved of `before`, while these run, on what `looks` says by pod, else
    where they were placed."""
    saved = checkpoint.decode(b"".join(checkpoint.encode(before, checkpoint.Origin())))
    terms = terms or before.terms
    now = state.State(terms=terms, ledger=restoring.fit(saved.ledger, terms)[0])
    pods = {pod.sandbox: pod for pod, _ in containers}
    now = lifecycle.absorb(
        now, events.Synchronized(pods=tuple(pods.values()), containers=tuple(its for _, its in containers))
    )
    now = restoring.confirm(now, saved.shares)
    placed = desired.desired(before)
    seen = {
        its.id: samples.look((looks or {}).get(pod.name) or str(placed[its.id].cpus))
        for pod, its in containers
    }
    return lifecycle.retry(lifecycle.adopt(now, observed.asked_for(seen)))


def test_a_claim_holds_though_somebody_else_wrote_to_the_container_meanwhile() -> None:
    db = DB, running(DB)
    assert held(restarted(a_node(db), db, looks={"db": "6-7"})) == {"test/db/main": "2-3"}


def test_a_container_that_is_down_keeps_its_claim_and_nobody_gets_it() -> None:
    db, other = (DB, running(DB)), (OTHER, running(OTHER))
    before = a_node(db)
    saved = restarted(before, (DB, running(DB, 0, name="side")), looks={"db": "0-1,4-7"})
    assert held(saved) == {"test/db/main": "2-3"}
    after, placement, _ = lifecycle.admit(saved, samples.creating(*other))
    assert str(placement.cpus) == "4-5"
    _, placement, _ = lifecycle.admit(after, samples.creating(DB, running(DB, attempt=1)))
    assert str(placement.cpus) == "2-3"


def test_a_pod_that_is_gone_holds_nothing_and_is_remembered() -> None:
    db, other = (DB, running(DB)), (OTHER, running(OTHER))
    now = restarted(a_node(db, other), other)
    assert held(now) == {"test/other/main": "4-5"}
    assert dict(now.ledger.former) == {state.FormerKey("test/db", "main"): cpus("2-3")}


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(events.CpuLimits(shares=2048, quota=150_000, period=100_000), id="same shares"),
        pytest.param(events.CpuLimits(quota=300_000, period=100_000), id="a runtime that tells no shares"),
    ],
)
def test_the_class_stays_where_the_quota_alone_was_changed(limits: events.CpuLimits) -> None:
    db = running(DB)
    now = restarted(a_node((DB, db)), (DB, dataclasses.replace(db, limits=limits)))
    assert now.ledger.intents[db.id].kind is KIND.INTEGER
    assert held(now) == {"test/db/main": "2-3"}


@pytest.mark.parametrize(
    ("count", "looks", "expected"),
    [
        pytest.param(4, "2-5", {"test/db/main": "2-5"}, id="grown before the last save"),
        pytest.param(4, "2-3", {"test/db/main": "2-5"}, id="grown while the agent was down"),
        pytest.param(1, "3", {"test/db/main": "3"}, id="shrunk before the last save"),
        pytest.param(1, "2-3", {"test/db/main": "2"}, id="shrunk while the agent was down"),
    ],
)
def test_a_resize_that_was_not_saved_is_followed(count: int, looks: str, expected: dict[str, str]) -> None:
    db = running(DB)
    resized = dataclasses.replace(db, limits=samples.whole(count))
    now = restarted(a_node((DB, db)), (DB, resized), looks={"db": looks})
    assert held(now) == expected
    assert now.ledger.intents[db.id].count == count


def test_a_resize_to_another_class_that_was_not_saved_gives_the_claim_back() -> None:
    db = running(DB)
    resized = dataclasses.replace(db, limits=events.CpuLimits(shares=1536, quota=150_000, period=100_000))
    now = restarted(a_node((DB, db)), (DB, resized))
    assert held(now) == {}
    assert now.ledger.intents[db.id].kind is KIND.SHARED


def test_a_move_that_was_not_saved_stays_made() -> None:
    db, listed = (DB, running(DB)), (LISTED, running(LISTED))
    after = a_node(db, listed)
    assert held(after) == {"test/db/main": "4-5", "test/listed": "2-3"}
    now = restarted(a_node(db), db, listed, looks={"db": "6-7", "listed": "2-3"})
    assert held(now) == {"test/db/main": "6-7", "test/listed": "2-3"}


def test_a_move_stays_made_though_neither_it_nor_who_has_the_former_cpus_was_saved() -> None:
    db, other = (DB, running(DB)), (OTHER, running(OTHER))
    now = restarted(a_node(db), db, other, looks={"db": "6-7", "other": "2-3"})
    assert held(now) == {"test/db/main": "6-7", "test/other/main": "2-3"}


def test_a_container_moves_for_a_list_that_came_while_the_agent_was_down() -> None:
    db, listed = (DB, running(DB)), (LISTED, running(LISTED))
    now = restarted(a_node(db), db, listed, looks={"db": "2-3", "listed": "0-7"})
    assert held(now) == {"test/db/main": "4-5", "test/listed": "2-3"}


def test_cpus_that_an_init_container_has_left_serve_its_pod_after_a_restart() -> None:
    init, main = running(DB, name="init"), running(DB, name="main")
    now = restarted(a_node((DB, init)), (DB, main), looks={"db": "2-3"})
    assert held(now) == {"test/db/main": "2-3"}


def test_what_was_left_alone_and_no_longer_is_is_judged_anew() -> None:
    db = DB, running(DB)
    alone = schema.Config(unmanaged_namespaces=("test",))
    managed = samples.fresh(EIGHT).terms
    now = restarted(a_node(db, config=alone), db, terms=managed, looks={"db": "4-5"})
    assert held(now) == {"test/db/main": "4-5"}
    now = restarted(now, db, terms=samples.fresh(EIGHT, config=alone).terms)
    assert held(now) == {}
    assert now.ledger.intents[db[1].id].kind is KIND.UNMANAGED


def test_of_those_that_are_known_only_the_holders_of_claims_count_as_placed() -> None:
    db, other, web = (DB, running(DB, 6)), (OTHER, running(OTHER, 6)), samples.pod("web")
    its = samples.container(web, phase=events.Phase.RUNNING)
    now = lifecycle.absorb(
        samples.fresh(EIGHT), events.Synchronized(pods=(DB, OTHER, web), containers=(db[1], other[1], its))
    )
    assert set(restoring.placed(lifecycle.adopt(now, {}))) == {db[1].id}


def test_an_unsatisfied_container_is_tried_again() -> None:
    db, other = (DB, running(DB, 6)), (OTHER, running(OTHER, 6))
    now = samples.fresh(EIGHT)
    now = lifecycle.absorb(now, events.Synchronized(pods=(DB, OTHER), containers=(db[1], other[1])))
    now = lifecycle.adopt(now, {})
    assert set(now.ledger.unsatisfied) == {other[1].id}
    again = restarted(now, db, other, looks={"db": "2-7", "other": "0-1"})
    assert again.ledger.unsatisfied == now.ledger.unsatisfied
    alone = restarted(now, other, looks={"other": "0-1"})
    assert held(alone) == {"test/other/main": "2-7"}
    assert dict(alone.ledger.unsatisfied) == {}


@pytest.mark.parametrize("online", ["0-1,4-7", "0-2,4-7", "0-7"])
def test_offline_cpus_stay_in_a_claim(online: str) -> None:
    terms = state.terms(samples.topology(EIGHT, online=online), schema.Config())
    ledger, misfits = restoring.fit(a_node((DB, running(DB))).ledger, terms)
    assert held(state.State(terms=terms, ledger=ledger)) == {"test/db/main": "2-3"}
    assert misfits == ()


def test_a_claim_on_cpus_that_the_machine_no_longer_has_is_dropped_and_made_anew() -> None:
    db, other = (DB, running(DB)), (OTHER, running(OTHER))
    four = samples.fresh(machine.Shape(sockets=1, cores=2, adjacent=True)).terms
    before = a_node(db, other)
    ledger, misfits = restoring.fit(before.ledger, four)
    assert [(its.claim.holder, its.why) for its in misfits] == [
        ("test/other container main", "this machine has no CPU 4-5")
    ]
    assert held(state.State(terms=four, ledger=ledger)) == {"test/db/main": "2-3"}
    now = restarted(before, other, terms=four, looks={"other": "0-3"})
    assert held(now) == {"test/other/main": "2-3"}
    assert now.ledger.intents[other[1].id] == before.ledger.intents[other[1].id]


def claim(name: str, kind: intent.Kind, text: str) -> state.Claim:
    key = state.ClaimKey(events.PodUid(f"uid-{name}"), "main" if kind is KIND.INTEGER else "")
    return state.Claim(key=key, kind=kind, cpus=cpus(text), pod=f"test/{name}", holders=frozenset({"main"}))


@pytest.mark.parametrize(
    ("claims", "overlap", "kept"),
    [
        pytest.param(
            [claim("a", KIND.INTEGER, "2-3"), claim("b", KIND.INTEGER, "3-4")], "refuse", "a", id="integers"
        ),
        pytest.param(
            [claim("a", KIND.INTEGER, "2-3"), claim("b", KIND.ANNOTATED_SHARED, "3")],
            "allow",
            "b",
            id="a list before an integer container",
        ),
        pytest.param(
            [claim("a", KIND.ANNOTATED_SHARED, "2-3"), claim("b", KIND.ANNOTATED_EXCLUSIVE, "3")],
            "refuse",
            "b",
            id="an exclusive list before a shared one",
        ),
        pytest.param(
            [claim("a", KIND.ANNOTATED_SHARED, "2-3"), claim("b", KIND.ANNOTATED_SHARED, "3")],
            "refuse",
            "ab",
            id="shared lists",
        ),
        pytest.param(
            [claim("a", KIND.ANNOTATED_EXCLUSIVE, "2-3"), claim("b", KIND.ANNOTATED_EXCLUSIVE, "3")],
            "allow",
            "ab",
            id="lists that may overlap",
        ),
    ],
)
def test_claims_that_exclude_each_other_are_not_both_taken(
    claims: list[state.Claim], overlap: str, kept: str
) -> None:
    ledger = state.Ledger()
    for its in claims:
        ledger = ledger.with_claim(its)
    config = schema.convert({"annotatedOverlap": overlap})
    fitting, misfits = restoring.fit(ledger, samples.fresh(EIGHT, config=config).terms)
    assert {its.pod for its in fitting.claims.values()} == {f"test/{name}" for name in kept}
    assert len(misfits) == len(claims) - len(kept)
    assert (fitting.exclusive, fitting.pinned) == state.unions(fitting.claims)


def test_former_cpus_are_kept_once_and_only_where_nobody_holds_them() -> None:
    former = {
        state.FormerKey("test/a", "main"): cpus("6-7"),
        state.FormerKey("test/b", "main"): cpus("5-6"),
        state.FormerKey("test/c", "main"): cpus("2"),
        state.FormerKey("test/d", "main"): cpus("9"),
    }
    ledger = dataclasses.replace(a_node((DB, running(DB))).ledger, former=HashTrieMap(former))
    fitting, _ = restoring.fit(ledger, samples.fresh(EIGHT).terms)
    assert {key.pod for key in fitting.former} == {"test/a"}


@given(STEPS)
@settings(deadline=None, max_examples=150, print_blob=True)
def test_a_restart_with_a_checkpoint_changes_no_claim_and_no_placement(steps: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
    its.reconnect()
    before = its.now
    saved = checkpoint.decode(b"".join(checkpoint.encode(before, checkpoint.Origin())))
    ledger, misfits = restoring.fit(saved.ledger, before.terms)
    assert misfits == ()
    assert ledger == before.ledger
    its.now = state.State(terms=before.terms, ledger=ledger)
    its.reconnect()
    assert its.now == before


@given(STEPS, STEPS)
@settings(deadline=None, max_examples=150, print_blob=True)
def test_an_old_checkpoint_breaks_no_rule(steps: list[Step], since: list[Step]) -> None:
    its = fleet.Fleet(FRESH)
    for done in steps:
        step(its, done)
    saved = checkpoint.decode(b"".join(checkpoint.encode(its.now, checkpoint.Origin())))
    for done in since:
        step(its, done)
    its.now = state.State(terms=FRESH.terms, ledger=restoring.fit(saved.ledger, FRESH.terms)[0])
    its.reconnect()
    sequences.check_claims(its.now)
    sequences.check_entitlement(its.now)
    sequences.check_bounds(its.now)
