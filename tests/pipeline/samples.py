"""Pods, containers, events and looks as tests of single stages need them: short to name, whole in content."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler import events, observed
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.policy import state
from reconciler.sim import machine

PERIOD = 100_000

GUARANTEED = events.Qos.GUARANTEED
BURSTABLE = events.Qos.BURSTABLE


def cpus(text: str) -> CpuSet:
    """The CPUs of a kernel list."""
    return CpuSet.parse(text, what="test")


def nodes(text: str) -> NodeSet:
    """The NUMA nodes of a kernel list."""
    return NodeSet.parse(text, what="test")


def topology(shape: machine.Shape, *, online: str = "", isolated: str = "") -> topologies.Topology:
    """A regular machine, of which maybe not all CPUs are online, and some are kernel-isolated."""
    files = machine.build(shape)
    if online:
        files[topologies.ONLINE] = f"{online}\n"
    if isolated:
        files[topologies.ISOLATED] = f"{isolated}\n"
    return topologies.parse(files)


def fresh(
    shape: machine.Shape, *, online: str = "", isolated: str = "", config: schema.Config | None = None
) -> state.State:
    """A node on which nothing runs."""
    made = topology(shape, online=online, isolated=isolated)
    return state.State(terms=state.terms(made, config or schema.Config()))


def whole(count: int) -> events.CpuLimits:
    """The limits of a container with `count` whole CPUs, as kubelet writes them."""
    return events.CpuLimits(shares=1024 * count, quota=PERIOD * count, period=PERIOD)


def pod(
    name: str,
    *,
    qos: events.Qos = BURSTABLE,
    annotations: Mapping[str, str] | None = None,
    attempt: int = 0,
    paused: bool = False,
) -> events.Pod:
    """The pod `test/name`; `attempt` counts its sandboxes, `paused` gives it a pause container's cgroup."""
    return events.Pod(
        sandbox=events.SandboxId(f"sandbox-{name}-{attempt}"),
        uid=events.PodUid(f"uid-{name}"),
        namespace="test",
        name=name,
        annotations=annotations or {},
        qos=qos,
        cgroup=f"kubepods/{name}/sandbox-{attempt}" if paused else None,
    )


def container(
    its_pod: events.Pod,
    name: str = "main",
    *,
    limits: events.CpuLimits | None = None,
    phase: events.Phase = events.Phase.CREATING,
    attempt: int = 0,
) -> events.Container:
    """One attempt of a container of the pod; without `limits` it has none."""
    id_ = f"{its_pod.sandbox}/{name}-{attempt}"
    return events.Container(
        id=events.ContainerId(id_),
        sandbox=its_pod.sandbox,
        name=name,
        cgroup=f"kubepods/{id_}",
        limits=limits or events.CpuLimits(),
        phase=phase,
    )


def creating(its_pod: events.Pod, its: events.Container) -> events.ContainerCreating:
    """The question whether the container may be created."""
    return events.ContainerCreating(pod=its_pod, container=its)


def look(
    cpus_: str,
    *,
    effective: str | None = None,
    mems: str = "",
    inner: str | None = None,
    inner_effective: str | None = None,
    inner_mems: str = "",
) -> observed.Present:
    """A cgroup that says `cpus_` and is granted that, or `effective`; `inner` None: it has no inner group."""
    granted = cpus_ if effective is None else effective
    inside = None
    if inner is not None:
        inside = _cpuset(inner, inner_effective or inner or granted, inner_mems)
    return observed.Present(outer=_cpuset(cpus_, granted, mems), inner=inside)


def _cpuset(cpus_: str, effective: str, mems: str) -> observed.Cpuset:
    return observed.Cpuset(
        cpus=cpus(cpus_),
        mems=nodes(mems),
        effective_cpus=cpus(effective),
        effective_mems=nodes(mems or "0-1"),
    )
