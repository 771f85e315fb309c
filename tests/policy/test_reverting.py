"""A step that could not be carried out is taken back whole, but for what others have been granted since."""

from __future__ import annotations

import dataclasses

from reconciler import events
from reconciler.config import schema
from reconciler.policy import lifecycle, reverting, state
from tests.pipeline import samples
from tests.pipeline.samples import cpus
from tests.policy import test_moving
from tests.policy.test_moving import annotated, held, integer
from tests.policy.test_resizing import FRACTION, resized

# covers: PRD-4.8

DB, WEB = integer("db", 2), integer("web", 2)
ID = DB.container.id


def node(*created: events.ContainerCreating) -> state.State:
    return test_moving.node(*created)


def admitted(now: state.State, event: events.ContainerCreating) -> state.State:
    return lifecycle.admit(now, event)[0]


def ended(now: state.State, event: events.ContainerCreating) -> state.State:
    return lifecycle.absorb(now, events.PodRemoved(sandbox=event.pod.sandbox))


def test_a_creation_that_moved_others_leaves_nothing_behind() -> None:
    event = annotated("2-3", 2)
    before = lifecycle.absorb(node(DB), events.PodStarted(pod=event.pod))
    after = admitted(before, event)
    assert reverting.revert(after, before, after, event.container.id) == before


def test_former_cpus_that_the_step_would_have_taken_are_remembered_again() -> None:
    before = ended(node(DB, WEB), WEB)
    after = resized(before, DB, samples.whole(5))
    assert before.ledger.former
    assert not after.ledger.former
    assert reverting.revert(after, before, after, ID) == before


def test_a_step_is_taken_back_below_the_minimum_if_it_began_there() -> None:
    before = node(DB, WEB)
    terms = state.terms(before.terms.topology, schema.Config(min_shared_cpus=6))
    before = dataclasses.replace(before, terms=terms)
    after = resized(before, DB, samples.whole(1))
    assert reverting.revert(after, before, after, ID) == before


def test_what_has_come_since_stays() -> None:
    before = node(DB)
    after = resized(before, DB, samples.whole(4))
    since = admitted(after, WEB)
    back = reverting.revert(since, before, after, ID)
    assert held(back) == {"db": "2-3", "web": held(since)["web"]}
    assert back.ledger.intents[ID] == before.ledger.intents[ID]
    assert back.inventory.containers[ID].limits == samples.whole(2)


def test_who_moved_stays_where_it_is_to_go_when_its_cpus_are_someone_elses_now() -> None:
    before = node(DB)
    event = annotated("3", 1)
    after = admitted(before, event)
    since = admitted(after, annotated_too("2"))
    assert (held(before)["db"], held(after)["db"]) == ("2-3", "4-5")
    assert held(reverting.revert(since, before, after, event.container.id)) == {"db": "4-5", "other": "2"}


def test_a_claim_that_another_attempt_runs_on_by_now_stays() -> None:
    event = annotated("2-3", 2)
    before = node(DB)
    after = admitted(before, event)
    again = dataclasses.replace(event.container, id=events.ContainerId("again"))
    since = lifecycle.absorb(after, events.ContainerStarting(pod=event.pod, container=again))
    back = reverting.revert(since, before, after, event.container.id)
    assert held(back) == held(after) == {"db": "4-5", "listed": "2-3"}
    assert event.container.id not in back.inventory.containers
    assert again.id in back.ledger.intents


def test_who_shrank_keeps_its_new_size_when_someone_else_has_its_cpus_now() -> None:
    before = node(DB)
    after = resized(before, DB, samples.whole(1))
    since = admitted(after, annotated_too("3"))
    assert reverting.revert(since, before, after, ID) == since


def test_who_shrank_keeps_its_new_size_when_the_pool_cannot_spare_the_old_one() -> None:
    before = node(DB)
    after = resized(before, DB, samples.whole(1))
    since = admitted(after, annotated_too("0-1,4-7"))
    assert since.pool == cpus("3")
    assert reverting.revert(since, before, after, ID) == since


def test_who_was_to_share_again_stays_there_when_its_cpus_are_someone_elses_now() -> None:
    before = node(DB)
    after = resized(before, DB, FRACTION)
    since = admitted(after, annotated_too("2"))
    assert reverting.revert(since, before, after, ID) == since


def test_a_claim_goes_back_to_no_one_when_its_pod_has_ended() -> None:
    before = node(DB)
    after = resized(before, DB, FRACTION)
    since = ended(after, DB)
    assert held(reverting.revert(since, before, after, ID)) == {}


def test_a_claim_without_a_record_that_was_given_up_for_another_of_its_pod_goes_back() -> None:
    side = samples.creating(DB.pod, samples.container(DB.pod, "side", limits=samples.whole(1)))
    before = node(DB, side)
    unlisted = events.Synchronized(pods=(DB.pod,), containers=(side.container,))
    before = lifecycle.absorb(before, unlisted)
    after = resized(before, side, samples.whole(7))
    assert len(before.ledger.claims) == len(after.ledger.claims) + 1
    assert reverting.revert(after, before, after, side.container.id) == before


def annotated_too(listed: str) -> events.ContainerCreating:
    """Another pod that names CPUs, for itself."""
    event = annotated(listed, 1)
    pod = dataclasses.replace(
        event.pod, name="other", uid=events.PodUid("uid-other"), sandbox=events.SandboxId("sandbox-other")
    )
    return samples.creating(pod, samples.container(pod, limits=samples.whole(1)))
