"""Real names in the place of others: claims follow, nobody moves, and what was not known is judged anew."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import events, intent
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.policy import desired, lifecycle, naming, state
from reconciler.sim import machine
from tests.pipeline import samples
from tests.pipeline.samples import cpus

# covers: PRD-8.13

EIGHT = machine.Shape(sockets=1, cores=4, adjacent=True)
DB = samples.pod("db", qos=samples.GUARANTEED)
BARE = dataclasses.replace(DB, namespace="", name=DB.uid)
SETTINGS = settings(deadline=None, max_examples=100, print_blob=True)


def running(pod: events.Pod, id_: str, name: str = "", count: int = 2) -> events.Container:
    """A container that runs; without a name it has its id."""
    its = samples.container(
        pod, name or id_, limits=samples.whole(count) if count else None, phase=events.Phase.RUNNING
    )
    return dataclasses.replace(its, id=events.ContainerId(id_))


def seen(*parties: tuple[events.Pod, events.Container], now: state.State | None = None) -> state.State:
    """A node on which these were found, one after the other."""
    now = now or samples.fresh(EIGHT)
    for pod, its in parties:
        now = lifecycle.absorb(now, events.PodStarted(pod=pod))
        now = lifecycle.absorb(now, events.ContainerStarting(pod=pod, container=its))
    return now


def told(now: state.State, *parties: tuple[events.Pod, events.Container]) -> state.State:
    """The runtime's list, and what follows from it while everyone runs where he was placed."""
    pods = {pod.sandbox: pod for pod, _ in parties}
    event = events.Synchronized(pods=tuple(pods.values()), containers=tuple(its for _, its in parties))
    before = places(now)
    after = naming.renamed(lifecycle.absorb(now, event), now.inventory)
    return lifecycle.retry(lifecycle.adopt(after, before))


def places(now: state.State) -> dict[events.ContainerId, CpuSet]:
    return {id_: its.cpus for id_, its in desired.desired(now).items()}


def held(now: state.State) -> dict[str, str]:
    return {f"{claim.pod}/{key.name}": str(claim.cpus) for key, claim in now.ledger.claims.items()}


def holders(now: state.State) -> list[list[str]]:
    return [sorted(claim.holders) for claim in now.ledger.claims.values()]


def test_a_claim_is_under_its_name_and_where_it_was() -> None:
    before = seen((BARE, running(BARE, "x1")))
    assert held(before) == {f"/{DB.uid}/x1": "2-3"}
    after = told(before, (DB, running(DB, "x1", "main")))
    assert held(after) == {"test/db/main": "2-3"}
    assert holders(after) == [["main"]]
    assert places(after) == places(before)


def test_two_that_were_taken_for_each_other_swap_names_and_not_cpus() -> None:
    before = seen((DB, running(DB, "x1", "b")), (DB, running(DB, "x2", "a")))
    assert held(before) == {"test/db/b": "2-3", "test/db/a": "4-5"}
    after = told(before, (DB, running(DB, "x1", "a")), (DB, running(DB, "x2", "b")))
    assert held(after) == {"test/db/a": "2-3", "test/db/b": "4-5"}
    assert places(after) == places(before)


def test_who_runs_has_his_name_before_what_an_attempt_that_is_down_has_left() -> None:
    before = seen((DB, running(DB, "x1", "main")))
    before = lifecycle.absorb(before, events.ContainerStopped(pod=DB, container=running(DB, "x1", "main")))
    before = seen((DB, running(DB, "x2")), now=before)
    where = str(places(before)[events.ContainerId("x2")])
    after = told(before, (DB, running(DB, "x2", "main")))
    assert held(after) == {"test/db/main": where}
    assert places(after)[events.ContainerId("x2")] == cpus(where)


def test_the_same_names_change_nothing() -> None:
    party = (DB, running(DB, "x1", "main"))
    before = seen(party)
    after = lifecycle.absorb(before, events.Synchronized(pods=(DB,), containers=(party[1],)))
    assert naming.renamed(after, before.inventory).ledger == after.ledger


def test_a_list_that_nobody_knew_of_is_had_from_now_on() -> None:
    listed = dataclasses.replace(DB, annotations={intent.CORES: "6-7"})
    before = seen((BARE, running(BARE, "x1")))
    after = told(before, (listed, running(listed, "x1", "main")))
    assert held(after) == {"test/db/": "6-7"}
    assert after.ledger.intents[events.ContainerId("x1")].kind is intent.Kind.ANNOTATED_EXCLUSIVE


def test_a_list_that_cannot_be_had_leaves_it_on_the_pool_and_says_so() -> None:
    other = samples.pod("other", qos=samples.GUARANTEED, annotations={intent.CORES: "6-7"})
    listed = dataclasses.replace(DB, annotations={intent.CORES: "6-7"})
    first = (other, running(other, "y1", "main"))
    before = seen(first, (BARE, running(BARE, "x1")))
    after = told(before, first, (listed, running(listed, "x1", "main")))
    assert held(after) == {"test/other/": "6-7"}
    assert set(after.ledger.unsatisfied) == {"x1"}


def test_a_holder_of_a_list_goes_by_its_name() -> None:
    listed = dataclasses.replace(DB, annotations={intent.CORES: "6-7"})
    before = seen((listed, running(listed, "x1")), (listed, running(listed, "x2", "side")))
    assert holders(before) == [["side", "x1"]]
    after = told(before, (listed, running(listed, "x1", "main")), (listed, running(listed, "x2", "side")))
    assert (held(after), holders(after)) == ({"test/db/": "6-7"}, [["main", "side"]])


def test_forbidden_cpus_are_left_when_they_become_known() -> None:
    picky = dataclasses.replace(DB, annotations={intent.FORBID: "2-3"})
    before = seen((BARE, running(BARE, "x1")))
    after = told(before, (picky, running(picky, "x1", "main")))
    assert held(after) == {"test/db/main": "4-5"}


def test_forbidden_cpus_elsewhere_move_nobody() -> None:
    picky = dataclasses.replace(DB, annotations={intent.FORBID: "6-7"})
    after = told(seen((BARE, running(BARE, "x1"))), (picky, running(picky, "x1", "main")))
    assert held(after) == {"test/db/main": "2-3"}
    [claim] = after.ledger.claims.values()
    assert claim.forbidden == cpus("6-7")


def test_a_container_that_turns_out_to_be_a_pause_container_is_one() -> None:
    paused = dataclasses.replace(DB, sandbox=events.SandboxId("x9"), cgroup="kubepods/db/x9")
    before = seen((BARE, running(BARE, "x9", count=0)), (BARE, running(BARE, "x1")))
    after = told(before, (paused, running(paused, "x1", "main")))
    assert after.ledger.intents[events.ContainerId("x9")].why == "pause container of a pod"
    assert held(after) == {"test/db/main": "2-3"}


def test_who_is_to_be_left_alone_is_when_that_becomes_known() -> None:
    fresh = samples.fresh(EIGHT, config=schema.Config(unmanaged_namespaces=("test",)))
    before = seen((BARE, running(BARE, "x1")), now=fresh)
    assert held(before) == {f"/{DB.uid}/x1": "2-3"}
    after = told(before, (DB, running(DB, "x1", "main")))
    assert held(after) == {}
    assert after.ledger.intents[events.ContainerId("x1")].kind is intent.Kind.UNMANAGED


def test_a_claim_of_one_that_is_down_says_what_its_pod_is_called() -> None:
    before = seen((BARE, running(BARE, "x1")), (BARE, running(BARE, "x2", count=0)))
    before = lifecycle.absorb(before, events.ContainerStopped(pod=BARE, container=running(BARE, "x1")))
    after = told(before, (DB, running(DB, "x2", "side", count=0)))
    assert held(after) == {"test/db/x1": "2-3"}


@pytest.mark.parametrize(("namespace", "expected"), [("", False), ("test", True)])
def test_a_pod_without_a_namespace_has_no_name(namespace: str, *, expected: bool) -> None:
    assert naming.is_named(dataclasses.replace(DB, namespace=namespace)) is expected


@st.composite
def crowds(draw: st.DrawFn) -> list[tuple[str, str, int, str]]:
    """Containers: their pods, their true names, their CPUs, and the names that they were taken for, which
    are those of others of the pod, or their ids."""
    crowd = []
    for pod in draw(st.lists(st.sampled_from(["p", "q", "r"]), unique=True, min_size=1)):
        true = draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True, min_size=1, max_size=3))
        taken = draw(st.permutations(true))
        for name, other in zip(true, taken, strict=True):
            guess = draw(st.sampled_from([other, f"{pod}-{name}"]))
            crowd.append((pod, name, draw(st.integers(0, 2)), guess))
    return crowd


@given(crowds(), st.booleans())
@SETTINGS
def test_whoever_was_taken_for_whomever_nobody_moves(
    crowd: list[tuple[str, str, int, str]], pods_are_known: bool
) -> None:
    now = samples.fresh(machine.Shape(sockets=2, cores=8))
    true: list[tuple[events.Pod, events.Container]] = []
    for pod, name, count, guess in crowd:
        real = samples.pod(pod, qos=samples.GUARANTEED)
        bare = real if pods_are_known else dataclasses.replace(real, namespace="", name=real.uid)
        now = seen((bare, running(bare, f"{pod}-{name}", guess, count)), now=now)
        true.append((real, running(real, f"{pod}-{name}", name, count)))
    after = told(now, *true)
    assert places(after) == places(now)
    assert set(held(after)) == {f"test/{pod}/{name}" for pod, name, count, _ in crowd if count}
    assert after.ledger.exclusive == now.ledger.exclusive
    assert dict(after.ledger.unsatisfied) == {}
    again = told(after, *true)
    assert again.ledger == after.ledger
