"""What each event does to claims: creation, restarts, endings, adoption, second chances."""

from __future__ import annotations

import pytest

from reconciler import errors, events, intent, observed
from reconciler.cpu.idset import CpuSet
from reconciler.policy import desired, lifecycle, state
from reconciler.sim import machine
from tests.pipeline import samples

# covers: PRD-2.9, PRD-3.2, PRD-5.4, PRD-6.1, PRD-6.2, PRD-6.3, PRD-6.5

EIGHT = machine.Shape(sockets=1, cores=4, adjacent=True)
DB = samples.pod("db", qos=samples.GUARANTEED)
OTHER = samples.pod("other", qos=samples.GUARANTEED)
WEB = samples.pod("web", paused=True)
LISTED = samples.pod("listed", qos=samples.GUARANTEED, annotations={intent.CORES: "2-3"})


def integer(pod: events.Pod, count: int = 2, *, name: str = "main", attempt: int = 0) -> events.Container:
    return samples.container(
        pod, name, limits=samples.whole(count), attempt=attempt, phase=events.Phase.RUNNING
    )


def admitted(now: state.State, pod: events.Pod, its: events.Container) -> state.State:
    return lifecycle.admit(now, samples.creating(pod, its))[0]


def started(now: state.State, *pods: events.Pod) -> state.State:
    for pod in pods:
        now = lifecycle.absorb(now, events.PodStarted(pod=pod))
    return now


def held(now: state.State) -> dict[str, str]:
    """What is held, by pod and container."""
    return {
        f"{claim.pod}/{key.name}".rstrip("/"): str(claim.cpus) for key, claim in now.ledger.claims.items()
    }


def stopped(now: state.State, pod: events.Pod, its: events.Container) -> state.State:
    return lifecycle.absorb(now, events.ContainerStopped(pod=pod, container=its))


def removed(now: state.State, pod: events.Pod, its: events.Container) -> state.State:
    return lifecycle.absorb(now, events.ContainerRemoved(pod=pod, container=its))


def listed(now: state.State, *containers: tuple[events.Pod, events.Container]) -> state.State:
    """After a full list of the runtime."""
    pods = tuple(dict.fromkeys(pod.sandbox for pod, _ in containers))
    by_id = {pod.sandbox: pod for pod, _ in containers}
    return lifecycle.absorb(
        now,
        events.Synchronized(
            pods=tuple(by_id[sandbox] for sandbox in pods), containers=tuple(its for _, its in containers)
        ),
    )


def adopted(
    *containers: tuple[events.Pod, events.Container], looks: dict[str, str] | None = None
) -> state.State:
    """A node whose agent starts while these run, each on what `looks` says by pod."""
    now = listed(samples.fresh(EIGHT), *containers)
    seen = {its.id: samples.look((looks or {}).get(pod.name, "0-7")) for pod, its in containers}
    return lifecycle.retry(lifecycle.adopt(now, observed.asked_for(seen)))


def test_the_next_attempt_has_the_same_cpus_and_nobody_gets_them_in_between() -> None:
    first = integer(DB)
    now = stopped(admitted(started(samples.fresh(EIGHT), DB, OTHER), DB, first), DB, first)
    now = admitted(now, OTHER, integer(OTHER))
    now = admitted(now, DB, integer(DB, attempt=1))
    assert held(now) == {"test/db/main": "2-3", "test/other/main": "4-5"}


def test_the_removal_of_an_old_record_leaves_the_claim_of_the_newer_attempt() -> None:
    first, second = integer(DB), integer(DB, attempt=1)
    now = stopped(admitted(started(samples.fresh(EIGHT), DB), DB, first), DB, first)
    now = removed(admitted(now, DB, second), DB, first)
    assert held(now) == {"test/db/main": "2-3"}
    assert held(removed(stopped(now, DB, second), DB, second)) == {}


def test_the_removal_of_a_record_in_an_old_sandbox_leaves_the_claim_of_the_new_one() -> None:
    again = samples.pod("db", qos=samples.GUARANTEED, attempt=1)
    old, new = integer(DB), integer(again)
    now = stopped(admitted(started(samples.fresh(EIGHT), DB), DB, old), DB, old)
    now = admitted(started(now, again), again, new)
    assert held(removed(now, DB, old)) == {"test/db/main": "2-3"}


@pytest.mark.parametrize(
    "ending",
    [events.PodStopped(sandbox=DB.sandbox), events.PodRemoved(sandbox=DB.sandbox)],
    ids=["stop", "removal"],
)
def test_the_end_of_the_sandbox_ends_the_claims_of_its_pod(ending: events.Event) -> None:
    now = started(samples.fresh(EIGHT), DB, WEB)
    now = admitted(admitted(now, DB, integer(DB)), DB, integer(DB, 1, name="side"))
    after = lifecycle.absorb(now, ending)
    assert held(after) == {}
    assert set(after.ledger.intents) == {events.ContainerId(WEB.sandbox)}
    assert lifecycle.absorb(after, ending) == after


def test_the_end_of_one_of_two_sandboxes_leaves_the_claims_of_the_pod() -> None:
    again = samples.pod("db", qos=samples.GUARANTEED, attempt=1)
    now = admitted(started(samples.fresh(EIGHT), DB, again), again, integer(again))
    assert held(lifecycle.absorb(now, events.PodRemoved(sandbox=DB.sandbox))) == {"test/db/main": "2-3"}


def test_an_annotated_claim_ends_with_its_last_container() -> None:
    first, second = integer(LISTED, name="a"), integer(LISTED, name="b")
    now = admitted(admitted(started(samples.fresh(EIGHT), LISTED), LISTED, first), LISTED, second)
    now = removed(now, LISTED, first)
    assert held(now) == {"test/listed": "2-3"}
    assert held(removed(now, LISTED, second)) == {}


def test_the_endings_of_a_refused_creation_take_nothing_with_them() -> None:
    now = admitted(started(samples.fresh(EIGHT), DB), DB, integer(DB))
    refused = integer(DB, 9, attempt=1)
    with pytest.raises(errors.Refused):
        lifecycle.admit(now, samples.creating(DB, refused))
    assert removed(stopped(now, DB, refused), DB, refused) == now


def test_the_class_is_decided_once() -> None:
    first = integer(DB)
    now = admitted(started(samples.fresh(EIGHT), DB), DB, first)
    lifted = samples.container(DB, limits=events.CpuLimits(quota=-1, shares=2))
    for event in (
        events.ContainerUpdating(pod=DB, container=lifted, limits=lifted.limits),
        events.ContainerStarting(pod=DB, container=lifted),
    ):
        now = lifecycle.absorb(now, event)
    assert now.ledger.intents[first.id].kind is intent.Kind.INTEGER
    assert held(now) == {"test/db/main": "2-3"}


@pytest.mark.parametrize("how", ["sandbox", "list", "creation"])
def test_a_pause_container_is_shared_whatever_its_pod_is(how: str) -> None:
    pod = samples.pod("db", qos=samples.GUARANTEED, annotations={intent.CORES: "2-3"}, paused=True)
    now = samples.fresh(EIGHT)
    if how == "sandbox":
        now = started(now, pod)
    elif how == "list":
        now = lifecycle.adopt(listed(now, (pod, integer(pod))), {})
    else:
        now = admitted(now, pod, integer(pod))
    pause = events.ContainerId(pod.sandbox)
    assert now.ledger.intents[pause].kind is intent.Kind.SHARED
    assert desired.desired(now)[pause].cpus == now.pool


def test_on_start_up_integer_containers_keep_what_they_run_on() -> None:
    now = adopted((DB, integer(DB)), (OTHER, integer(OTHER)), looks={"db": "6-7", "other": "1,4"})
    assert held(now) == {"test/db/main": "6-7", "test/other/main": "1,4"}


def test_on_start_up_who_runs_on_everything_gets_cpus_after_those_who_keep_theirs() -> None:
    now = adopted((DB, integer(DB)), (OTHER, integer(OTHER)), looks={"other": "2-3"})
    assert held(now) == {"test/db/main": "4-5", "test/other/main": "2-3"}


def test_on_start_up_two_that_run_on_the_same_cpus_do_not_both_keep_them() -> None:
    now = adopted((DB, integer(DB)), (OTHER, integer(OTHER)), looks={"db": "2-3", "other": "2-3"})
    assert held(now) == {"test/db/main": "2-3", "test/other/main": "4-5"}


def test_on_start_up_a_list_comes_before_whoever_still_needs_cpus() -> None:
    now = adopted((DB, integer(DB)), (LISTED, integer(LISTED)))
    assert held(now) == {"test/listed": "2-3", "test/db/main": "4-5"}


def test_on_start_up_who_runs_on_its_own_is_not_driven_away_by_a_list_that_is_not_in_force() -> None:
    """As before the restart: the annotated pod was unsatisfied then, and is now."""
    now = adopted((DB, integer(DB, 6)), (LISTED, integer(LISTED)), looks={"db": "2-7"})
    assert held(now) == {"test/db/main": "2-7"}
    assert "would leave 0 CPUs in the shared pool" in now.ledger.unsatisfied[integer(LISTED).id]


def test_on_start_up_who_runs_on_its_own_makes_room_for_a_list_where_there_is_some() -> None:
    now = adopted((DB, integer(DB)), (LISTED, integer(LISTED)), looks={"db": "2-3"})
    assert held(now) == {"test/db/main": "4-5", "test/listed": "2-3"}


def test_on_start_up_a_list_in_force_is_kept_before_anything_else() -> None:
    now = adopted((DB, integer(DB)), (LISTED, integer(LISTED)), looks={"db": "2-3", "listed": "2-3"})
    assert held(now) == {"test/listed": "2-3", "test/db/main": "4-5"}


def test_on_start_up_nothing_is_refused_and_what_cannot_be_is_unsatisfied() -> None:
    big = integer(DB, 9)
    bad = samples.pod("bad", annotations={intent.CORES: "2,x"})
    picky = samples.pod("picky", annotations={intent.FORBID: "0-7"})
    containers = [(DB, big), (bad, samples.container(bad)), (picky, samples.container(picky))]
    now = adopted(*containers)
    assert held(now) == {}
    assert {id_.split("/")[0]: why.split(":")[0][:40] for id_, why in now.ledger.unsatisfied.items()} == {
        "sandbox-db-0": "9 exclusive CPUs wanted, 8 of 8 are free",
        "sandbox-bad-0": "annotation weka.io/cores-ids at position",
        "sandbox-picky-0": "the shared pool is 0-7 and annotation we",
    }
    assert {str(its.cpus) for its in desired.desired(now).values()} == {"0-7"}


def test_what_was_unsatisfied_gets_its_cpus_as_soon_as_it_can() -> None:
    now = adopted((DB, integer(DB)), (LISTED, integer(LISTED)), looks={"db": "2-3"})
    now = lifecycle.retry(lifecycle.absorb(now, events.PodStopped(sandbox=DB.sandbox)))
    assert (held(now), dict(now.ledger.unsatisfied)) == ({"test/listed": "2-3"}, {})


def test_who_has_stopped_is_not_unsatisfied_any_more() -> None:
    now = adopted((DB, integer(DB, 9)))
    assert now.ledger.unsatisfied
    now = lifecycle.retry(stopped(now, DB, integer(DB, 9)))
    assert not now.ledger.unsatisfied


def test_a_list_of_the_runtime_ends_the_claims_of_pods_that_are_gone() -> None:
    now = admitted(admitted(started(samples.fresh(EIGHT), DB, OTHER), DB, integer(DB)), OTHER, integer(OTHER))
    now = listed(now, (OTHER, integer(OTHER)))
    assert held(now) == {"test/other/main": "4-5"}
    assert set(now.ledger.intents) == {integer(OTHER).id}


def test_a_list_of_the_runtime_leaves_the_claim_of_a_container_that_is_down() -> None:
    first = integer(DB)
    now = stopped(admitted(started(samples.fresh(EIGHT), DB), DB, first), DB, first)
    now = lifecycle.absorb(now, events.Synchronized(pods=(DB,), containers=()))
    assert held(now) == {"test/db/main": "2-3"}
    assert held(admitted(now, DB, integer(DB, attempt=1))) == {"test/db/main": "2-3"}


def test_a_claim_that_is_held_stays_when_the_next_attempt_is_found_on_other_cpus() -> None:
    first, second = integer(DB), integer(DB, attempt=1)
    now = admitted(started(samples.fresh(EIGHT), DB), DB, first)
    now = lifecycle.adopt(listed(now, (DB, second)), {second.id: CpuSet.parse("6-7", what="test")})
    assert held(now) == {"test/db/main": "2-3"}


@pytest.mark.parametrize(
    "event", [events.ContainerStarting, events.ContainerCreating], ids=["start", "creation"]
)
def test_a_container_that_is_met_late_is_absorbed(
    event: type[events.ContainerStarting | events.ContainerCreating],
) -> None:
    now = lifecycle.absorb(samples.fresh(EIGHT), event(pod=DB, container=integer(DB)))
    assert held(now) == {"test/db/main": "2-3"}
