"""Two lists of the runtime become the events that lie between them."""

from __future__ import annotations

import pytest

from reconciler import events
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.cri import view
from tests.cri import lists

S = lists.sandbox("s")
CREATED, RUNNING, EXITED = cri.CONTAINER_CREATED, cri.CONTAINER_RUNNING, cri.CONTAINER_EXITED


def kinds(news: list[object]) -> list[str]:
    """What kinds of events these are, with the ids that they are about."""
    found = []
    for event in news:
        match event:
            case events.PodStarted(pod=pod):
                found.append(f"PodStarted {pod.sandbox}")
            case events.PodStopped(sandbox=id_) | events.PodRemoved(sandbox=id_):
                found.append(f"{type(event).__name__} {id_}")
            case events.Synchronized():
                found.append("Synchronized")
            case _:
                found.append(f"{type(event).__name__} {event.container.id}")  # type: ignore[attr-defined]
    return found


@pytest.fixture
def node() -> lists.Node:
    """A node whose runtime was seen once, empty."""
    made = lists.Node()
    assert kinds(made.poll([], [])) == ["Synchronized"]
    return made


def test_the_first_look_is_one_list_of_all_that_is_alive() -> None:
    node = lists.Node()
    stopped = lists.sandbox("old", ready=False)
    containers = [
        lists.container("a"),
        lists.container("b", state=EXITED),
        lists.container("c", "old", EXITED),
        lists.container("d", "unlisted"),
    ]
    (event,) = node.poll([S, stopped], containers)
    assert isinstance(event, events.Synchronized)
    assert [pod.sandbox for pod in event.pods] == ["s"]
    assert [container.id for container in event.containers] == ["a"]
    assert node.asked == ["s", "a"]


def test_what_a_status_says_is_in_the_events(node: lists.Node) -> None:
    started, starting = node.poll([lists.sandbox("s", cores_ids="2-3")], [lists.container("a")])
    pod = events.Pod(
        sandbox=events.SandboxId("s"),
        uid=events.PodUid("1"),
        namespace="default",
        name="web",
        annotations={"weka.io/cores-ids": "2-3"},
        qos=events.Qos.GUARANTEED,
        cgroup="kubepods.slice/kubepods-pod1.slice/cri-containerd-s.scope",
    )
    container = events.Container(
        id=events.ContainerId("a"),
        sandbox=events.SandboxId("s"),
        name="main",
        cgroup="kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope",
        limits=events.CpuLimits(shares=2048, quota=200_000, period=100_000),
        phase=events.Phase.RUNNING,
    )
    assert started == events.PodStarted(pod=pod)
    assert starting == events.ContainerStarting(pod=pod, container=container)
    assert node.complaints == []


def test_a_container_is_told_when_it_is_created_started_ended_and_forgotten(node: lists.Node) -> None:
    seen = [
        kinds(node.poll([S], [lists.container("a", state=state)]))
        for state in (CREATED, CREATED, RUNNING, RUNNING, EXITED, EXITED)
    ]
    assert seen == [
        ["PodStarted s", "ContainerCreating a"],
        [],
        ["ContainerStarting a"],
        [],
        ["ContainerStopped a"],
        [],
    ]
    assert kinds(node.poll([S], [])) == ["ContainerRemoved a"]
    assert kinds(node.poll([S], [])) == []


def test_what_began_and_ended_between_two_looks_is_not_told(node: lists.Node) -> None:
    assert kinds(node.poll([S], [lists.container("a", state=EXITED)])) == ["PodStarted s"]
    assert kinds(node.poll([S], [])) == []
    assert kinds(node.poll([lists.sandbox("t", ready=False)], [])) == ["PodRemoved s"]


@pytest.mark.parametrize(
    ("left", "told"),
    [([lists.sandbox("s", ready=False)], "PodStopped s"), ([], "PodRemoved s")],
    ids=["stopped", "removed"],
)
def test_a_pod_ends_with_all_its_containers(node: lists.Node, left: list[cri.PodSandbox], told: str) -> None:
    node.poll([S], [lists.container("a"), lists.container("b", name="side")])
    rest = [lists.container("a", state=EXITED)] if left else []
    news = kinds(node.poll(left, rest))
    assert news == (["ContainerStopped a", told] if left else [told])
    assert kinds(node.poll(left, rest)) == []
    assert kinds(node.poll([], [])) == []


def test_a_sandbox_that_is_not_ready_lives_while_something_runs_in_it(node: lists.Node) -> None:
    node.poll([S], [lists.container("a")])
    dying = [lists.sandbox("s", ready=False)]
    assert kinds(node.poll(dying, [lists.container("a")])) == []
    assert kinds(node.poll(dying, [lists.container("a", state=EXITED)])) == [
        "ContainerStopped a",
        "PodStopped s",
    ]


def test_a_new_sandbox_of_a_pod_comes_before_the_old_ones_end(node: lists.Node) -> None:
    node.poll([S], [lists.container("a")])
    both = [lists.sandbox("s", ready=False), lists.sandbox("t")]
    containers = [lists.container("a", state=EXITED), lists.container("b", "t")]
    assert kinds(node.poll(both, containers)) == [
        "PodStarted t",
        "ContainerStopped a",
        "PodStopped s",
        "ContainerStarting b",
    ]


def test_a_newer_attempt_comes_before_the_older_ones_record_goes(node: lists.Node) -> None:
    node.poll([S], [lists.container("a")])
    assert kinds(node.poll([S], [lists.container("b", age=2)])) == [
        "ContainerStarting b",
        "ContainerRemoved a",
    ]


def test_the_order_of_the_lists_does_not_matter() -> None:
    sandboxes = [lists.sandbox(f"s{number}", uid=str(number)) for number in range(5)]
    containers = [lists.container(f"c{number}", f"s{number % 5}", age=number) for number in range(20)]
    seen = set()
    for shown in (containers, containers[::-1], containers[7:] + containers[:7]):
        node = lists.Node()
        node.poll([], [])
        seen.add(tuple(event for event in kinds(node.poll(sandboxes, shown)) if "Pod" not in event))
    assert seen == {tuple(f"ContainerStarting c{number}" for number in range(20))}


def test_the_same_thing_listed_twice_is_told_once(node: lists.Node) -> None:
    news = kinds(node.poll([S, S], [lists.container("a"), lists.container("a")]))
    assert news == ["PodStarted s", "ContainerStarting a"]


@pytest.mark.parametrize("plain", [False, True], ids=["in the verbose info", "in the status"])
def test_a_resize_tells_what_has_changed(node: lists.Node, plain: bool) -> None:
    node.statuses["a"] = lists.status("a", plain=plain)
    node.poll([S], [lists.container("a")])
    assert node.poll([S], [lists.container("a")], "a") == []
    node.statuses["a"] = lists.status("a", shares=4096, quota=400_000, plain=plain)
    (event,) = node.poll([S], [lists.container("a")], "a")
    assert isinstance(event, events.ContainerUpdating)
    assert event.limits == events.CpuLimits(shares=4096, quota=400_000)
    assert event.container.limits == events.CpuLimits(shares=4096, quota=400_000, period=100_000)
    assert node.poll([S], [lists.container("a")], "a") == []


def test_limits_are_asked_for_without_verbose_info_where_that_will_do(node: lists.Node) -> None:
    node.statuses["a"] = lists.status("a", plain=True)
    both = [lists.container("a"), lists.container("b", name="side")]
    node.poll([S], both)
    wanted = node.view.look(both, [S], ("a", "b"))
    assert set(wanted.again) == {"a", "b"}
    assert wanted.plain == {"a"}


def test_every_container_has_its_turn_to_be_asked_again(node: lists.Node) -> None:
    containers = [lists.container(f"c{number}", name=str(number)) for number in range(10)]
    node.poll([S], containers)
    turns = [node.view.look(containers, [S]).again for _ in range(3)]
    assert max(map(len, turns)) == view.AGAIN_AT_ONCE
    assert {id_ for turn in turns for id_ in turn} == {container.id for container in containers}


def test_containers_without_a_cgroup_on_this_host_have_none(node: lists.Node) -> None:
    kata = lists.sandbox("s", handler="kata-qemu")
    started, starting = node.poll([kata], [lists.container("a")])
    assert isinstance(started, events.PodStarted)
    assert isinstance(starting, events.ContainerStarting)
    assert (started.pod.cgroup, starting.container.cgroup) == (None, None)


def test_a_pod_whose_own_status_says_nothing_is_placed_by_its_containers(node: lists.Node) -> None:
    containers = [lists.container("a")]
    wanted = node.view.look(containers, [S])
    assert (wanted.sandboxes, wanted.containers) == (("s",), ("a",))
    node.view.pod("s", cri.PodSandboxStatusResponse())
    node.view.container("a", lists.status("a"))
    started, starting = node.view.news()
    assert isinstance(started, events.PodStarted)
    assert isinstance(starting, events.ContainerStarting)
    assert started.pod.qos is events.Qos.GUARANTEED
    assert starting.container.cgroup == "kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope"


@pytest.mark.parametrize(
    ("runtime", "parent", "path"),
    [
        ("containerd", "kubepods-pod1.slice", "kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope"),
        (
            "cri-o",
            "/kubepods.slice/kubepods-pod1.slice",
            "kubepods.slice/kubepods-pod1.slice/crio-a.scope",
        ),
        ("containerd", "/kubepods/pod1", "kubepods/pod1/a"),
        ("cri-o", "/kubepods/burstable/pod1", "kubepods/burstable/pod1/crio-a"),
    ],
)
def test_without_verbose_info_the_cgroup_follows_from_the_pods_parent(
    runtime: str, parent: str, path: str
) -> None:
    its = view.View(lambda _: None, runtime)
    its.look([lists.container("a")], [S])
    its.pod("s", lists.pod_status(parent))
    its.container("a", cri.ContainerStatusResponse())
    (event,) = its.news()
    assert isinstance(event, events.Synchronized)
    assert event.containers[0].cgroup == path


@pytest.mark.parametrize("text", ["{", "[]", '{"pid": "x"}', "[" * 100_000, "\x00"], ids=repr)
def test_verbose_info_that_cannot_be_right_costs_only_itself(node: lists.Node, text: str) -> None:
    node.statuses["a"] = cri.ContainerStatusResponse(info={"info": text})
    news = node.poll([S], [lists.container("a"), lists.container("b", name="side")])
    assert kinds(news) == ["PodStarted s", "ContainerStarting a", "ContainerStarting b"]
    assert len(node.complaints) == 1
    assert node.complaints[0].startswith("verbose info: ")


@pytest.mark.parametrize("shares", [1 << 63, 10**30, -(10**30)])
def test_limits_that_no_kernel_holds_count_as_not_said(node: lists.Node, shares: int) -> None:
    node.statuses["a"] = lists.status("a", shares=shares)
    _, starting = node.poll([S], [lists.container("a")])
    assert isinstance(starting, events.ContainerStarting)
    assert starting.container.limits == events.CpuLimits(quota=200_000, period=100_000)


def test_a_known_container_is_found_by_its_cgroup_until_it_runs(node: lists.Node) -> None:
    cgroup = "kubepods.slice/kubepods-pod1.slice/cri-containerd-a.scope"
    node.poll([S], [lists.container("a", state=CREATED)])
    (found,) = node.view.at(["elsewhere", cgroup])
    assert found.container.id == "a"
    node.poll([S], [lists.container("a")])
    assert node.view.at([cgroup]) == []


def test_the_cgroups_of_the_pods_are_known(node: lists.Node) -> None:
    node.poll([S], [])
    assert node.view.directories() == {"kubepods.slice/kubepods-pod1.slice"}
    node.poll([], [])
    assert node.view.directories() == set()


def test_a_flood_is_asked_for_in_parts_and_none_is_left_out(node: lists.Node) -> None:
    number = 5 * view.NEW_AT_ONCE // 2
    containers = [lists.container(f"c{age}", name=str(age), age=age) for age in range(number)]
    told = []
    for _ in range(3):
        told += kinds(node.poll([S], containers))
        assert len(node.asked) <= view.NEW_AT_ONCE + 1
    assert told == ["PodStarted s", *(f"ContainerStarting c{age}" for age in range(number))]


def test_those_that_are_refused_keep_no_new_ones_waiting(node: lists.Node) -> None:
    bad = [lists.container(f"c{age}", name=str(age), age=age) for age in range(view.NEW_AT_ONCE)]
    node.poll([S], [])
    for id_ in node.view.look(bad, [S]).containers:
        node.view.refused(id_)
    assert node.view.look([*bad, lists.container("new", age=999)], [S]).containers[0] == "new"
