"""What the metrics say, as values: each family with its samples. No I/O; `exposition` makes text of them.

Everything is read when it is asked for, from the state, the book and the counters; nothing is kept here.
Linear in the containers, of which none has samples of its own: what one container has is in the status.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import reconciler
from reconciler import fights, intent, opponents, report
from reconciler.daemon import agent, counters, opposition, probes, saving, status, watching
from reconciler.policy import state

PREFIX = "cpuset_reconciler_"
MODES = ("nri", "cri", "cgroup", "none")
_LONGEST_REASON = 120
_TIME = re.compile(r"\d+\.\d+ s\b")


@dataclass(frozen=True, slots=True)
class Sample:
    """One time series: its labels, and its number or its durations."""

    labels: Mapping[str, str]
    value: float | counters.Histogram


@dataclass(frozen=True, slots=True)
class Family:
    """Samples of one name, which has neither `PREFIX` nor `_total` here."""

    kind: Literal["gauge", "counter", "histogram"]
    name: str
    help: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the metrics are read from."""

    agent: agent.Agent
    book: report.Book
    counters: counters.Counters
    saver: saving.Saver
    watching: watching.Watching
    probes: probes.Probes
    opposition: opposition.Opposition


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What has to be read in the event loop: the rest may be read in any thread."""

    now: state.State
    mode: str
    reason: str
    busy: bool
    ready: bool
    saved: bool
    overflows: int


def moment(its: Sources) -> Moment:
    """The present one."""
    return Moment(
        now=its.agent.state,
        mode=its.agent.mode,
        reason=its.agent.reason,
        busy=its.agent.busy,
        ready=not its.probes.unready(),
        saved=bool(its.saver.document()["saved"]),
        overflows=its.watching.overflows,
    )


def families(at: Moment, its: Sources) -> Iterator[Family]:
    """Everything, one subject after the other."""
    yield from _agent(at, its.counters)
    yield from _node(at, its.book)
    yield from _drift(its.book, its.counters)
    yield from _conflicts(its.book.fights, its.opposition)
    yield from _decisions(its.counters)
    yield from _doors(at, its.counters)
    yield from _checkpoint(at, its.counters)


def _agent(at: Moment, counts: counters.Counters) -> Iterator[Family]:
    yield _gauge("build_info", "The version that runs.", Sample({"version": reconciler.__version__}, 1))
    yield _gauge("ready", "Whether the node is served: see the probes.", Sample({}, at.ready))
    yield _counter("faults", "Errors of the agent's own, which it outlived.", Sample({}, counts.faults))


def _node(at: Moment, book: report.Book) -> Iterator[Family]:
    census = status.census(at.now, book)
    settled = all(state_ not in status.UNSETTLED for _, state_ in census)
    yield _gauge(
        "converged", "Whether all containers are as they should be.", Sample({}, settled and not at.busy)
    )
    sizes = {name: len(cpus) for name, cpus in status.sets(at.now).items()}
    yield _gauge("pool_cpus", "CPUs of each set.", *_by("pool", sizes))
    overlapping = len(state.overlapping(at.now.ledger.claims))
    yield _gauge("overlapping_cpus", "CPUs that more than one list has.", Sample({}, overlapping))
    yield _gauge(
        "containers",
        "Containers that run or may run, by class and state.",
        *(
            Sample({"class": kind.value, "state": name}, census.get((kind.value, name), 0))
            for kind in intent.Kind
            for name in status.STATES
        ),
    )
    claims = dict.fromkeys(_CLAIMING, 0)
    cpus = dict.fromkeys(_CLAIMING, 0)
    for claim in at.now.ledger.claims.values():
        claims[claim.kind.value] += 1
        cpus[claim.kind.value] += len(claim.cpus)
    yield _gauge("claims", "Claims, by class.", *_by("class", claims))
    yield _gauge("claimed_cpus", "CPUs in claims, by class.", *_by("class", cpus))


_CLAIMING = tuple(
    kind.value
    for kind in (intent.Kind.ANNOTATED_EXCLUSIVE, intent.Kind.ANNOTATED_SHARED, intent.Kind.INTEGER)
)


def _drift(book: report.Book, counts: counters.Counters) -> Iterator[Family]:
    drifts = book.counters
    yield _counter("drifts_found", "Containers that somebody else had changed.", Sample({}, drifts.found))
    yield _counter("drifts_repaired", "Of these, repaired.", Sample({}, drifts.repaired))
    yield _gauge("drifts_unrepaired", "Of these, tried in vain so far.", Sample({}, drifts.unrepaired))
    yield Family("histogram", "pass_seconds", "Passes, by how long they took.", (Sample({}, counts.passes),))
    yield _counter("writes", "Files written.", Sample({}, counts.writes))
    failed = {"EROFS": 0, "EACCES": 0, "EPERM": 0, "ENOSPC": 0, "EINVAL": 0, "blocked": 0}
    failed |= dict(counts.failed_writes)
    yield _counter("failed_writes", "Files that could not be written, by errno.", *_by("errno", failed))


def _conflicts(its: fights.Fights, others: opposition.Opposition) -> Iterator[Family]:
    against = dict.fromkeys(get_args(opponents.Kind), 0)
    for conflict in its.conflicts().values():
        against[conflict.opponent.kind] += 1
    yield _gauge("conflicts", "Containers in conflict, by opponent.", *_by("opponent", against))
    yield _counter("conflicts_raised", "Conflicts that have begun.", Sample({}, its.raised))
    yield _counter("conflicts_ended", "Of these, ended.", Sample({}, its.ended))
    yield _gauge(
        "kubelet_is_static", "Whether kubelet's CPU manager writes cpusets.", Sample({}, others.is_static)
    )
    who = others.attribution
    yield _gauge(
        "attribution_active", "Whether it is seen who writes.", Sample({}, who is not None and who.active)
    )
    seen = (0, 0, 0) if who is None else (who.writes, who.unnamed, who.lost)
    yield _counter("attribution_writes", "Writes of others to cgroups that were seen.", Sample({}, seen[0]))
    yield _counter("attribution_unnamed", "Of these, by somebody who ended too soon.", Sample({}, seen[1]))
    yield _counter("attribution_losses", "Times that who wrote was lost.", Sample({}, seen[2]))
    yield _counter(
        "agreements",
        "Cpusets told to those who would write others.",
        Sample({"owner": "runtime"}, others.agreeing.made),
        Sample({"owner": "systemd"}, others.units.made),
    )
    yield _counter(
        "agreement_failures",
        "Attempts at that which failed.",
        Sample({"owner": "runtime"}, others.agreeing.failed),
        Sample({"owner": "systemd"}, others.units.failed),
    )


def _decisions(counts: counters.Counters) -> Iterator[Family]:
    yield _counter(
        "refusals",
        "Requests that were refused, by request and ground.",
        *_by_two("request", "ground", dict.fromkeys(_REFUSED, 0) | dict(counts.refusals)),
    )
    yield _counter("moves", "Claims that made room for others.", Sample({}, counts.moves))
    yield Family(
        "histogram",
        "hook_seconds",
        "Hooks, by how long the runtime waited for the answer.",
        tuple(Sample({"hook": name}, histogram) for name, histogram in counts.hooks.items()),
    )
    yield _counter(
        "guard_answers",
        "Hooks that ran out of time, by request and by what the guard answered.",
        *_by_two("request", "answer", dict.fromkeys(_GUARDED, 0) | dict(counts.guarded)),
    )


_REFUSED = (
    *itertools.product(
        ("create", "update"), ("annotation", "namespace", "held", "room", "bounds", "pool", "writes", "time")
    ),
    ("start", "writes"),
)
_GUARDED = (
    ("create", "admitted"),
    ("create", "refused"),
    ("start", "admitted"),
    ("start", "refused"),
    ("update", "in-place"),
    ("update", "refused"),
)


def _doors(at: Moment, counts: counters.Counters) -> Iterator[Family]:
    yield _gauge("mode", "The door to the runtime.", *_by("mode", {mode: mode == at.mode for mode in MODES}))
    yield _gauge("mode_reason", "Why it is this one.", Sample({"reason": bounded(at.reason)}, 1))
    changes = dict.fromkeys(MODES, 0) | dict(counts.mode_changes)
    yield _counter("mode_changes", "Changes to each door, or to another reason.", *_by("mode", changes))
    yield _counter("nri_connections", "Registrations as an NRI plugin.", Sample({}, counts.nri_connections))
    yield _counter("nri_losses", "Of these, connections that ended.", Sample({}, counts.nri_losses))
    yield _counter("nri_retries", "Pauses before another attempt over NRI.", Sample({}, counts.nri_retries))
    yield _counter("cri_polls", "Polls over CRI.", Sample({}, counts.cri_polls))
    yield _counter("cri_failures", "Polls over CRI that failed.", Sample({}, counts.cri_failures))
    yield _counter("inotify_overflows", "Times that inotify lost events.", Sample({}, at.overflows))


def _checkpoint(at: Moment, counts: counters.Counters) -> Iterator[Family]:
    yield _counter("checkpoint_writes", "Checkpoints written.", Sample({}, counts.checkpoint_writes))
    yield _counter("checkpoint_failures", "Checkpoints not written.", Sample({}, counts.checkpoint_failures))
    yield _gauge("checkpoint_saved", "Whether all that is known is on the disk.", Sample({}, at.saved))
    if counts.checkpoint_written_at is not None:
        yield _gauge(
            "checkpoint_written_timestamp_seconds",
            "When the last checkpoint was written.",
            Sample({}, counts.checkpoint_written_at),
        )


def bounded(reason: str) -> str:
    """A reason as a label: without times, which would make a new series each, and at most 120 characters."""
    return _TIME.sub("some time", reason)[:_LONGEST_REASON]


def _gauge(name: str, help_: str, *samples: Sample) -> Family:
    return Family("gauge", name, help_, samples)


def _counter(name: str, help_: str, *samples: Sample) -> Family:
    return Family("counter", name, help_, samples)


def _by(label: str, values: Mapping[str, float]) -> Iterator[Sample]:
    return (Sample({label: key}, value) for key, value in values.items())


def _by_two(first: str, second: str, values: Mapping[tuple[str, str], float]) -> Iterator[Sample]:
    return (Sample({first: key[0], second: key[1]}, value) for key, value in values.items())
