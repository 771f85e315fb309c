"""Who else may write containers' cpusets: what each would write, and whom a value points to. Pure.

Who wrote is known where fanotify says so. Otherwise a value says who would have written just that.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler import errors, events, observed
from reconciler.cpu.idset import CpuSet

Kind = Literal["kubelet", "runtime", "systemd", "ancestor", "agent"]

STATIC = "static"
"""The CPU manager's policy under which kubelet writes cpusets; under `none` it writes none."""
RELOAD_SECONDS = 10.0
"""So soon after a daemon-reload a value that a unit may have counts as systemd's."""


_RUNTIMES = ("runc", "crun", "youki", "containerd", "crio", "conmon")
"""How the commands of runtimes begin: `containerd-shim`, and `runc:[2:INIT]`, are among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A process that has written a file: its pid, and what is known of it, "" else.

    `pid` is 0 for one of another pid namespace. `command` is its name, `cmdline` its arguments too, `unit`
    its systemd unit or else its cgroup, `container` the container that it runs in, by its names or its id.
    """

    pid: int
    command: str = ""
    cmdline: str = ""
    unit: str = ""
    container: str = ""

    def __str__(self) -> str:
        where = f", {self.container or self.unit}" if self.container or self.unit else ""
        if not self.pid:
            return "a process of another pid namespace"
        return f"{self.command or 'a process that has ended'} (pid {self.pid}{where})"

    def document(self) -> dict[str, object]:
        """It, in the log and elsewhere."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opponent:
    """Someone who writes the same files: `name` as in a sentence, `evidence` is what points to them, `writer`
    who wrote, where that is known."""

    kind: Kind
    name: str
    evidence: str
    writer: Writer | None = None


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
    where they were asked for, and the seconds since systemd's last daemon-reload. `writer` says who wrote a
    file of a container last, None where that is not known."""

    kubelet: Assignments | None = None
    records: Mapping[events.ContainerId, str] = field(default_factory=dict)
    reloaded_ago: float | None = None
    writer: Callable[[events.Container, str], Writer | None] = lambda *_: None


def blame(
    suspects: Suspects, pod: events.Pod, container: events.Container, file: str, value: str
) -> Opponent:
    """Who wrote `value` into `file` of a container, or else whom it points to."""
    found = _pointed_to(suspects, pod, container, file, value)
    writer = suspects.writer(container, file)
    return found if writer is None else _wrote(writer, found)


def _wrote(writer: Writer, found: Opponent) -> Opponent:
    """The opponent, where it is known who wrote. kubelet writes through the runtime, and of an ancestor's
    cpuset it matters that it is an ancestor's."""
    kind = _kind(writer)
    if found.kind == "ancestor" or (found.kind == "kubelet" and kind == "runtime"):
        return dataclasses.replace(found, evidence=f"{found.evidence}, written by {writer}", writer=writer)
    if kind is None:
        return dataclasses.replace(found, writer=writer)
    return Opponent(kind=kind, name=str(writer), evidence="fanotify saw it write", writer=writer)


def _kind(writer: Writer) -> Kind | None:
    """None for one of whom only the pid is known."""
    command = posixpath.basename(writer.command)
    if not command:
        return None
    if command == "kubelet":
        return "kubelet"
    if command == "systemd" and writer.unit == "init.scope":
        return "systemd"
    return "runtime" if command.startswith(_RUNTIMES) else "agent"


def _pointed_to(
    suspects: Suspects, pod: events.Pod, container: events.Container, file: str, value: str
) -> Opponent:
    if file == observed.EFFECTIVE_CPUS:
        return Opponent(kind="ancestor", name="an ancestor's cpuset", evidence=f"the kernel grants {value}")
    if file == observed.CPUS:
        found = _of_cpus(suspects, pod, container, value)
        if found is not None:
            return found
    return nobody(container.id, file, value)


def named(writer: Writer | None) -> dict[str, object]:
    """The field that names a writer; none where it is not known."""
    return {} if writer is None else {"writer": writer.document()}


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
