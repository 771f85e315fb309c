"""The inventory holds who is on the node, whatever comes twice, late, or out of order."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import events, inventory
from tests.pipeline import samples

WEB = samples.pod("web", paused=True)
DB = samples.pod("db", qos=samples.GUARANTEED)
PODS = (WEB, DB)
CONTAINERS = tuple(
    samples.container(pod, name, attempt=attempt, phase=events.Phase.CREATED)
    for pod in PODS
    for name in ("main", "side")
    for attempt in (0, 1)
)


def _pod_of(its: events.Container) -> events.Pod:
    return next(pod for pod in PODS if pod.sandbox == its.sandbox)


def _about(its: events.Container) -> list[events.Event]:
    pod = _pod_of(its)
    return [
        events.ContainerCreating(pod=pod, container=its),
        events.ContainerStarting(pod=pod, container=its),
        events.ContainerUpdating(pod=pod, container=its, limits=events.CpuLimits(quota=5)),
        events.ContainerStopped(pod=pod, container=its),
        events.ContainerRemoved(pod=pod, container=its),
    ]


ALL: list[events.Event] = [
    *(events.PodStarted(pod=pod) for pod in PODS),
    *(events.PodStopped(sandbox=pod.sandbox) for pod in PODS),
    *(events.PodRemoved(sandbox=pod.sandbox) for pod in PODS),
    *(event for its in CONTAINERS for event in _about(its)),
    events.Synchronized(pods=(WEB,), containers=CONTAINERS),
    events.Synchronized(pods=(), containers=()),
]
MANY = st.lists(st.sampled_from(ALL), max_size=30)
QUICK = settings(deadline=None, print_blob=True)


def after(*happened: events.Event, start: inventory.Inventory | None = None) -> inventory.Inventory:
    known = start or inventory.Inventory()
    for event in happened:
        known = inventory.reduce(known, event)
    return known


@given(MANY)
@QUICK
def test_members_are_the_containers_by_their_sandbox_and_every_one_has_its_pod(
    happened: list[events.Event],
) -> None:
    known = after(*happened)
    by_sandbox: dict[events.SandboxId, set[events.ContainerId]] = {}
    for id_, its in known.containers.items():
        assert its.id == id_
        by_sandbox.setdefault(its.sandbox, set()).add(id_)
    assert {sandbox: set(ids) for sandbox, ids in known.members.items() if ids} == by_sandbox
    assert set(by_sandbox) <= set(known.pods)


@given(MANY, st.sampled_from(ALL))
@QUICK
def test_an_event_that_comes_twice_changes_nothing_the_second_time(
    happened: list[events.Event], event: events.Event
) -> None:
    once = after(event, start=after(*happened))
    assert after(event, start=once) == once


@given(MANY, st.sampled_from(ALL))
@QUICK
def test_an_older_inventory_stays_as_it_was(happened: list[events.Event], event: events.Event) -> None:
    before = after(*happened)
    copy = dict(before.pods), dict(before.containers), dict(before.members)
    after(event, start=before)
    assert (dict(before.pods), dict(before.containers), dict(before.members)) == copy


@given(MANY)
@QUICK
def test_what_a_full_list_says_does_not_depend_on_what_was_known(happened: list[events.Event]) -> None:
    listed = events.Synchronized(pods=PODS, containers=CONTAINERS)
    assert after(*happened, listed) == after(listed)


@given(MANY)
@QUICK
def test_nothing_is_left_of_pods_that_were_removed(happened: list[events.Event]) -> None:
    gone = after(*happened, *(events.PodRemoved(sandbox=pod.sandbox) for pod in PODS))
    assert gone == inventory.Inventory()


def test_a_sandbox_brings_its_pause_container_where_it_has_a_cgroup() -> None:
    known = after(events.PodStarted(pod=WEB), events.PodStarted(pod=DB))
    (pause,) = known.containers.values()
    assert pause.id == events.ContainerId(WEB.sandbox)
    assert (pause.name, pause.cgroup) == (inventory.PAUSE, WEB.cgroup)
    assert pause.phase is events.Phase.RUNNING


@pytest.mark.parametrize("event", _about(CONTAINERS[0])[:3], ids=lambda event: type(event).__name__)
def test_what_still_runs_is_adopted_with_its_pod(event: events.Event) -> None:
    known = after(event)
    assert set(known.pods) == {WEB.sandbox}
    assert CONTAINERS[0].id in known.containers


@pytest.mark.parametrize("event", _about(CONTAINERS[0])[3:], ids=lambda event: type(event).__name__)
def test_what_ends_is_not_adopted(event: events.Event) -> None:
    assert after(event) == inventory.Inventory()


def test_a_listed_container_without_its_pod_is_left_out() -> None:
    known = after(events.Synchronized(pods=(DB,), containers=CONTAINERS))
    assert {its.sandbox for its in known.containers.values()} == {DB.sandbox}


def test_an_id_that_is_told_again_of_another_sandbox_is_in_that_one_alone() -> None:
    before, moved = CONTAINERS[0], dataclasses.replace(CONTAINERS[0], sandbox=DB.sandbox)
    its = after(
        events.ContainerStarting(pod=WEB, container=before), events.ContainerStarting(pod=DB, container=moved)
    )
    assert {container.sandbox for container in its.containers.values()} == {WEB.sandbox, DB.sandbox}
    assert before.id not in its.members[WEB.sandbox]
    without = inventory.reduce(its, events.PodRemoved(sandbox=WEB.sandbox))
    assert set(without.containers) == {moved.id}
    assert inventory.reduce(without, events.PodRemoved(sandbox=DB.sandbox)) == inventory.Inventory()


def test_a_container_goes_through_its_phases() -> None:
    creating, starting, _, stopped, _ = _about(
        dataclasses.replace(CONTAINERS[0], phase=events.Phase.CREATING)
    )
    phases = []
    known = inventory.Inventory()
    for event in (creating, starting, stopped):
        known = after(event, start=known)
        phases.append(known.containers[CONTAINERS[0].id].phase)
    assert phases == [events.Phase.CREATING, events.Phase.RUNNING, events.Phase.STOPPED]


@pytest.mark.parametrize(
    ("changed", "limits"),
    [
        (events.CpuLimits(), events.CpuLimits(shares=2048, quota=200_000, period=100_000)),
        (events.CpuLimits(quota=300_000), events.CpuLimits(shares=2048, quota=300_000, period=100_000)),
        (events.CpuLimits(quota=-1), events.CpuLimits(shares=2048, quota=-1, period=100_000)),
        (events.CpuLimits(shares=512, quota=25_000, period=50_000),) * 2,
    ],
    ids=["nothing", "the quota", "no quota any more", "all"],
)
def test_a_resize_changes_the_limits_that_it_names_and_nothing_else(
    changed: events.CpuLimits, limits: events.CpuLimits
) -> None:
    its = dataclasses.replace(CONTAINERS[0], limits=samples.whole(2))
    created = events.ContainerCreating(pod=WEB, container=its)
    record = dataclasses.replace(its, limits=samples.whole(7), phase=events.Phase.RUNNING)
    updating = events.ContainerUpdating(pod=WEB, container=record, limits=changed)
    resized = events.ContainerCreating(pod=WEB, container=dataclasses.replace(its, limits=limits))
    assert after(created, updating) == after(resized)


def test_attempts_are_those_of_one_name_in_one_sandbox() -> None:
    known = after(events.Synchronized(pods=PODS, containers=CONTAINERS))
    ids = {its.id for its in known.attempts(WEB.sandbox, "main")}
    assert ids == {its.id for its in CONTAINERS if its.sandbox == WEB.sandbox and its.name == "main"}
    assert list(known.attempts(WEB.sandbox, "nobody")) == []
    assert list(known.attempts(events.SandboxId("nowhere"), "main")) == []


def test_a_pod_has_two_sandboxes_while_its_sandbox_is_made_anew() -> None:
    again = samples.pod("web", attempt=1)
    known = after(events.PodStarted(pod=WEB), events.PodStarted(pod=again), events.PodStarted(pod=DB))
    assert set(known.sandboxes(WEB.uid)) == {WEB.sandbox, again.sandbox}
    assert set(after(events.PodStopped(sandbox=WEB.sandbox), start=known).sandboxes(WEB.uid)) == {
        again.sandbox
    }
