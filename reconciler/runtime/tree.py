"""What the cgroup tree says of pods and containers, and the events that lie between two walks. Pure.

    news = view.news(walk, ledger, at)

The first time gives one `Synchronized`, later times single events. A path tells the pod's UID and QoS class
and the container's id. Names and annotations it does not tell: they are those that are known from another
door or the checkpoint. A pod that nobody knows has no namespace and its UID as its name; a container that
nobody knows has its id as its name, unless it comes in the place of one that its pod holds CPUs for and that
is down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from reconciler import errors, events, intent, inventory, observed
from reconciler.cpu import weight
from reconciler.cpu.idset import CpuSet
from reconciler.policy import state
from reconciler.runtime import cgroup_path, conversion

SETTLED_SECONDS = 1.0
"""Seconds after which a Guaranteed pod's container without a quota is believed to have none: with the
cgroupfs driver its process is in the cgroup before the quota is (runc, `Apply` and then `Set`)."""

_Ids = dict[events.ContainerId, observed.Group]


class View:
    """The pods and containers of one tree. Use it for as long as nobody else tells the same consumer."""

    def __init__(self, known: inventory.Inventory, complain: conversion.Complain) -> None:
        """`known` is who has names; `complain` is told of each path that no pod can have, once."""
        self._known = known
        self._complain = complain
        self._pods: dict[str, events.Pod] = {}
        self._alive: dict[events.ContainerId, events.Container] = {}
        self._down: dict[events.ContainerId, events.Container] = {}
        self._first_seen: dict[events.ContainerId, float] = {}
        self._odd: set[str] = set()
        self._mapping: weight.Mapping | None = None
        self._is_synchronized = False

    @property
    def paths(self) -> frozenset[str]:
        """The cgroups of containers that were told of, whose files need not be read again."""
        told = [*self._alive.values(), *self._down.values()]
        return frozenset(its.cgroup for its in told if its.cgroup is not None)

    def directories(self) -> frozenset[str]:
        """The cgroups of the pods, in which their containers' are made."""
        return frozenset(self._pods)

    def expects(self, at: float) -> bool:
        """Whether a group that was seen lately may become a container's any moment."""
        return any(at - since < SETTLED_SECONDS for since in self._first_seen.values())

    def news(self, walk: Sequence[observed.PodGroup], ledger: state.Ledger, at: float) -> list[events.Event]:
        """What has happened since the last walk; `at` are monotonic seconds."""
        if not self._is_synchronized:
            self._mapping = weight.mapping(self._weights(walk))
        pods: dict[str, events.Pod] = {}
        alive: dict[events.ContainerId, events.Container] = {}
        seen: set[events.ContainerId] = set()
        for its in walk:
            ids = _ids(its)
            pod = self._pods.get(its.path) or self._pod(its, ids)
            if pod is not None:
                pods[its.path] = pod
                seen |= ids.keys()
                alive |= self._containers(pod, ids, ledger, at)
        self._first_seen = {
            id_: self._first_seen.get(id_, at) for id_ in seen - alive.keys() - self._down.keys()
        }
        if self._is_synchronized:
            return list(self._between(pods, alive, ledger))
        self._is_synchronized = True
        self._pods, self._alive = pods, alive
        return [events.Synchronized(pods=tuple(pods.values()), containers=tuple(alive.values()))]

    def _between(
        self,
        pods: dict[str, events.Pod],
        alive: dict[events.ContainerId, events.Container],
        ledger: state.Ledger,
    ) -> Iterator[events.Event]:
        """Pods that started, containers that ended, pods that ended, containers that came, in this order;
        then records in whose place a new attempt has come."""
        before, self._pods = self._pods, pods
        its_pod = {pod.sandbox: pod for pod in [*before.values(), *pods.values()]}
        yield from (events.PodStarted(pod=pod) for path, pod in pods.items() if path not in before)
        was_alive, self._alive = self._alive, alive
        for id_ in [id_ for id_ in was_alive if id_ not in alive]:
            yield self._ended(its_pod[was_alive[id_].sandbox], was_alive[id_], ledger)
        for path in sorted(before.keys() - pods.keys()):
            sandbox = before[path].sandbox
            self._down = {id_: its for id_, its in self._down.items() if its.sandbox != sandbox}
            yield events.PodRemoved(sandbox=sandbox)
        for id_ in [id_ for id_ in alive if id_ not in was_alive]:
            self._down.pop(id_, None)
            yield events.ContainerStarting(pod=its_pod[alive[id_].sandbox], container=alive[id_])
        names = {(its.sandbox, its.name) for its in alive.values()}
        for its in [its for its in self._down.values() if (its.sandbox, its.name) in names]:
            del self._down[its.id]
            yield events.ContainerRemoved(pod=its_pod[its.sandbox], container=its)

    def _ended(
        self, pod: events.Pod, container: events.Container, ledger: state.Ledger
    ) -> events.ContainerStopped | events.ContainerRemoved:
        """Who holds CPUs may come again; of others nothing is left."""
        if any(container.name in claim.holders for claim in _claims(ledger, pod)):
            self._down[container.id] = container
            return events.ContainerStopped(pod=pod, container=container)
        return events.ContainerRemoved(pod=pod, container=container)

    def _pod(self, group: observed.PodGroup, ids: _Ids) -> events.Pod | None:
        """The pod whose cgroup this is: the one that is known for one of its containers, or by its UID."""
        parent = group.path if group.path.endswith(".slice") else f"/{group.path}"
        try:
            qos = cgroup_path.qos(parent)
        except errors.Malformed as error:
            if group.path not in self._odd:
                self._odd.add(group.path)
                self._complain(error)
            return None
        uid = cgroup_path.uid(group.path)
        known = self._known_pod(uid, ids)
        if known is None:
            return events.Pod(
                sandbox=events.SandboxId(uid),
                uid=uid,
                namespace="",
                name=uid,
                annotations={},
                qos=qos,
                cgroup=None,
            )
        pause = ids.get(events.ContainerId(known.sandbox))
        cgroup = pause.path if pause is not None and pause.is_populated else None
        return dataclasses.replace(known, cgroup=cgroup)

    def _known_pod(self, uid: events.PodUid, ids: Iterable[events.ContainerId]) -> events.Pod | None:
        """Of several sandboxes of one pod, the one that is there."""
        pods = self._known.pods
        for id_ in ids:
            container = self._known.containers.get(id_)
            sandbox = events.SandboxId(id_) if container is None else container.sandbox
            if sandbox in pods:
                return pods[sandbox]
        return next((pod for pod in pods.values() if pod.uid == uid), None)

    def _containers(
        self, pod: events.Pod, ids: _Ids, ledger: state.Ledger, at: float
    ) -> dict[events.ContainerId, events.Container]:
        """The pod's containers that run, but for those of which it cannot be said yet what they are."""
        running = {
            id_: group for id_, group in ids.items() if group.is_populated and str(id_) != str(pod.sandbox)
        }
        found: dict[events.ContainerId, events.Container] = {}
        new: _Ids = {}
        for id_, group in running.items():
            if (told := self._alive.get(id_) or self._down.get(id_)) is not None:
                found[id_] = told
            elif (named := self._known.containers.get(id_)) is None or named.name == inventory.PAUSE:
                new[id_] = group
            else:
                found[id_] = dataclasses.replace(
                    named, sandbox=pod.sandbox, cgroup=group.path, phase=events.Phase.RUNNING
                )
        for id_, group in new.items():
            if id_ in ledger.intents or self._is_settled(pod, id_, group, at):
                taken = {its.name for its in found.values()}
                found[id_] = self._unknown(pod, id_, group, ledger, taken)
        return found

    def _unknown(
        self,
        pod: events.Pod,
        id_: events.ContainerId,
        group: observed.Group,
        ledger: state.Ledger,
        taken: set[str],
    ) -> events.Container:
        limits = self._limits(group)
        what = ledger.intents.get(id_)
        whole = intent.whole_cpus(limits) if pod.qos is events.Qos.GUARANTEED else 0
        count = whole if what is None else what.count
        return events.Container(
            id=id_,
            sandbox=pod.sandbox,
            name=_name(_claims(ledger, pod), count, group.cpus, taken) or id_,
            cgroup=group.path,
            limits=limits,
            phase=events.Phase.RUNNING,
        )

    def _is_settled(self, pod: events.Pod, id_: events.ContainerId, group: observed.Group, at: float) -> bool:
        """Whether its class can be told; it is decided once."""
        if pod.qos is not events.Qos.GUARANTEED or (
            group.quota is not None and group.quota.quota is not None
        ):
            return True
        return at - self._first_seen.get(id_, at) >= SETTLED_SECONDS

    def _limits(self, group: observed.Group) -> events.CpuLimits:
        """The limits by its files. Shares matter only where there is no quota."""
        if group.quota is not None and group.quota.quota is not None:
            return events.CpuLimits(quota=group.quota.quota, period=group.quota.period)
        if self._mapping is None or group.weight is None:
            return events.CpuLimits()
        return events.CpuLimits(shares=self._mapping.shares(group.weight))

    def _weights(self, walk: Iterable[observed.PodGroup]) -> Iterator[tuple[int, int]]:
        """The shares and weights of containers of which both are known."""
        for its in walk:
            for id_, group in _ids(its).items():
                known = self._known.containers.get(id_)
                if known is not None and known.limits.shares and group.weight is not None:
                    yield known.limits.shares, group.weight


def _ids(pod: observed.PodGroup) -> _Ids:
    found = {}
    for group in pod.groups:
        if (id_ := cgroup_path.container_id(group.path)) is not None:
            found[id_] = group
    return found


def _claims(ledger: state.Ledger, pod: events.Pod) -> list[state.Claim]:
    return [claim for claim in ledger.claims.values() if claim.key.uid == pod.uid]


def _name(claims: Iterable[state.Claim], count: int, cpus: CpuSet, taken: set[str]) -> str:
    """The name of a holder that is down in whose place a container of `count` CPUs comes that runs on `cpus`,
    "" without one. A holder of exactly these CPUs is preferred, and a container's own claim to its pod's."""
    fitting = []
    for claim in claims:
        is_there = claim.cpus == cpus
        is_as_large = claim.kind is intent.Kind.INTEGER and len(claim.cpus) == count
        if is_there or is_as_large or not claim.key.name:
            fitting += [(not is_there, not claim.key.name, name) for name in claim.holders - taken]
    return min(fitting)[2] if fitting else ""
