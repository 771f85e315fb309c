"""From walks through the tree to events: who is meant, what is known of him, and when it can be told."""

from __future__ import annotations

import dataclasses

import pytest
from rpds import HashTrieMap

from reconciler import errors, events, intent, inventory, observed
from reconciler.cpu import weight
from reconciler.cpu.bandwidth import Bandwidth
from reconciler.policy import state
from reconciler.runtime import cgroup_path, tree
from tests.pipeline.samples import cpus

UID = "5b8a3f10-0000-4000-8000-000000000001"
POD = f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice"
BURSTABLE = "kubepods/burstable/pod5b8a"
A, B, C, PAUSE = ("abcd"[at] * 64 for at in range(4))
TWO = Bandwidth(quota=200_000)
NOBODY = inventory.Inventory()
NOTHING = state.Ledger()
SETTLED = tree.SETTLED_SECONDS


def scope(id_: str, pod: str = POD) -> str:
    return f"{pod}/cri-containerd-{id_}.scope" if pod.endswith(".slice") else f"{pod}/{id_}"


def group(
    id_: str,
    pod: str = POD,
    *,
    quota: Bandwidth | None = TWO,
    weighs: int = 79,
    on: str = "",
    populated: bool = True,
) -> observed.Group:
    return observed.Group(
        path=scope(id_, pod), is_populated=populated, quota=quota, weight=weighs, cpus=cpus(on)
    )


def walk(*groups: observed.Group, pod: str = POD) -> list[observed.PodGroup]:
    return [observed.PodGroup(path=pod, groups=groups)]


def known(*containers: tuple[str, str], annotations: dict[str, str] | None = None) -> inventory.Inventory:
    """The pod `test/db`, whose sandbox is PAUSE, with containers by ids and names."""
    pod = events.Pod(
        sandbox=events.SandboxId(PAUSE),
        uid=events.PodUid(UID),
        namespace="test",
        name="db",
        annotations=annotations or {},
        qos=events.Qos.GUARANTEED,
        cgroup=None,
    )
    its = tuple(
        events.Container(
            id=events.ContainerId(id_),
            sandbox=pod.sandbox,
            name=name,
            cgroup=None,
            limits=events.CpuLimits(shares=2048, quota=200_000, period=100_000),
            phase=events.Phase.RUNNING,
        )
        for id_, name in containers
    )
    return inventory.reduce(NOBODY, events.Synchronized(pods=(pod,), containers=its))


def holding(
    *claims: tuple[str, str], kind: intent.Kind = intent.Kind.INTEGER, own: bool = True
) -> state.Ledger:
    """A ledger in which containers of the pod, by their names, hold CPUs."""
    ledger = state.Ledger()
    for name, held in claims:
        key = state.ClaimKey(events.PodUid(UID), name if own else "")
        holders = {name} | (ledger.claims[key].holders if key in ledger.claims else set())
        ledger = ledger.with_claim(
            state.Claim(key=key, kind=kind, cpus=cpus(held), pod="test/db", holders=frozenset(holders))
        )
    return ledger


def view(its: inventory.Inventory = NOBODY) -> tree.View:
    return tree.View(its, complain)


def complain(error: errors.Malformed) -> None:
    raise error


def listed(news: list[events.Event]) -> events.Synchronized:
    [event] = news
    assert isinstance(event, events.Synchronized)
    return event


def names(news: list[events.Event]) -> dict[str, str]:
    return {its.id: its.name for its in listed(news).containers}


def told(news: list[events.Event]) -> list[str]:
    """Events in short."""
    said = []
    for event in news:
        match event:
            case events.PodStarted():
                said.append(f"pod {event.pod.name} started")
            case events.PodRemoved():
                said.append("pod removed")
            case events.ContainerStarting() | events.ContainerStopped() | events.ContainerRemoved():
                said.append(f"{event.container.name[:4]} {type(event).__name__.removeprefix('Container')}")
            case _:
                said.append(type(event).__name__)
    return said


def test_who_is_not_known_is_called_by_uid_and_id() -> None:
    first = listed(view().news(walk(group(A)), NOTHING, 0))
    [pod], [container] = first.pods, first.containers
    assert (pod.uid, pod.namespace, pod.name, pod.qos) == (UID, "", UID, events.Qos.GUARANTEED)
    assert (container.id, container.name, container.cgroup) == (A, A, scope(A))
    assert container.limits == events.CpuLimits(quota=200_000, period=100_000)
    assert container.phase is events.Phase.RUNNING


def test_who_is_known_keeps_names_annotations_and_limits() -> None:
    its = known((A, "main"), annotations={intent.CORES: "6-7"})
    lifted = group(A, quota=Bandwidth(), weighs=1)
    first = listed(view(its).news(walk(group(PAUSE, weighs=1, quota=Bandwidth()), lifted), NOTHING, 0))
    [pod], [container] = first.pods, first.containers
    assert (pod.namespace, pod.name, dict(pod.annotations)) == ("test", "db", {intent.CORES: "6-7"})
    assert pod.cgroup == scope(PAUSE)
    assert container == dataclasses.replace(its.containers[events.ContainerId(A)], cgroup=scope(A))


def test_of_a_pod_whose_pause_container_is_gone_the_rest_is_known() -> None:
    [pod] = listed(view(known((A, "main"))).news(walk(group(A)), NOTHING, 0)).pods
    assert (pod.name, pod.cgroup) == ("db", None)


@pytest.mark.parametrize(
    "name",
    [
        f"crio-conmon-{A}.scope",
        f"crio-conmon-{A}",
        "init.scope",
        "container",
        f"cri-containerd-{A[:63]}.scope",
        f"{A}x",
        f"cri-containerd-{A.upper()}.scope",
    ],
)
def test_what_is_no_containers_group_is_passed_over(name: str) -> None:
    other = observed.Group(path=f"{POD}/{name}", is_populated=True, quota=TWO)
    assert listed(view().news(walk(other), NOTHING, 0)).containers == ()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (POD, UID),
        ("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod5b_8a.slice", "5b-8a"),
        ("kubepods/besteffort/pod5b-8a", "5b-8a"),
    ],
)
def test_a_path_tells_the_uid(path: str, expected: str) -> None:
    assert cgroup_path.uid(path) == expected


@pytest.mark.parametrize("name", [f"cri-containerd-{A}.scope", f"crio-{A}.scope", A, f"crio-{A}"])
def test_a_path_tells_the_id(name: str) -> None:
    assert cgroup_path.container_id(f"{POD}/{name}") == A


def test_a_container_without_a_process_is_not_there() -> None:
    assert listed(view().news(walk(group(A, populated=False)), NOTHING, 0)).containers == ()


@pytest.mark.parametrize(
    ("pod", "quota", "at_once"),
    [
        pytest.param(POD, TWO, True, id="a quota is believed at once"),
        pytest.param(POD, Bandwidth(), False, id="none is not"),
        pytest.param(POD, None, False, id="no file is not"),
        pytest.param(BURSTABLE, Bandwidth(), True, id="where it does not matter it is"),
    ],
)
def test_a_class_is_told_when_it_is_sure(pod: str, quota: Bandwidth | None, *, at_once: bool) -> None:
    its = view()
    found = walk(group(A, pod, quota=quota), pod=pod)
    assert (listed(its.news(found, NOTHING, 10.0)).containers != ()) is at_once
    assert its.expects(10.0 + SETTLED - 0.1) is not at_once
    assert told(its.news(found, NOTHING, 10.0 + SETTLED - 0.1)) == []
    assert told(its.news(found, NOTHING, 10.0 + SETTLED)) == ([] if at_once else ["aaaa Starting"])
    assert not its.expects(10.0 + SETTLED)


def test_a_quota_that_comes_late_decides() -> None:
    its = view()
    its.news(walk(group(A, quota=Bandwidth())), NOTHING, 0)
    [event] = its.news(walk(group(A)), NOTHING, 0.1)
    assert isinstance(event, events.ContainerStarting)
    assert intent.whole_cpus(event.container.limits) == 2


def test_a_container_whose_class_was_decided_before_is_told_at_once() -> None:
    what = intent.Intent(kind=intent.Kind.INTEGER, count=2, why="was so")
    ledger = NOTHING.with_intent(events.ContainerId(A), what)
    assert names(view().news(walk(group(A, quota=Bandwidth())), ledger, 0)) == {A: A}


@pytest.mark.parametrize("mapping", weight.Mapping)
def test_without_a_quota_the_weight_decides_where_known_containers_tell_what_it_means(
    mapping: weight.Mapping,
) -> None:
    its = view(known((A, "main")))
    found = walk(
        group(A, weighs=mapping.weight(2048)), group(B, quota=Bandwidth(), weighs=mapping.weight(3072))
    )
    its.news(found, NOTHING, 0)
    [event] = its.news(found, NOTHING, SETTLED)
    assert isinstance(event, events.ContainerStarting)
    assert event.container.limits == events.CpuLimits(shares=3072)


def test_without_a_quota_and_without_a_hint_nothing_is_known_of_limits() -> None:
    its = view()
    found = walk(group(B, quota=Bandwidth(), weighs=100))
    its.news(found, NOTHING, 0)
    [event] = its.news(found, NOTHING, SETTLED)
    assert isinstance(event, events.ContainerStarting)
    assert event.container.limits == events.CpuLimits()


@pytest.mark.parametrize(
    ("ledger", "on", "expected"),
    [
        pytest.param(holding(("main", "2-3")), "", "main", id="as many CPUs as are held"),
        pytest.param(holding(("main", "2-4")), "", A, id="of another size"),
        pytest.param(holding(("main", "2-4")), "2-4", "main", id="of another size, but there"),
        pytest.param(holding(("a", "2-3"), ("b", "4-5")), "4-5", "b", id="where it runs decides"),
        pytest.param(holding(("a", "2-3"), ("b", "4-5")), "", "a", id="the first, where nothing decides"),
        pytest.param(
            holding(("main", "2"), kind=intent.Kind.ANNOTATED_SHARED, own=False),
            "",
            "main",
            id="a list of the pod",
        ),
        pytest.param(
            holding(("main", "2-4"), kind=intent.Kind.ANNOTATED_EXCLUSIVE), "", A, id="another's own list"
        ),
        pytest.param(
            holding(("main", "2-4"), kind=intent.Kind.ANNOTATED_EXCLUSIVE), "2-4", "main", id="its own list"
        ),
    ],
)
def test_who_comes_in_the_place_of_a_holder_that_is_down_has_its_name(
    ledger: state.Ledger, on: str, expected: str
) -> None:
    assert names(view().news(walk(group(A, on=on)), ledger, 0)) == {A: expected}


def test_the_name_of_one_that_runs_is_nobody_elses() -> None:
    its = view(known((A, "main")))
    ledger = holding(("main", "2-3"))
    assert names(its.news(walk(group(A), group(B), group(C)), ledger, 0)) == {A: "main", B: B, C: C}


def test_two_that_come_at_once_have_two_names() -> None:
    ledger = holding(("a", "2-3"), ("b", "4-5"))
    assert names(view().news(walk(group(A), group(B), group(C)), ledger, 0)) == {A: "a", B: "b", C: C}


def test_nothing_new_is_no_news() -> None:
    its = view(known((A, "main")))
    found = walk(group(PAUSE), group(A))
    its.news(found, NOTHING, 0)
    assert its.paths == {scope(A)}
    assert its.directories() == {POD}
    bare = walk(*(observed.Group(path=scope(id_), is_populated=True) for id_ in (PAUSE, A)))
    for at in range(1, 4):
        assert its.news(bare, NOTHING, at) == []


def test_pods_and_containers_come_and_go_in_order() -> None:
    its = view()
    its.news([], NOTHING, 0)
    assert told(its.news(walk(group(A), group(B)), NOTHING, 1)) == [
        f"pod {UID} started",
        "aaaa Starting",
        "bbbb Starting",
    ]
    assert told(its.news(walk(group(A)), NOTHING, 2)) == ["bbbb Removed"]
    assert told(its.news([], NOTHING, 3)) == ["aaaa Removed", "pod removed"]
    assert (its.paths, its.directories()) == (frozenset(), frozenset())


def test_who_holds_cpus_is_down_until_another_comes_in_its_place() -> None:
    its = view(known((A, "main")))
    ledger = holding(("main", "2-3"))
    its.news(walk(group(A)), ledger, 0)
    assert told(its.news(walk(group(A, populated=False)), ledger, 1)) == ["main Stopped"]
    assert told(its.news(walk(), ledger, 2)) == []
    assert told(its.news(walk(group(B)), ledger, 3)) == ["main Starting", "main Removed"]
    assert told(its.news([], ledger, 4)) == ["main Stopped", "pod removed"]


def test_one_that_has_a_process_again_runs_again() -> None:
    its = view(known((A, "main")))
    ledger = holding(("main", "2-3"))
    for at, (populated, expected) in enumerate(
        [(True, None), (False, "main Stopped"), (True, "main Starting")]
    ):
        news = told(its.news(walk(group(A, populated=populated)), ledger, at))
        assert news == (["Synchronized"] if expected is None else [expected])


def test_a_path_that_no_pod_can_have_is_told_once() -> None:
    odd: list[errors.Malformed] = []
    its = tree.View(NOBODY, odd.append)
    for at in range(3):
        its.news(walk(group(A, "kubepods/other/pod1"), pod="kubepods/other/pod1"), NOTHING, at)
    assert len(odd) == 1
    assert listed(tree.View(NOBODY, odd.append).news(walk(pod="kubepods/x/pod1"), NOTHING, 0)).pods == ()


def test_of_several_sandboxes_of_a_pod_the_one_that_is_there_is_meant() -> None:
    old = known((A, "main"))
    [pod] = old.pods.values()
    newer = dataclasses.replace(pod, sandbox=events.SandboxId(C))
    both = dataclasses.replace(old, pods=HashTrieMap({newer.sandbox: newer, pod.sandbox: pod}))
    for sandbox in (PAUSE, C):
        [found] = listed(view(both).news(walk(group(sandbox)), NOTHING, 0)).pods
        assert (found.sandbox, found.cgroup) == (sandbox, scope(sandbox))
