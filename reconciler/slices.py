"""Stage 8, below the report: slices of the host that follow the shared pool. Pure: times are given.

A slice is no container: it holds nothing, and what runs in it is not looked at. It has one file,
`cpuset.cpus`, which is to say what the shared pool is. Somebody else who writes it again and again is
repaired at a bounded rate, and told each time that the number of drifts has doubled.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reconciler import errors, events, observed, plan, recurring
from reconciler.cpu.idset import CpuSet

_PREFIX = "slice:"
_NOTHING = CpuSet()


def key(name: str) -> events.ContainerId:
    """What a slice is called where containers have their ids."""
    return events.ContainerId(_PREFIX + name)


def named(id_: events.ContainerId) -> str | None:
    """The slice that is called so; None for a container."""
    return id_.removeprefix(_PREFIX) if id_.startswith(_PREFIX) else None


def path(name: str) -> str:
    """The cgroup of a slice, or of a scope right under the root. `a-b.slice` is in `a.slice`."""
    stem, _, kind = name.rpartition(".")
    if kind != "slice":
        return name
    parts = stem.split("-")
    return "/".join(f"{'-'.join(parts[: end + 1])}.slice" for end in range(len(parts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a slice is to have: `cpus`, or nothing of its own any more where that is empty. `online` are all
    CPUs, which some kernels take instead of nothing."""

    cpus: CpuSet
    online: CpuSet


@dataclass(slots=True, kw_only=True)
class _Its(recurring.Recurring):
    """What is known of a slice: `had` is what it had when last seen in order."""

    want: Want
    had: CpuSet | None = None
    look: observed.Look = field(default_factory=observed.Absent)
    cannot_clear: bool = False

    @property
    def text(self) -> CpuSet:
        """What is to stand in the file."""
        return self.want.online if self.cannot_clear and not self.want.cpus else self.want.cpus


@dataclass(slots=True)
class Slices:
    """Bounded by the slices that are configured, or were and are not given back yet."""

    _known: dict[str, _Its] = field(default_factory=dict)

    def want(self, wants: Mapping[str, Want]) -> None:
        """These are wanted from now on, and no others."""
        known = {name: self._known.get(name) or _Its(want=want) for name, want in wants.items()}
        for name, want in wants.items():
            if known[name].want.cpus != want.cpus:
                known[name].due = 0.0
            known[name].want = want
        self._known = known

    def wanted(self) -> dict[str, CpuSet]:
        """What each is to have; nothing for one that is given back. From any thread."""
        return {name: its.want.cpus for name, its in self._known.items()}

    def seen(
        self,
        looks: Mapping[str, observed.Look],
        told: Mapping[events.ContainerId, CpuSet],
        found_by: str,
        found_at: Mapping[events.ContainerId, float],
        at: float,
    ) -> Iterator[recurring.News]:
        """Takes looks before the writes of a pass. What systemd has written for us (`told`) is no drift."""
        for name, look in looks.items():
            its, id_ = self._known[name], key(name)
            its.look = look
            if not isinstance(look, observed.Present) or its.had != its.text or its.since is not None:
                continue
            has = look.outer.cpus
            if has == its.text or told.get(id_) == has:
                continue
            its.drifted(found_at.get(id_, at), at)
            how = "inotify" if id_ in found_at else found_by
            effective = str(look.outer.effective_cpus)
            fields = {"file": observed.CPUS, "desired": str(its.text), "observed": str(has)}
            fields |= {"effective": effective, "found_by": how}
            yield recurring.News(
                event="drift.found", container=id_, fields=fields, silent=its.is_silent, since=its.since
            )

    def order(
        self, names: Mapping[str, observed.Look], occupied: CpuSet, at: float
    ) -> tuple[plan.Plan, plan.Plan]:
        """What to write before containers are moved, and what after. Nobody is put on `occupied` CPUs, which
        holders have to leave yet."""
        leave, settle = [], []
        for name in names:
            its = self._known[name]
            if not isinstance(its.look, observed.Present) or at < its.due or its.look.outer.cpus == its.text:
                continue
            has, to = its.look.outer.reach, its.text - occupied
            if not its.text:
                settle.append(_write(name, _NOTHING, plan.Phase.SETTLE))
                continue
            says = its.look.outer.cpus
            if (has - to) and (less := has & to or to):
                leave.append(_write(name, less, plan.Phase.LEAVE, vacates=has - to))
                says = has = less
            if says != to:
                settle.append(_write(name, to, plan.Phase.SETTLE, needs=to - has))
        return tuple(leave), tuple(settle)

    def passed(
        self,
        looks: Mapping[str, observed.Look],
        failures: Mapping[str, errors.HostFileError | None],
        at: float,
    ) -> Iterator[recurring.News]:
        """Takes looks after the writes of a pass, and why writes have failed."""
        for name, look in looks.items():
            its = self._known[name]
            its.look = look
            if isinstance(look, observed.Present) and look.outer.cpus == its.text:
                yield from self._in_order(name, its, look, at)
            elif name in failures or isinstance(look, observed.Unreadable):
                yield from self._failed(name, its, look, failures.get(name), at)

    def given_back(self) -> frozenset[str]:
        """Those that have nothing of ours any more."""
        return frozenset(
            name
            for name, its in self._known.items()
            if not its.want.cpus and (its.had == its.text or isinstance(its.look, observed.Absent))
        )

    def retry_in(self, at: float) -> float | None:
        """Seconds until one is to be tried again; None where none is."""
        return recurring.retry_in(self._known.values(), at)

    def documents(self) -> list[dict[str, object]]:
        """What the status says of each."""
        return [_document(name, its) for name, its in sorted(self._known.items())]

    def _in_order(self, name: str, its: _Its, look: observed.Present, at: float) -> Iterator[recurring.News]:
        since, attempts = its.since, its.attempts
        its.had, its.since, its.attempts, its.reason = its.text, None, 0, ""
        if since is not None:
            fields = {"observed": str(look.outer.cpus), "effective": str(look.outer.effective_cpus)}
            lasted = round((at - since) * 1000, 3)
            repaired = {**fields, "attempt": attempts + 1, "lasted_ms": lasted, "result": "in-sync"}
            yield recurring.News(
                event="drift.repaired",
                container=key(name),
                fields=repaired,
                silent=its.is_silent,
                takes_back=attempts > 0,
            )

    def _failed(
        self, name: str, its: _Its, look: observed.Look, error: errors.HostFileError | None, at: float
    ) -> Iterator[recurring.News]:
        if error is not None and error.errno == errno.ENOSPC and not its.want.cpus and not its.cannot_clear:
            its.cannot_clear, its.attempts = True, its.attempts + 1
            return
        its.tried(at)
        if error is None and isinstance(look, observed.Unreadable):
            error = look.error
        reason = "a holder of its CPUs could not be moved off them" if error is None else str(error)
        told, its.reason = its.reason, reason
        if reason != told:
            event: recurring.Event = "placement.failed" if its.since is None else "drift.unrepairable"
            yield recurring.News(
                event=event, container=key(name), fields={"reason": reason, "attempt": its.attempts}
            )


def _write(
    name: str, cpus: CpuSet, phase: plan.Phase, *, needs: CpuSet = _NOTHING, vacates: CpuSet = _NOTHING
) -> plan.Write:
    return plan.Write(
        container=key(name),
        file=observed.CPUS,
        text=str(cpus),
        phase=phase,
        needs=needs,
        vacates=vacates,
        group=path(name),
    )


def _document(name: str, its: _Its) -> dict[str, object]:
    look = its.look
    has = look.outer if isinstance(look, observed.Present) else None
    state = "in-sync" if has is not None and has.cpus == its.text else "drifted" if its.had else "pending"
    return {
        "name": name,
        "desired": str(its.text),
        "observed": None if has is None else str(has.cpus),
        "effective": None if has is None else str(has.effective_cpus),
        "state": "gone" if isinstance(look, observed.Absent) else state,
        "reason": its.reason,
        "drifts": its.drifts,
    }
