"""No claim ends while a process of it is alive, whatever the runtime says has ended."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import errors, events, intent, inventory
from reconciler.policy import desired, lifecycle, restoring, state
from reconciler.sim import machine
from tests.pipeline import samples

# covers: PRD-6.8

EIGHT = machine.Shape(sockets=1, cores=4, adjacent=True)
DB = samples.pod("db", qos=samples.GUARANTEED)
OTHER = samples.pod("other", qos=samples.GUARANTEED)
LISTED = samples.pod("listed", qos=samples.GUARANTEED, annotations={intent.CORES: "2-3"})
TOLD = samples.pod("told", annotations={intent.CORES: "2-3"})
WEB = samples.pod("web", paused=True)
PODS = (DB, OTHER, LISTED, TOLD, WEB)


def whole(pod: events.Pod, count: int = 2, *, name: str = "main", attempt: int = 0) -> events.Container:
    return samples.container(
        pod, name, limits=samples.whole(count), attempt=attempt, phase=events.Phase.RUNNING
    )


MAIN = whole(DB)
SHARED = samples.container(WEB)


def node(*containers: tuple[events.Pod, events.Container]) -> state.State:
    now = samples.fresh(EIGHT)
    for pod, its in containers:
        now = lifecycle.admit(now, samples.creating(pod, its))[0]
        now = lifecycle.absorb(now, events.ContainerStarting(pod=pod, container=its))
    return now


def endings(pod: events.Pod, its: events.Container) -> list[events.Event]:
    return [
        events.ContainerStopped(pod=pod, container=its),
        events.ContainerRemoved(pod=pod, container=its),
        events.PodStopped(sandbox=pod.sandbox),
        events.PodRemoved(sandbox=pod.sandbox),
        events.Synchronized(pods=(), containers=()),
        events.Synchronized(pods=(pod,), containers=()),
    ]


def held(now: state.State) -> dict[str, str]:
    return {
        f"{claim.pod}/{key.name}".rstrip("/"): str(claim.cpus) for key, claim in now.ledger.claims.items()
    }


def alive(*containers: events.Container) -> frozenset[events.ContainerId]:
    return frozenset(its.id for its in containers)


@pytest.mark.parametrize("ending", endings(DB, MAIN), ids=str)
def test_a_claim_goes_on_while_a_process_is_alive_and_nobody_gets_its_cpus(ending: events.Event) -> None:
    now = lifecycle.absorb(node((DB, MAIN)), ending, alive(MAIN))
    assert held(now) == {"test/db/main": "2-3"}
    assert str(desired.desired(now)[MAIN.id].cpus) == "2-3"
    now = lifecycle.admit(now, samples.creating(OTHER, whole(OTHER)))[0]
    assert held(now)["test/other/main"] == "4-5"
    with pytest.raises(errors.Refused):
        lifecycle.admit(now, samples.creating(OTHER, whole(OTHER, 5, name="large")))


@pytest.mark.parametrize("ending", endings(DB, MAIN), ids=str)
def test_it_ends_as_it_would_have_when_the_last_process_has_ended(ending: events.Event) -> None:
    start = node((DB, MAIN))
    lingers = lifecycle.absorb(start, ending, alive(MAIN))
    left = lingers.inventory.leftovers
    pod = lingers.pod_of(MAIN)
    last: events.Event = events.ContainerStopped(pod=pod, container=MAIN)
    if MAIN.id in left.forgotten:
        last = events.ContainerRemoved(pod=pod, container=MAIN)
    over, at_once = lifecycle.absorb(lingers, last), lifecycle.absorb(start, ending)
    assert over.ledger.claims == at_once.ledger.claims
    assert over.ledger.former == at_once.ledger.former
    assert over.inventory.pods == at_once.inventory.pods
    assert over.inventory.leftovers == inventory.Inventory().leftovers
    assert desired.desired(over) == {}


def test_every_later_ending_may_come_while_it_lingers() -> None:
    now = node((DB, MAIN))
    for ending in endings(DB, MAIN)[:5]:
        now = lifecycle.absorb(now, ending, alive(MAIN))
        assert lifecycle.absorb(now, ending, alive(MAIN)) == now
        assert held(now) == {"test/db/main": "2-3"}
    assert not now.inventory.has_pod(DB.uid)
    now = lifecycle.absorb(now, events.ContainerRemoved(pod=DB, container=MAIN))
    assert held(now) == {}
    assert now.inventory == inventory.Inventory()


def test_of_a_pod_that_ended_only_what_lingers_goes_on() -> None:
    side = whole(DB, 1, name="side")
    now = lifecycle.absorb(node((DB, MAIN), (DB, side)), events.PodStopped(sandbox=DB.sandbox), alive(MAIN))
    assert held(now) == {"test/db/main": "2-3"}
    assert set(now.inventory.containers) == {MAIN.id}


@pytest.mark.parametrize("pod", [LISTED, TOLD], ids=["exclusive", "shared"])
def test_a_list_is_held_by_those_that_linger(pod: events.Pod) -> None:
    main, side = whole(pod), whole(pod, name="side")
    now = lifecycle.absorb(
        node((pod, main), (pod, side)), events.PodRemoved(sandbox=pod.sandbox), alive(side)
    )
    [claim] = now.ledger.claims.values()
    assert (str(claim.cpus), claim.holders) == ("2-3", frozenset({"side"}))
    now = lifecycle.absorb(now, events.ContainerRemoved(pod=pod, container=side))
    assert held(now) == {}


def test_the_next_attempt_has_the_claim_and_keeps_it_when_the_former_one_is_over() -> None:
    again = whole(DB, attempt=1)
    now = lifecycle.absorb(node((DB, MAIN)), events.ContainerRemoved(pod=DB, container=MAIN), alive(MAIN))
    now = lifecycle.admit(now, samples.creating(DB, again))[0]
    assert {str(its.cpus) for its in desired.desired(now).values()} == {"2-3"}
    now = lifecycle.absorb(now, events.ContainerRemoved(pod=DB, container=MAIN))
    assert held(now) == {"test/db/main": "2-3"}
    assert set(now.inventory.containers) == {again.id}


def test_what_lingers_of_an_attempt_without_a_claim_keeps_none_of_another_attempt() -> None:
    shared = samples.container(DB, phase=events.Phase.RUNNING)
    again = whole(DB, attempt=1)
    now = lifecycle.absorb(
        node((DB, shared)), events.ContainerStopped(pod=DB, container=shared), alive(shared)
    )
    now = lifecycle.admit(now, samples.creating(DB, again))[0]
    both = lifecycle.absorb(now, events.PodStopped(sandbox=DB.sandbox), alive(shared, again))
    assert held(both) == {"test/db/main": "2-3"}
    assert held(lifecycle.absorb(both, events.ContainerRemoved(pod=DB, container=again))) == {}
    now = lifecycle.absorb(now, events.PodStopped(sandbox=DB.sandbox), alive(shared))
    assert held(now) == {}
    assert str(desired.desired(now)[shared.id].cpus) == "0-7"


def test_a_sandbox_that_is_made_anew_has_the_claim_of_what_lingers_in_the_former_one() -> None:
    anew = dataclasses.replace(DB, sandbox=events.SandboxId("sandbox-db-1"))
    again = dataclasses.replace(whole(DB, attempt=1), sandbox=anew.sandbox)
    now = lifecycle.absorb(node((DB, MAIN)), events.PodStopped(sandbox=DB.sandbox), alive(MAIN))
    now = lifecycle.admit(now, samples.creating(anew, again))[0]
    assert held(now) == {"test/db/main": "2-3"}
    now = lifecycle.absorb(now, events.PodStopped(sandbox=anew.sandbox))
    assert held(now) == {"test/db/main": "2-3"}, "the former sandbox's process is alive"
    now = lifecycle.absorb(now, events.ContainerRemoved(pod=DB, container=MAIN))
    assert held(now) == {}


@pytest.mark.parametrize("in_a_former_sandbox", [False, True])
def test_what_lingers_lends_nothing_within_its_pod(in_a_former_sandbox: bool) -> None:
    init = whole(DB, 6, name="init")
    now = node((DB, init))
    if in_a_former_sandbox:
        pod = dataclasses.replace(DB, sandbox=events.SandboxId("sandbox-db-1"))
        now = lifecycle.absorb(now, events.PodStopped(sandbox=DB.sandbox), alive(init))
    else:
        pod = DB
        now = lifecycle.absorb(now, events.ContainerStopped(pod=DB, container=init), alive(init))
    main = dataclasses.replace(whole(pod, 2), sandbox=pod.sandbox)
    with pytest.raises(errors.Refused):
        lifecycle.admit(now, samples.creating(pod, main))
    now = lifecycle.absorb(now, events.ContainerStopped(pod=DB, container=init))
    now = lifecycle.absorb(now, events.PodStarted(pod=pod))
    assert held(lifecycle.admit(now, samples.creating(pod, main))[0])["test/db/main"]


def test_an_annotated_pod_moves_what_lingers_like_anyone_else() -> None:
    now = lifecycle.absorb(node((DB, MAIN)), events.PodStopped(sandbox=DB.sandbox), alive(MAIN))
    now = lifecycle.admit(now, samples.creating(LISTED, whole(LISTED)))[0]
    assert held(now) == {"test/db/main": "4-5", "test/listed": "2-3"}
    assert str(desired.desired(now)[MAIN.id].cpus) == "4-5"


def test_what_is_left_of_a_shared_container_follows_the_pool() -> None:
    now = lifecycle.absorb(node((WEB, SHARED)), events.PodRemoved(sandbox=WEB.sandbox), alive(SHARED))
    now = lifecycle.admit(now, samples.creating(DB, MAIN))[0]
    assert {id_: str(its.cpus) for id_, its in desired.desired(now).items()} == {
        SHARED.id: "0-1,4-7",
        MAIN.id: "2-3",
    }


def test_what_lingers_without_a_claim_gets_none_any_more() -> None:
    large = whole(OTHER, 7)
    now = node((DB, MAIN))
    now = lifecycle.absorb(now, events.ContainerStarting(pod=OTHER, container=large))
    assert set(now.ledger.unsatisfied) == {large.id}
    now = lifecycle.absorb(now, events.PodStopped(sandbox=OTHER.sandbox), alive(large))
    assert set(now.ledger.unsatisfied) == set()
    now = lifecycle.retry(lifecycle.absorb(now, events.PodStopped(sandbox=DB.sandbox)))
    assert held(now) == {}
    assert held(lifecycle.adopt(now, {large.id: samples.cpus("0-6")})) == {}


def test_what_the_runtime_tells_of_again_does_not_linger_any_more() -> None:
    now = lifecycle.absorb(node((DB, MAIN)), events.PodStopped(sandbox=DB.sandbox), alive(MAIN))
    for event in (
        events.ContainerStarting(pod=DB, container=MAIN),
        events.Synchronized(pods=(DB,), containers=(MAIN,)),
    ):
        after = lifecycle.absorb(now, event)
        assert after.inventory.leftovers == inventory.Inventory().leftovers
        assert held(after) == {"test/db/main": "2-3"}


def test_a_later_list_remembers_that_there_is_no_record() -> None:
    now = lifecycle.absorb(node((DB, MAIN)), events.ContainerRemoved(pod=DB, container=MAIN), alive(MAIN))
    now = lifecycle.absorb(now, events.Synchronized(pods=(DB,), containers=()), alive(MAIN))
    now = lifecycle.absorb(now, events.ContainerRemoved(pod=DB, container=MAIN))
    assert held(now) == {}


def test_the_first_list_after_a_start_does_not_judge_anew_what_lingers() -> None:
    now = lifecycle.absorb(node((DB, MAIN)), events.PodStopped(sandbox=DB.sandbox), alive(MAIN))
    assert restoring.confirm(now, {MAIN.id: 17}) == now


def test_a_process_that_was_seen_is_forgotten_with_its_container() -> None:
    now = lifecycle.absorb(node((DB, MAIN)), events.PodStopped(sandbox=DB.sandbox), alive(MAIN))
    known = inventory.seen(now.inventory, {MAIN.id: 17, SHARED.id: 18})
    assert dict(known.leftovers.pids) == {MAIN.id: 17}
    assert inventory.seen(known, {MAIN.id: 17}) is known
    gone = inventory.reduce(known, events.ContainerRemoved(pod=DB, container=MAIN))
    assert gone == inventory.Inventory()


EVERYONE = [(pod, whole(pod, 1, name=name)) for pod in PODS for name in ("main", "side")]
EVENTS = st.one_of(
    *(st.sampled_from(endings(pod, its)) for pod, its in EVERYONE),
    st.sampled_from([events.PodStarted(pod=pod) for pod in PODS]),
    st.sampled_from([events.ContainerStarting(pod=pod, container=its) for pod, its in EVERYONE]),
)
ALIVE = st.sets(st.sampled_from([its.id for _, its in EVERYONE]))


@given(st.lists(st.tuples(EVENTS, ALIVE), max_size=20), EVENTS, ALIVE)
@settings(deadline=None, print_blob=True)
def test_whatever_comes_in_whatever_order_nobody_who_is_alive_loses_a_claim(
    happened: list[tuple[events.Event, set[events.ContainerId]]],
    event: events.Event,
    ids: set[events.ContainerId],
) -> None:
    now = samples.fresh(EIGHT)
    for before, its in happened:
        now = lifecycle.adopt(lifecycle.absorb(now, before, frozenset(its)), {})
    ending = {its.id for its in inventory.ended_by(now.inventory, event)}
    after = lifecycle.adopt(lifecycle.absorb(now, event, frozenset(ids & ending)), {})
    for id_ in ids & ending:
        container, pod = now.inventory.containers[id_], now.pod_of(now.inventory.containers[id_])
        claims = [state.claim_of(its.ledger, pod, container, its.ledger.intents[id_]) for its in (now, after)]
        assert (claims[0] is None) == (claims[1] is None)
        assert claims[0] is None or claims[1] is None or claims[0].cpus == claims[1].cpus
        assert id_ in after.inventory.leftovers.lingering
    assert set(after.ledger.intents) == set(after.inventory.containers)
    for id_ in set(now.inventory.containers) - set(after.inventory.containers):
        assert id_ in ending or now.inventory.containers[id_].phase is events.Phase.STOPPED
    over = after
    for id_ in list(after.inventory.leftovers.lingering):
        container = after.inventory.containers[id_]
        over = lifecycle.absorb(
            over, events.ContainerRemoved(pod=after.pod_of(container), container=container)
        )
    assert over.inventory.leftovers == inventory.Inventory().leftovers
    present = {pod.uid for pod in over.inventory.pods.values()}
    assert {key.uid for key in over.ledger.claims} <= present
