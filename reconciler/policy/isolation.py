"""Which exclusive containers are to be partitions of the kernel's, and why others are not. Pure.

A partition is one cgroup's: containers that share a claim, and claims that overlap, have their cpusets alone.
PRD 4.10, ADR 0026.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler import events, intent
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.policy import desired, state

ISOLATION = "weka.io/isolation"
"""The annotation with which a pod chooses, where `isolationNamespaces` has its namespace."""
LEVELS: tuple[schema.Isolation, ...] = typing.get_args(schema.Isolation)
KINDS: dict[schema.Isolation, str] = {"partition": "root", "isolated": "isolated"}
"""What `cpuset.cpus.partition` is to say; nothing under `cpuset`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How others are to be kept off a container's exclusive CPUs.

    `asked` is what configuration or annotation say, `level` what it can have; `why` is "" or a clause about
    the difference, or about an annotation that does not count.
    """

    asked: schema.Isolation
    level: schema.Isolation
    cpus: CpuSet
    why: str = ""

    @property
    def kind(self) -> str:
        """What `cpuset.cpus.partition` is to say; "" where the container is to be no partition."""
        return KINDS.get(self.level, "")


def is_in_use(now: state.State) -> bool:
    """Whether any container could be a partition under this configuration."""
    config = now.terms.config
    return config.isolation != "cpuset" or bool(config.isolation_namespaces)


def wishes(now: state.State) -> dict[events.ContainerId, Wish]:
    """The containers that are to be partitions. Linear in the containers; at once where none could be."""
    found: dict[events.ContainerId, Wish] = {}
    if not is_in_use(now):
        return found
    for id_, what in now.ledger.intents.items():
        container = now.inventory.containers.get(id_)
        if container is None or what.kind not in intent.CLAIMING:
            continue
        its = wish(now, container, what)
        if its is not None and its.kind:
            found[id_] = its
    return found


def wish(now: state.State, container: events.Container, what: intent.Intent) -> Wish | None:
    """What a container with this intent is to have; None where nobody is kept off its CPUs."""
    if container.phase is events.Phase.STOPPED or container.cgroup is None:
        return None
    pod = now.pod_of(container)
    placement = desired.place(now, pod, container, what)
    claim = state.claim_of(now.ledger, pod, container, what)
    if placement.owner is None or claim is None:
        return None
    asked, ignored = _asked(now.terms.config, pod)
    why = "" if asked == "cpuset" else next(_obstacles(now, container, claim), "")
    return Wish(asked=asked, level="cpuset" if why else asked, cpus=placement.cpus, why=why or ignored)


def _asked(config: schema.Config, pod: events.Pod) -> tuple[schema.Isolation, str]:
    """What is asked for, and why an annotation does not count, or ""."""
    text = pod.annotations.get(ISOLATION)
    if text is None:
        return config.isolation, ""
    level = next((level for level in LEVELS if level == text), None)
    if level is None:
        return config.isolation, f"annotation {ISOLATION}: it is none of {', '.join(LEVELS)}, and is ignored"
    if not config.may_choose_isolation(pod.namespace):
        why = f"annotation {ISOLATION}: namespace {pod.namespace} may not choose (isolationNamespaces)"
        return config.isolation, f"{why}, and it is ignored"
    return level, ""


def _obstacles(now: state.State, container: events.Container, claim: state.Claim) -> Iterator[str]:
    """Why the CPUs cannot be one cgroup's alone."""
    for member in sorted(now.inventory.members[container.sandbox] - {container.id}):
        other = now.inventory.containers[member]
        what = now.ledger.intents.get(member)
        if other.phase is events.Phase.STOPPED or what is None:
            continue
        if state.claim_of(now.ledger, now.pod_of(other), other, what) == claim:
            yield f"CPUs {claim.cpus} are container {other.name}'s too, and a partition is one container's"
    # Lists that came to overlap while `annotatedOverlap` allowed it do so still.
    if claim.kind is not intent.Kind.INTEGER:
        for its in now.ledger.claims.values():
            if its.key != claim.key and not its.cpus.isdisjoint(claim.cpus):
                yield f"CPU {its.cpus & claim.cpus} is in the list of {its.holder} too"
