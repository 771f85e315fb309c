"""The cpuset of every container follows from the ledger, all at once or one by one."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler import errors, events, intent
from reconciler.config import schema
from reconciler.policy import desired, lifecycle, state
from reconciler.sim import machine
from tests.pipeline import samples
from tests.pipeline.samples import cpus, nodes

EIGHT = machine.Shape(sockets=2, cores=2, adjacent=True)
"""Nodes 0-3 and 4-7, cores of two neighbours."""

WEB = samples.pod("web", paused=True)
PICKY = samples.pod("picky", annotations={intent.FORBID: "6-7"})
LISTED = samples.pod("listed", annotations={intent.CORES: "3-4"})
DB = samples.pod("db", qos=samples.GUARANTEED)


def node(*pods: events.Pod, config: schema.Config | None = None) -> state.State:
    """Each pod with one container; Guaranteed ones with two whole CPUs."""
    now = samples.fresh(EIGHT, config=config)
    for pod in pods:
        now = lifecycle.absorb(now, events.PodStarted(pod=pod))
        limits = samples.whole(2) if pod.qos is samples.GUARANTEED else None
        now, _, _ = lifecycle.admit(now, samples.creating(pod, samples.container(pod, limits=limits)))
    return now


def placed(now: state.State) -> dict[str, str]:
    """The CPUs, and the memory after a colon, by the container's id without its attempt."""
    return {
        id_.removesuffix("-0"): str(its.cpus) + ("" if its.mems is None else f":{its.mems}")
        for id_, its in desired.desired(now).items()
    }


def test_every_class_has_its_cpus() -> None:
    assert placed(node(WEB, PICKY, LISTED, DB)) == {
        "sandbox-web": "0-5",
        "sandbox-web-0/main": "0-5",
        "sandbox-picky-0/main": "0-5",
        "sandbox-listed-0/main": "3-4:0-1",
        "sandbox-db-0/main": "6-7",
    }


def test_only_exclusive_cpus_have_an_owner() -> None:
    now = node(WEB, LISTED, DB)
    owners = {id_: its.owner for id_, its in desired.desired(now).items() if its.owner is not None}
    assert owners == {
        samples.container(DB).id: state.ClaimKey(DB.uid, "main"),
    }


@pytest.mark.parametrize(
    ("config", "mems"),
    [
        pytest.param(schema.Config(), None, id="left alone"),
        pytest.param(schema.Config(integer_memory="pin"), nodes("0"), id="pinned to the node of its CPUs"),
    ],
)
def test_memory_of_an_integer_container(config: schema.Config, mems: object) -> None:
    (its,) = desired.desired(node(DB, config=config)).values()
    assert (its.cpus, its.mems) == (cpus("2-3"), mems)


def test_a_scope_gives_a_part_of_the_whole_and_ids_that_are_not_known_are_passed_over() -> None:
    now = node(WEB, PICKY, LISTED, DB)
    everything = desired.desired(now)
    assert len(everything) == 5
    for id_, its in everything.items():
        assert desired.desired(now, (id_, events.ContainerId("nobody"))) == {id_: its}
    assert desired.desired(now, ()) == {}


def test_a_container_that_has_stopped_or_has_no_cgroup_is_not_placed() -> None:
    now = node(WEB, DB)
    its = samples.container(DB)
    stopped = lifecycle.absorb(now, events.ContainerStopped(pod=DB, container=its))
    assert set(placed(stopped)) == {"sandbox-web", "sandbox-web-0/main"}
    kata = samples.pod("kata")
    without = dataclasses.replace(samples.container(kata), cgroup=None)
    now, _, _ = lifecycle.admit(now, samples.creating(kata, without))
    assert desired.desired(now, (without.id,)) == {}


def test_a_container_that_is_not_managed_is_not_placed() -> None:
    now = node(WEB)
    its = samples.container(WEB)
    what = intent.Intent(kind=intent.Kind.UNMANAGED, why="test")
    now = dataclasses.replace(now, ledger=now.ledger.with_intent(its.id, what))
    assert set(placed(now)) == {"sandbox-web"}
    assert desired.place(now, WEB, its, what) == desired.Placement(cpus=cpus(""))


def test_who_is_forbidden_the_whole_pool_has_the_whole_pool() -> None:
    now = node(samples.pod("picky", annotations={intent.FORBID: "0-1,4-7"}), DB)
    assert placed(now)["sandbox-picky-0/main"] == "0-1,4-7"


def test_who_is_entitled_to_cpus_and_has_none_is_on_the_pool() -> None:
    big = samples.pod("big", qos=samples.GUARANTEED)
    event = samples.creating(big, samples.container(big, limits=samples.whole(8)))
    assert placed(lifecycle.absorb(node(WEB), event))["sandbox-big-0/main"] == "0-7"


def _without(now: state.State, online: str) -> state.State:
    terms = state.terms(samples.topology(EIGHT, online=online), schema.Config())
    return lifecycle.retry(dataclasses.replace(now, terms=terms))


def test_cpus_that_are_offline_leave_the_pool_and_stay_in_claims() -> None:
    now = _without(node(WEB, LISTED, DB), "0-3,5-6")
    assert placed(now)["sandbox-web-0/main"] == "0-3,5"
    assert placed(now)["sandbox-db-0/main"] == "6-7"
    assert placed(now)["sandbox-listed-0/main"].split(":")[0] == "3-4"


def test_who_has_no_cpu_of_its_claim_online_runs_on_the_pool_until_it_has_one_again() -> None:
    """The kernel would give it all that its parent has, exclusive CPUs of others too."""
    now = _without(node(WEB, LISTED, DB), "0-2,5-6")
    assert placed(now)["sandbox-listed-0/main"] == "0-2,5"
    assert placed(_without(now, "0-7"))["sandbox-listed-0/main"].split(":")[0] == "3-4"


def test_where_no_cpu_of_the_pool_is_online_nobody_is_told_to_have_none() -> None:
    """An empty `cpuset.cpus` means everything that the parent has, exclusive CPUs too."""
    now = _without(node(WEB, PICKY, DB), "2-3")
    assert now.pool == cpus("")
    assert placed(now) == {"sandbox-db-0/main": "2-3"}


def test_a_shared_container_is_refused_where_no_cpu_of_the_pool_is_online() -> None:
    now = _without(node(DB), "2-3")
    with pytest.raises(errors.Refused, match="the shared pool is empty"):
        lifecycle.admit(now, samples.creating(WEB, samples.container(WEB)))
    late = lifecycle.absorb(now, samples.creating(WEB, samples.container(WEB)))
    assert "the shared pool is empty" in late.ledger.unsatisfied[samples.container(WEB).id]
    assert not lifecycle.retry(dataclasses.replace(late, terms=node(DB).terms)).ledger.unsatisfied
