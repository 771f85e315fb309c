"""Any order of pods that come and go and of doors that open and close: nobody moves for a change of doors."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import errors, events, intent, inventory, observed
from reconciler.cpu.bandwidth import Bandwidth
from reconciler.cpu.idset import CpuSet
from reconciler.policy import desired, lifecycle, naming, state
from reconciler.runtime import tree
from reconciler.sim import machine
from tests.pipeline import samples

# covers: PRD-8.13, PRD-8.18

SETTINGS = settings(deadline=None, max_examples=200, print_blob=True)
ANNOTATIONS = {
    "db": {},
    "etcd": {},
    "cache": {intent.FORBID: "2-3"},
    "listed": {intent.CORES: "12-15"},
    "web": {},
}
COUNTS = {"a": 2, "b": 2, "c": 3, "side": 0}


def complain(error: errors.Malformed) -> None:
    raise error


def id_of(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()


def manifest(name: str) -> events.Pod:
    pod = samples.pod(
        name,
        qos=samples.BURSTABLE if name == "web" else samples.GUARANTEED,
        annotations=ANNOTATIONS[name],
    )
    return dataclasses.replace(pod, sandbox=events.SandboxId(id_of("sandbox", name)))


def directory(pod: events.Pod) -> str:
    return f"kubepods/{'burstable/' if pod.qos is samples.BURSTABLE else ''}pod{pod.uid}"


@dataclass(slots=True)
class Node:
    """What runs, what the agent knows, and what the files say. `view` is None while a runtime answers."""

    now: state.State
    pods: dict[str, events.Pod] = field(default_factory=dict)
    running: dict[str, events.Container] = field(default_factory=dict)
    files: dict[events.ContainerId, CpuSet] = field(default_factory=dict)
    view: tree.View | None = None
    clock: float = 0.0
    attempts: int = 0

    def step(self, what: str, pod: str, name: str) -> None:
        match what:
            case "start":
                self.start(pod, name)
            case "exit":
                self.exit(pod, name)
            case "delete":
                self.delete(pod)
            case "tree":
                self.open_tree()
            case _:
                self.open_list()
        self.write()

    def start(self, pod: str, name: str) -> None:
        """The next attempt of a container, with its pod if that is not there."""
        if f"{pod}/{name}" in self.running:
            return
        if pod not in self.pods:
            self.pods[pod] = manifest(pod)
            self.tell(events.PodStarted(pod=self.pods[pod]))
        self.attempts += 1
        its = self.pods[pod]
        id_ = id_of(pod, name, self.attempts)
        count = COUNTS[name] if its.qos is samples.GUARANTEED else 0
        self.running[f"{pod}/{name}"] = container = dataclasses.replace(
            samples.container(its, name, limits=samples.whole(count) if count else None),
            id=events.ContainerId(id_),
            cgroup=f"{directory(its)}/{id_}",
            phase=events.Phase.RUNNING,
        )
        self.tell(events.ContainerStarting(pod=its, container=container))

    def exit(self, pod: str, name: str) -> None:
        """It ends by itself; its record stays."""
        if (container := self.running.pop(f"{pod}/{name}", None)) is not None:
            self.files.pop(container.id, None)
            self.tell(events.ContainerStopped(pod=self.pods[pod], container=container))

    def delete(self, pod: str) -> None:
        """The pod ends with all that runs in it."""
        if (its := self.pods.pop(pod, None)) is None:
            return
        for name in [name for name in self.running if name.startswith(f"{pod}/")]:
            self.files.pop(self.running.pop(name).id, None)
        self.tell(events.PodRemoved(sandbox=its.sandbox))

    def tell(self, event: events.Event) -> None:
        """By the door that is open: the event, or what a walk finds."""
        if self.view is None:
            self.now = lifecycle.retry(lifecycle.absorb(self.now, event))
        else:
            self.walk(self.view)

    def open_list(self) -> None:
        self.view = None
        self.take(
            events.Synchronized(pods=tuple(self.pods.values()), containers=tuple(self.running.values()))
        )

    def open_tree(self) -> None:
        self.view = tree.View(self.now.inventory, complain)
        self.walk(self.view)

    def walk(self, view: tree.View) -> None:
        """Two walks, with time between them for a class to be sure of."""
        for _ in range(2):
            for event in view.news(self.groups(), self.now.ledger, self.clock):
                if isinstance(event, events.Synchronized):
                    self.take(event)
                else:
                    self.now = lifecycle.retry(lifecycle.absorb(self.now, event))
            self.clock += tree.SETTLED_SECONDS

    def take(self, event: events.Synchronized) -> None:
        after = naming.renamed(lifecycle.absorb(self.now, event), self.now.inventory)
        self.now = lifecycle.retry(lifecycle.adopt(after, self.files))

    def groups(self) -> list[observed.PodGroup]:
        return [
            observed.PodGroup(
                path=directory(pod),
                groups=tuple(
                    observed.Group(
                        path=str(its.cgroup),
                        is_populated=True,
                        quota=Bandwidth(quota=its.limits.quota),
                        weight=1,
                        cpus=self.files.get(its.id, CpuSet()),
                    )
                    for name, its in self.running.items()
                    if name.startswith(f"{key}/")
                ),
            )
            for key, pod in self.pods.items()
        ]

    def write(self) -> None:
        """The files become what is desired."""
        live = {its.id for its in self.running.values()}
        self.files |= {id_: its.cpus for id_, its in desired.desired(self.now).items() if id_ in live}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "start", "start", "exit", "delete", "tree", "list"]),
        st.sampled_from(sorted(ANNOTATIONS)),
        st.sampled_from(sorted(COUNTS)),
    ),
    max_size=24,
)


def fresh() -> Node:
    made = Node(now=samples.fresh(machine.Shape(sockets=2, cores=8)))
    made.open_list()
    return made


def check(its: Node) -> None:
    """Nobody is on another's CPUs, and everyone who runs has a place."""
    taken = CpuSet()
    for claim in its.now.ledger.claims.values():
        assert claim.cpus.isdisjoint(taken)
        taken |= claim.cpus
    assert taken == its.now.ledger.exclusive | its.now.ledger.pinned
    assert {container.id for container in its.running.values()} == its.files.keys()
    assert all(its.files.values())


@given(STEPS)
@SETTINGS
def test_whatever_happens_in_whatever_order_claims_are_disjoint_and_nobody_is_lost(
    steps: list[tuple[str, str, str]],
) -> None:
    its = fresh()
    for what, pod, name in steps:
        its.step(what, pod, name)
        check(its)


@given(STEPS)
@SETTINGS
def test_a_change_of_doors_moves_nobody_whose_annotations_were_known(
    steps: list[tuple[str, str, str]],
) -> None:
    its = fresh()
    for what, pod, name in steps:
        known = {key for key, its_pod in its.pods.items() if _is_known(its.now.inventory, its_pod)}
        before, unsatisfied = dict(its.files), dict(its.now.ledger.unsatisfied)
        its.step(what, pod, name)
        if what not in ("tree", "list") or unsatisfied or its.now.ledger.unsatisfied:
            continue
        for key, container in its.running.items():
            owner = key.partition("/")[0]
            if (owner in known or not ANNOTATIONS[owner]) and _has_own(its, container.id):
                assert its.files[container.id] == before[container.id], key


def _is_known(known: inventory.Inventory, pod: events.Pod) -> bool:
    return any(its.uid == pod.uid and naming.is_named(its) for its in known.pods.values())


def _has_own(its: Node, id_: events.ContainerId) -> bool:
    what = its.now.ledger.intents.get(id_)
    return what is not None and what.kind in intent.CLAIMING


@given(STEPS)
@SETTINGS
def test_after_a_list_everyone_holds_what_is_his_under_his_name(steps: list[tuple[str, str, str]]) -> None:
    its = fresh()
    for what, pod, name in steps:
        its.step(what, pod, name)
    its.open_list()
    its.write()
    check(its)
    for key, container in its.running.items():
        owner = its.pods[key.partition("/")[0]]
        what_for = its.now.ledger.intents[container.id]
        assert what_for == intent.decide(owner, container, its.now.terms.config)
        if what_for.kind in intent.CLAIMING and container.id not in its.now.ledger.unsatisfied:
            claim = state.claim_of(its.now.ledger, owner, container, what_for)
            assert claim is not None
            assert container.name in claim.holders
            assert claim.pod == f"{owner.namespace}/{owner.name}"
            assert claim.cpus == its.files[container.id]
