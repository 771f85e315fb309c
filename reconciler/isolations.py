"""Stage 8, below the report: which partitions are in force, and what there is to tell of those that are not.

Pure: times are given. A container that cannot have its partition is kept apart by its cpuset alone, which is
told once; it is tried again after pauses that double. A partition that ends though nobody asked is drift.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler import events, observed, partitions, recurring
from reconciler.config import schema
from reconciler.policy import isolation


@dataclass(slots=True, kw_only=True)
class _Its(recurring.Recurring):
    """What is known of a container. `had` is what it had when last seen in force, `wanted` what was tried in
    vain."""

    level: schema.Isolation = "cpuset"
    had: partitions.Want | None = None
    wanted: partitions.Want | None = None
    told: bool = False

    def ended(self, want: partitions.Want, found_at: float, at: float) -> None:
        """Somebody has ended the partition."""
        self.drifted(found_at, at)
        self.wanted = want
        if self.drifts > 1:
            self.reason = "somebody ends it again and again: it is made again in a moment"

    def is_in_force(self, want: partitions.Want, at: float) -> recurring.News | None:
        """The partition is as wanted; what there is to tell of that."""
        news, since, told, attempt = None, self.since, self.told, self.attempts + 1
        self.level, self.reason, self.had, self.since = level_of(want.kind), "", want, None
        self.attempts, self.told = 0, False
        if since is not None:
            lasted = round((at - since) * 1000, 3)
            fields = {
                "file": observed.PARTITION,
                "observed": want.kind,
                "attempt": attempt,
                "lasted_ms": lasted,
            }
            news = _news("drift.repaired", want, fields, silent=self.is_silent, takes_back=told)
        elif told:
            news = _news("isolation.made", want, {"level": self.level, "cpus": str(want.cpus)})
        return news

    def failed(self, want: partitions.Want, why: str, at: float) -> recurring.News | None:
        """It could not be made; what there is to tell of that."""
        if self.wanted != want:
            self.wanted, self.attempts, self.told = want, 0, False
        self.tried(at)
        self.level, self.reason = "cpuset", why
        if self.told:
            return None
        self.told = True
        event: recurring.Event = "isolation.failed" if self.since is None else "drift.unrepairable"
        fields = {"level": level_of(want.kind), "reason": why, "attempt": self.attempts}
        return _news(event, want, fields, silent=self.since is not None and self.is_silent)


@dataclass(slots=True)
class Isolations:
    """Bounded by the containers that are to be partitions. `unavailable` is why the kernel has none."""

    unavailable: str = ""
    _known: dict[events.ContainerId, _Its] = field(default_factory=dict)

    def level(self, id_: events.ContainerId) -> schema.Isolation:
        """What a container has, as of the last look."""
        its = self._known.get(id_)
        return "cpuset" if its is None else its.level

    def reason(self, id_: events.ContainerId) -> str:
        """Why it has not what it is to have, or ""."""
        its = self._known.get(id_)
        return self.unavailable if its is None else its.reason

    def is_waiting(self, want: partitions.Want, at: float) -> bool:
        """Whether it is not to be tried yet."""
        its = self._known.get(want.container)
        return its is not None and at < its.due and its.wanted == want

    def retry_in(self, at: float) -> float | None:
        """Seconds until somebody is to be tried again; None where nobody is."""
        return recurring.retry_in(self._known.values(), at)

    def keep(self, ids: Container[events.ContainerId]) -> None:
        """Forget all others."""
        for id_ in [id_ for id_ in self._known if id_ not in ids]:
            del self._known[id_]

    def seen(
        self,
        want: partitions.Want,
        look: observed.Partition | None,
        found_by: str,
        found_at: float,
        at: float,
    ) -> Iterator[recurring.News]:
        """Takes a look before the writes of a pass: a partition that was in force and is not has drifted."""
        its = self._known.get(want.container)
        if its is None or its.had != want or its.since is not None or look is None or want.is_had(look):
            return
        its.ended(want, found_at, at)
        fields = {
            "found_by": found_by,
            "file": observed.PARTITION,
            "desired": want.kind,
            "observed": look.state,
        }
        if look.exclusive != want.cpus:
            fields |= {"file": observed.EXCLUSIVE, "desired": str(want.cpus), "observed": str(look.exclusive)}
        news = _news("drift.found", want, fields, silent=its.is_silent)
        yield dataclasses.replace(news, since=found_at)

    def passed(
        self, want: partitions.Want, look: observed.Partition | None, error: str, at: float, *, tried: bool
    ) -> Iterator[recurring.News]:
        """Takes a look after the writes of a pass; `error` is why one of them failed, or "". One that was not
        `tried` waits."""
        its = self._known.setdefault(want.container, _Its())
        news = None
        if look is None:
            its.level, its.reason = "cpuset", "it has no cgroup now"
        elif want.is_had(look):
            news = its.is_in_force(want, at)
        elif tried:
            news = its.failed(want, error or _why(want, look), at)
        else:
            its.level = "cpuset"
        if news is not None:
            yield news


def _why(want: partitions.Want, look: observed.Partition) -> str:
    if look.exclusive != want.cpus:
        return (
            f"{observed.EXCLUSIVE} is {look.exclusive or 'empty'} and not {want.cpus}: someone else writes it"
        )
    return f"{observed.PARTITION} is {look.state} and not {want.kind}"


def level_of(kind: str) -> schema.Isolation:
    """The level at which a partition of this kind is."""
    return next(level for level, its in isolation.KINDS.items() if its == kind)


def _news(
    event: recurring.Event,
    want: partitions.Want,
    fields: Mapping[str, object],
    *,
    silent: bool = False,
    takes_back: bool = False,
) -> recurring.News:
    id_ = want.container
    return recurring.News(event=event, container=id_, fields=fields, silent=silent, takes_back=takes_back)
