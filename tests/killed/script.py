"""What happens on a node while its agent is killed: every kind of thing, one request at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from reconciler import events
from reconciler.sim import runtime_pods
from tests.killed import ground


def _pod(name: str, qos: events.Qos = events.Qos.GUARANTEED, **annotations: str) -> runtime_pods.PodSpec:
    uid = f"5b8a3f10-0000-4000-8000-{sum(map(ord, name)):012d}"
    named = {f"weka.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return runtime_pods.PodSpec(name=name, uid=uid, qos=qos, annotations=named)


def _whole(count: int) -> runtime_pods.ContainerSpec:
    return runtime_pods.ContainerSpec(name="main", limit=1000 * count, request=1000 * count)


def _shared(name: str) -> runtime_pods.ContainerSpec:
    return runtime_pods.ContainerSpec(name=name, request=100)


@dataclass(frozen=True, slots=True)
class Action:
    """One request, or the agent's own start. `concerns` are the containers whose claims it changes, `writes`
    one to whose cgroup the runtime itself writes, without asking if there is nobody to ask."""

    name: str
    do: Callable[[ground.Node], Awaitable[None]]
    concerns: frozenset[str] = frozenset()
    writes: str = ""


async def before(node: ground.Node) -> None:
    """What runs when the agent comes: two shared containers of a pod, and one that is entitled to a CPU."""
    await node.run_pod(_pod("web", events.Qos.BURSTABLE))
    await node.run_pod(_pod("old"))
    for pod, spec in (("web", _shared("a")), ("web", _shared("b")), ("old", _whole(1))):
        await node.create(pod, spec)
        await node.begin(f"{pod}/{spec.name}")


async def _start(node: ground.Node) -> None:
    """The agent was started before."""


def _run(spec: runtime_pods.PodSpec) -> Action:
    return Action(f"pod {spec.name} runs", lambda node: node.run_pod(spec))


def _create(pod: str, spec: runtime_pods.ContainerSpec, *moves: str) -> Action:
    name = f"{pod}/{spec.name}"
    return Action(f"{name} is created", lambda node: node.create(pod, spec), frozenset({name, *moves}))


def _begin(name: str, *concerns: str) -> Action:
    return Action(f"{name} starts", lambda node: node.begin(name), frozenset({name, *concerns}))


def _resize(name: str, count: int) -> Action:
    return Action(
        f"{name} is resized to {count}", lambda node: node.resize(name, count), frozenset({name}), writes=name
    )


async def _exit(node: ground.Node) -> None:
    await node.runtime.exit_container(node.ids["db/main"])


async def _forget(node: ground.Node) -> None:
    ended = events.Phase.STOPPED
    [id_] = [id_ for id_, record in node.runtime.containers.items() if record.phase is ended]
    await node.runtime.remove_container(id_)


ACTIONS = (
    Action("the agent starts", _start, frozenset({"old/main"})),
    _run(_pod("db", forbid_core_ids="0-1,6-7")),
    _create("db", _whole(2)),
    _begin("db/main"),
    _run(_pod("cache")),
    _create("cache", _whole(2)),
    _begin("cache/main"),
    _run(_pod("store", cores_ids="4-5")),
    # db has to leave, and can only go to where old is, which goes elsewhere.
    _create("store", _whole(2), "db/main", "old/main"),
    _begin("store/main", "db/main", "old/main"),
    _resize("cache/main", 1),
    _resize("cache/main", 2),
    Action("db/main exits", _exit, frozenset({"db/main"})),
    _create("db", _whole(2)),
    _begin("db/main"),
    Action("the first attempt of db/main is forgotten", _forget),
    _run(_pod("log", events.Qos.BURSTABLE, cores_ids="0")),
    _create("log", _shared("main")),
    _begin("log/main"),
    Action("pod store is deleted", lambda node: node.remove_pod("store"), frozenset({"store/main"})),
)
