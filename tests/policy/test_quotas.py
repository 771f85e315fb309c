"""Whose CFS quota is lifted, and what is given back."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler import events, intent
from reconciler.config import schema
from reconciler.cpu import bandwidth
from reconciler.policy import desired, lifecycle, quotas, state
from reconciler.sim import machine
from tests.pipeline import samples

# covers: PRD-2.13

LIFT = schema.Config(cfs_quota="lift")
KEEP = schema.Config()
SHAPE = machine.Shape(sockets=1, cores=8)
HALF = events.CpuLimits(shares=512, quota=50_000, period=100_000)
DB = samples.pod("db", qos=samples.GUARANTEED, paused=True)
MAIN = samples.container(DB, "main", limits=samples.whole(2))
SECOND = samples.container(DB, "second", limits=samples.whole(1))
SIDECAR = samples.container(DB, "sidecar", limits=HALF)
EPHEMERAL = samples.container(DB, "debug")


def node(*containers: events.Container, pod: events.Pod = DB, config: schema.Config = LIFT) -> state.State:
    """Everything was created and runs."""
    now = samples.fresh(SHAPE, config=config)
    for its in containers:
        now, _, _ = lifecycle.admit(now, samples.creating(pod, its))
        now = lifecycle.absorb(now, events.ContainerStarting(pod=pod, container=its))
    return now


def under(now: state.State, config: schema.Config) -> state.State:
    """The same under another configuration."""
    return dataclasses.replace(now, terms=state.terms(now.terms.topology, config))


def files(wishes: tuple[bandwidth.Wish, ...]) -> dict[str, str]:
    """What each file should say where it says what its neighbours do not: no limit, or 1 ms."""
    lifted, limited = bandwidth.Bandwidth(), bandwidth.Bandwidth(quota=1000)
    return {its.file: str(its.instead(limited if its.lifted else lifted)) for its in wishes}


def wishes(now: state.State, *containers: events.Container) -> list[dict[str, str]]:
    """Of each container, as they are desired."""
    placements = desired.desired(now)
    return [files(placements[its.id].quotas) for its in containers]


def test_nothing_is_wished_for_where_quotas_are_kept() -> None:
    now = node(MAIN, SIDECAR, config=KEEP)
    assert {placement.quotas for placement in desired.desired(now).values()} == {()}


def test_an_exclusive_container_and_its_pod_are_freed() -> None:
    assert wishes(node(MAIN), MAIN) == [{"cpu.max": "max 100000", "../cpu.max": "max 100000"}]


def test_a_pod_is_freed_through_one_of_its_containers() -> None:
    assert wishes(node(MAIN, SECOND), MAIN, SECOND) == [
        {"cpu.max": "max 100000", "../cpu.max": "max 100000"},
        {"cpu.max": "max 100000"},
    ]


def test_a_pod_with_another_container_has_the_sum_of_limits_in_the_place_of_none() -> None:
    assert wishes(node(MAIN, SIDECAR), MAIN, SIDECAR) == [
        {"cpu.max": "max 100000", "../cpu.max": "250000 100000"},
        {},
    ]


def test_a_pod_whose_limits_are_not_all_known_is_left_as_it_is() -> None:
    assert wishes(node(MAIN, EPHEMERAL), MAIN) == [{"cpu.max": "max 100000", "../cpu.max": "max 100000"}]
    [_, pods] = desired.desired(node(MAIN, EPHEMERAL))[MAIN.id].quotas
    assert not pods.lifted


def test_a_pod_is_freed_again_when_the_other_container_has_stopped() -> None:
    now = node(MAIN, SIDECAR)
    now = lifecycle.absorb(now, events.ContainerStopped(pod=DB, container=SIDECAR))
    assert wishes(now, MAIN) == [{"cpu.max": "max 100000", "../cpu.max": "max 100000"}]


def test_a_container_that_is_not_started_yet_counts_already() -> None:
    now, _, _ = lifecycle.admit(node(MAIN), samples.creating(DB, SIDECAR))
    assert wishes(now, MAIN) == [{"cpu.max": "max 100000", "../cpu.max": "250000 100000"}]


@pytest.mark.parametrize(
    ("pod", "container"),
    [
        (samples.pod("web"), samples.container(samples.pod("web"), limits=HALF)),
        (DB, SIDECAR),
        (
            samples.pod("list", annotations={intent.CORES: "2-3"}),
            samples.container(samples.pod("list"), limits=HALF),
        ),
    ],
    ids=["shared", "a fraction", "annotated-shared"],
)
def test_what_is_not_exclusive_keeps_its_quota(pod: events.Pod, container: events.Container) -> None:
    assert wishes(node(container, pod=pod), container) == [{}]


def test_under_an_exclusive_list_who_has_no_whole_cpus_keeps_what_bounds_it() -> None:
    pod = samples.pod("list", qos=samples.GUARANTEED, annotations={intent.CORES: "2-3"})
    whole = samples.container(pod, "main", limits=samples.whole(2))
    part = samples.container(pod, "sidecar", limits=HALF)
    now = node(whole, part, pod=pod)
    assert desired.desired(now)[part.id].owner is not None
    assert wishes(now, whole, part) == [{"cpu.max": "max 100000", "../cpu.max": "250000 100000"}, {}]


def test_an_unsatisfied_container_keeps_its_quota() -> None:
    now = samples.fresh(machine.Shape(sockets=1, cores=2), config=LIFT)
    large = samples.container(DB, limits=samples.whole(8))
    now = lifecycle.absorb(now, events.ContainerStarting(pod=DB, container=large))
    assert large.id in now.ledger.unsatisfied
    assert wishes(now, large) == [{}]


def test_a_container_whose_list_could_not_become_exclusive_keeps_its_quota() -> None:
    mine, other = (
        samples.pod(name, qos=samples.GUARANTEED, annotations={intent.CORES: "2-3"}) for name in ("a", "b")
    )
    now = samples.fresh(SHAPE, config=LIFT)
    whole = samples.container(mine, "main", limits=samples.whole(2))
    part = samples.container(mine, "sidecar", limits=HALF)
    for pod, its in ((mine, part), (other, samples.container(other, limits=HALF)), (mine, whole)):
        now = lifecycle.absorb(now, events.ContainerStarting(pod=pod, container=its))
    assert whole.id in now.ledger.unsatisfied
    assert now.ledger.intents[whole.id].kind is intent.Kind.ANNOTATED_EXCLUSIVE
    assert quotas.wishes(now, whole) == ()


def test_a_limit_that_changes_changes_what_is_desired() -> None:
    resized = dataclasses.replace(MAIN, limits=samples.whole(3))
    assert desired.desired(node(MAIN))[MAIN.id].quotas != desired.desired(node(resized))[MAIN.id].quotas


def test_what_was_lifted_is_given_back_once_when_quotas_are_kept_again() -> None:
    now = under(node(MAIN), KEEP)
    back = quotas.returns(now, MAIN, {MAIN.id})
    assert files(back) == {"cpu.max": "200000 100000", "../cpu.max": "200000 100000"}
    assert all(wish.once for wish in back)


def test_the_pods_quota_is_given_back_through_one_container() -> None:
    now = under(node(MAIN, SECOND), KEEP)
    both = {MAIN.id, SECOND.id}
    assert [files(quotas.returns(now, its, both)) for its in (MAIN, SECOND)] == [
        {"cpu.max": "200000 100000", "../cpu.max": "300000 100000"},
        {"cpu.max": "100000 100000"},
    ]


def test_the_pods_quota_allows_for_a_container_between_two_attempts() -> None:
    now = node(MAIN, SIDECAR)
    now = lifecycle.absorb(now, events.ContainerStopped(pod=DB, container=SIDECAR))
    back = quotas.returns(under(now, KEEP), MAIN, {MAIN.id})
    assert files(back) == {"cpu.max": "200000 100000", "../cpu.max": "250000 100000"}


def test_two_attempts_of_a_container_count_once() -> None:
    now = node(MAIN, SIDECAR)
    now = lifecycle.absorb(now, events.ContainerStopped(pod=DB, container=SIDECAR))
    again = samples.container(DB, "sidecar", limits=HALF, attempt=1)
    now = lifecycle.absorb(now, events.ContainerStarting(pod=DB, container=again))
    assert files(quotas.returns(under(now, KEEP), MAIN, {MAIN.id}))["../cpu.max"] == "250000 100000"


def test_the_pods_quota_stays_with_those_that_are_still_exclusive() -> None:
    first = samples.container(DB, "a", limits=HALF)
    now = node(first, SECOND)
    assert files(quotas.returns(now, first, {first.id, SECOND.id})) == {"cpu.max": "50000 100000"}


def test_a_quota_that_nobody_knows_is_not_given_back() -> None:
    bare = samples.container(DB, limits=events.CpuLimits(shares=2048))
    now = under(node(bare), KEEP)
    assert [wish.limit for wish in quotas.returns(now, bare, {bare.id})] == [None, None]


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        pytest.param(samples.whole(2), intent.Kind.INTEGER, id="the record still has the quota"),
        pytest.param(events.CpuLimits(shares=2048), intent.Kind.INTEGER, id="shares decide without it"),
        pytest.param(
            events.CpuLimits(shares=2048, quota=-1, period=100_000), intent.Kind.INTEGER, id="none is said"
        ),
        pytest.param(events.CpuLimits(shares=2000), intent.Kind.SHARED, id="shares that are no whole CPUs"),
    ],
)
def test_after_a_restart_the_runtimes_record_decides_and_not_the_lifted_file(
    limits: events.CpuLimits, kind: intent.Kind
) -> None:
    its = dataclasses.replace(MAIN, limits=limits, phase=events.Phase.RUNNING)
    now = samples.fresh(SHAPE, config=LIFT)
    now = lifecycle.absorb(now, events.Synchronized(pods=(DB,), containers=(its,)))
    now = lifecycle.adopt(now, {its.id: samples.cpus("2-3")})
    assert now.ledger.intents[its.id].kind is kind
    assert (now.ledger.exclusive == samples.cpus("2-3")) == (kind is intent.Kind.INTEGER)
