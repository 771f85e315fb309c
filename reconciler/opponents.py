"""Who else may write containers' cpusets: what each would write, and whom a value points to. Pure.

Nothing here says who wrote; that takes fanotify. A value says who would have written just that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler import errors, events, observed
from reconciler.cpu.idset import CpuSet

Kind = Literal["kubelet", "runtime", "systemd", "ancestor", "agent"]

STATIC = "static"
"""The CPU manager's policy under which kubelet writes cpusets; under `none` it writes none."""
RELOAD_SECONDS = 10.0
"""So soon after a daemon-reload a value that a unit may have counts as systemd's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opponent:
    """Someone who writes the same files: `name` as in a sentence, `evidence` is what points to them."""

    kind: Kind
    name: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignments:
    """What kubelet's CPU manager has given: `entries` by pod UID and container name, `default` to all other
    containers."""

    policy: str
    default: CpuSet = CpuSet()
    entries: Mapping[tuple[str, str], CpuSet] = field(default_factory=dict)

    def gives(self, uid: str, container: str) -> CpuSet | None:
        """What kubelet writes into a container's cpuset; None where it writes nothing."""
        if self.policy != STATIC:
            return None
        return self.entries.get((uid, container), self.default) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """What is known of the others at one moment: kubelet's assignments, the runtime's records of cpusets
    where they were asked for, and the seconds since systemd's last daemon-reload."""

    kubelet: Assignments | None = None
    records: Mapping[events.ContainerId, str] = field(default_factory=dict)
    reloaded_ago: float | None = None


def blame(
    suspects: Suspects, pod: events.Pod, container: events.Container, file: str, value: str
) -> Opponent:
    """Whom `value` in `file` of a container points to."""
    if file == observed.EFFECTIVE_CPUS:
        return Opponent(kind="ancestor", name="an ancestor's cpuset", evidence=f"the kernel grants {value}")
    if file == observed.CPUS:
        found = _of_cpus(suspects, pod, container, value)
        if found is not None:
            return found
    return nobody(container.id, file, value)


def nobody(_: events.ContainerId, file: str, value: str) -> Opponent:
    """Whom a value points to that points to nobody who is known."""
    evidence = f"nobody who is known writes {value or 'nothing'} into {file}"
    return Opponent(kind="agent", name="a second agent", evidence=evidence)


def _of_cpus(suspects: Suspects, pod: events.Pod, container: events.Container, value: str) -> Opponent | None:
    cpus = _parsed(value)
    if cpus is not None and suspects.kubelet is not None:
        gives = suspects.kubelet.gives(pod.uid, container.name)
        if gives is not None and gives == cpus:
            evidence = f"{value} is what it has on record for it"
            return Opponent(kind="kubelet", name="kubelet's static CPU manager", evidence=evidence)
    in_unit = container.cgroup is not None and container.cgroup.endswith(".scope")
    ago = suspects.reloaded_ago
    if in_unit and ago is not None and ago <= RELOAD_SECONDS:
        evidence = f"a daemon-reload was {max(ago, 0):.1f} s before"
        return Opponent(kind="systemd", name="systemd", evidence=evidence)
    if in_unit and not value:
        return Opponent(
            kind="systemd", name="systemd", evidence="nothing is what a unit without AllowedCPUs has"
        )
    record = _parsed(suspects.records.get(container.id, container.cpus))
    if cpus is not None and record == cpus:
        also = ", and may be what systemd's unit has" if in_unit else ""
        evidence = f"{value} is what the runtime's record has{also}"
        return Opponent(kind="runtime", name="the runtime", evidence=evidence)
    return None


def contradictions(
    assignments: Assignments, owned: Mapping[tuple[str, str], CpuSet]
) -> dict[tuple[str, str], tuple[CpuSet, CpuSet]]:
    """What containers have for themselves, after kubelet and after us, where that differs: by pod UID and
    name, sorted. `owned` has every container of ours, also those without CPUs of their own."""
    nothing = CpuSet()
    pairs = ((key, assignments.entries.get(key, nothing), owned[key]) for key in sorted(owned))
    return {key: (theirs, ours) for key, theirs, ours in pairs if theirs != ours}


def _parsed(text: str) -> CpuSet | None:
    """The CPUs of a list; None for an empty one, and for what is none."""
    try:
        return CpuSet.parse(text, what="cpus") or None
    except errors.Malformed:
        return None
