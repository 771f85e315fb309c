"""What is known of the runtime from its lists, and the events that lie between two of them. Sans-I/O.

    wanted = view.look(containers, sandboxes)     what has to be asked for
    view.pod(...), view.container(...)            what was answered
    view.news()                                   what has happened since the last time

The first time gives one `Synchronized`, later times single events. A poll costs one walk through the lists.
Exited containers are never asked for, as NRI's Synchronize does not name them; neither is what ended between
two lists.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from reconciler import errors, events
from reconciler.runtime import cgroup_path, conversion
from reconciler.runtime.cri import conversion as converting
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.cri import info

NEW_AT_ONCE = 64
"""Containers, and sandboxes, that are asked for in one poll after the first; the others wait for the next."""
AGAIN_AT_ONCE = 4
"""Containers in one poll that are asked for again in turn, for a resize that nothing else tells of."""

_GONE = (events.Phase.STOPPED,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Ids whose status is wanted: sandboxes and containers that are new, and containers that are asked again.
    `plain` are those of `again` whose limits come without the verbose info."""

    sandboxes: tuple[str, ...]
    containers: tuple[str, ...]
    again: tuple[str, ...]
    plain: frozenset[str]


@dataclass(slots=True)
class _Pod:
    value: events.Pod
    parent: str
    handler: str
    told: bool = False


@dataclass(slots=True)
class _Container:
    value: events.Container
    plain: bool
    told: events.Phase | None = None
    """The phase that was told last; None before the first time."""
    resized: events.CpuLimits | None = None


class View:
    """The pods and containers of one runtime. Use it for as long as the same consumer gets all its events."""

    def __init__(self, complain: conversion.Complain, runtime: str = "") -> None:
        """`runtime` is the name that the runtime gives itself."""
        self._complain = complain
        self._runtime = runtime
        self._pods: dict[str, _Pod] = {}
        self._containers: dict[str, _Container] = {}
        self._listed: dict[str, cri.Container] = {}
        self._sandboxes: dict[str, cri.PodSandbox] = {}
        self._live: set[str] = set()
        self._turn: list[str] = []
        self._refused: set[str] = set()
        self._synchronized = False

    def look(
        self,
        containers: Iterable[cri.Container],
        sandboxes: Iterable[cri.PodSandbox],
        hurried: Iterable[str] = (),
    ) -> Wanted:
        """Take two lists, of which the sandboxes' was asked for last. `hurried` are containers that may have
        been resized."""
        self._listed = {message.id: message for message in containers if message.id}
        self._sandboxes = {message.id: message for message in sandboxes if message.id}
        alive = {
            message.pod_sandbox_id
            for message in self._listed.values()
            if converting.phase(message.state) not in _GONE
        }
        # A sandbox whose pause container died is not ready; what still runs in it keeps its claims.
        self._live = {
            id_
            for id_, message in self._sandboxes.items()
            if message.state == cri.SANDBOX_READY or id_ in alive
        }
        limit = NEW_AT_ONCE if self._synchronized else None
        pods = [id_ for id_ in self._sandboxes if id_ in self._live and id_ not in self._pods][:limit]
        again = self._again(hurried) if self._synchronized else ()
        return Wanted(
            sandboxes=tuple(pods),
            containers=tuple(message.id for message in self._new(self._pods.keys() | set(pods))[:limit]),
            again=again,
            plain=frozenset(id_ for id_ in again if self._containers[id_].plain),
        )

    def refused(self, id_: str) -> None:
        """A status of a new container was refused; others are asked for before it from now on."""
        self._refused.add(id_)

    def pod(self, id_: str, response: cri.PodSandboxStatusResponse) -> None:
        """Take the verbose status of a listed sandbox."""
        said = self._parsed(response.info)
        self._pods[id_] = self._converted(self._sandboxes[id_], said, said.cgroup_parent)

    def container(self, id_: str, response: cri.ContainerStatusResponse) -> None:
        """Take the verbose status of a listed container of a known sandbox, or any status of a known one."""
        known = self._containers.get(id_)
        limits = converting.limits(response.status, said := self._parsed(response.info))
        if known is not None:
            self._resize(known, limits)
            return
        message = self._listed[id_]
        pod = self._pods.get(message.pod_sandbox_id)
        if pod is None:
            return
        if not pod.parent and (parent := info.parent(said.cgroups_path)):
            # Its own status has not said it.
            pod.parent, pod.value = parent, converting.placed(pod.value, parent, self._complain)
        path = converting.cgroups_path(said, pod.parent, id_, self._runtime)
        self._containers[id_] = _Container(
            converting.container(
                message,
                limits,
                said.cpu.cpus or "",
                conversion.cgroup(path, pod.handler, self._complain),
            ),
            converting.says_limits(response.status),
        )

    def news(self) -> list[events.Event]:
        """What has happened since the last time. What has no status yet comes when it has one."""
        if self._synchronized:
            return [
                *self._pods_started(),
                *self._stopped(),
                *self._pods_ended(),
                *self._appeared(),
                *self._resized(),
                *self._removed(),
            ]
        self._synchronized = True
        for pod in self._pods.values():
            pod.told = True
        for container in self._containers.values():
            container.told = container.value.phase
        return [
            events.Synchronized(
                pods=tuple(pod.value for pod in self._pods.values()),
                containers=tuple(container.value for container in self._containers.values()),
            )
        ]

    def directories(self) -> set[str]:
        """The cgroups of the pods, in which their containers' are made."""
        found = set()
        for pod in self._pods.values():
            try:
                found.add(cgroup_path.parent_directory(pod.parent))
            except errors.Malformed:
                continue  # `pod` has complained
        return found

    def at(self, cgroups: Iterable[str]) -> list[events.ContainerStarting]:
        """The containers known as created whose cgroups are at these paths: they are about to start."""
        wanted = frozenset(cgroups)
        return [
            events.ContainerStarting(pod=self._pods[known.value.sandbox].value, container=known.value)
            for known in self._containers.values()
            if known.value.cgroup in wanted and known.told is events.Phase.CREATED
        ]

    def _converted(self, message: cri.PodSandbox, said: info.Info, parent: str) -> _Pod:
        return _Pod(converting.pod(message, said, parent, self._complain), parent, message.runtime_handler)

    def _new(self, pods: Set[str]) -> list[cri.Container]:
        """Listed containers of these pods that are alive and not known, the oldest first."""
        new = [
            message
            for id_, message in self._listed.items()
            if id_ not in self._containers
            and message.pod_sandbox_id in pods
            and message.pod_sandbox_id in self._live
            and converting.phase(message.state) not in _GONE
        ]
        self._refused.intersection_update(self._listed)
        return sorted(new, key=lambda message: (message.id in self._refused, *_age(message)))

    def _again(self, hurried: Iterable[str]) -> tuple[str, ...]:
        if not self._turn:
            self._turn = list(self._containers)
        turn, self._turn = self._turn[:AGAIN_AT_ONCE], self._turn[AGAIN_AT_ONCE:]
        return tuple(
            id_
            for id_ in dict.fromkeys([*itertools.islice(hurried, NEW_AT_ONCE), *turn])
            if id_ in self._containers
            and id_ in self._listed
            and converting.phase(self._listed[id_].state) not in _GONE
        )

    def _parsed(self, texts: Mapping[str, str]) -> info.Info:
        try:
            return info.parse(texts)
        except errors.Malformed as error:
            self._complain(error)
            return info.Info()

    def _resize(self, known: _Container, limits: events.CpuLimits) -> None:
        before = known.value.limits
        changed = events.CpuLimits(
            shares=None if limits.shares == before.shares else limits.shares,
            quota=None if limits.quota == before.quota else limits.quota,
            period=None if limits.period == before.period else limits.period,
        )
        if changed != events.CpuLimits():
            known.resized = changed
            known.value = dataclasses.replace(known.value, limits=before.changed(changed))

    def _pods_started(self) -> Iterator[events.PodStarted]:
        for id_, pod in self._pods.items():
            if not pod.told and id_ in self._live:
                pod.told = True
                yield events.PodStarted(pod=pod.value)

    def _stopped(self) -> Iterator[events.ContainerStopped]:
        for id_, known in self._containers.items():
            listed = self._listed.get(id_)
            if known.told in _GONE or listed is None or converting.phase(listed.state) not in _GONE:
                continue
            known.value = dataclasses.replace(known.value, phase=events.Phase.STOPPED)
            if known.told is not None:
                yield events.ContainerStopped(pod=self._its_pod(known), container=known.value)
            known.told = events.Phase.STOPPED

    def _pods_ended(self) -> Iterator[events.PodStopped | events.PodRemoved]:
        ended = self._pods.keys() - self._live
        for id_ in sorted(ended):
            told = self._pods.pop(id_).told
            if told and id_ in self._sandboxes:
                yield events.PodStopped(sandbox=events.SandboxId(id_))
            elif told:
                yield events.PodRemoved(sandbox=events.SandboxId(id_))
        if ended:
            for id_ in [id_ for id_, known in self._containers.items() if known.value.sandbox in ended]:
                del self._containers[id_]

    def _appeared(self) -> Iterator[events.ContainerCreating | events.ContainerStarting]:
        """New containers in the order of their creation, and those that have begun to run."""
        fresh = [
            (listed, known)
            for id_, known in self._containers.items()
            if known.told not in (events.Phase.RUNNING, *_GONE)
            and (listed := self._listed.get(id_)) is not None
            and converting.phase(listed.state) is not known.told
        ]
        for listed, known in sorted(fresh, key=lambda entry: _age(entry[0])):
            known.told = converting.phase(listed.state)
            known.value = dataclasses.replace(known.value, phase=known.told)
            its = self._its_pod(known)
            if known.told is events.Phase.CREATED:
                yield events.ContainerCreating(pod=its, container=known.value)
            else:
                yield events.ContainerStarting(pod=its, container=known.value)

    def _resized(self) -> Iterator[events.ContainerUpdating]:
        for known in self._containers.values():
            changed, known.resized = known.resized, None
            if changed is not None and known.told not in _GONE:
                yield events.ContainerUpdating(
                    pod=self._its_pod(known), container=known.value, limits=changed
                )

    def _removed(self) -> Iterator[events.ContainerRemoved]:
        """Last, so that a newer attempt keeps the claim."""
        for id_ in [id_ for id_ in self._containers if id_ not in self._listed]:
            known = self._containers.pop(id_)
            if known.told is not None:
                yield events.ContainerRemoved(pod=self._its_pod(known), container=known.value)

    def _its_pod(self, known: _Container) -> events.Pod:
        return self._pods[known.value.sandbox].value


def _age(message: cri.Container) -> tuple[int, str]:
    return message.created_at, message.id
