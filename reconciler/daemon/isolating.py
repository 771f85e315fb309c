"""The part of a pass that makes partitions and takes them back. I/O; runs in the worker's thread.

Linux before 6.8 has none: containers are then kept apart by their cpusets alone, which is told once. What
another program has made below the same groups is left as it is.
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable, Iterable, Mapping, Sequence

from reconciler import errors, events, intent, observed, opponents, partitions, recurring, report
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import entering
from reconciler.host import cgroupfs
from reconciler.policy import isolation, state

_NOTHING = partitions.Steps()
_NO_FILES = "this kernel has no cpuset.cpus.exclusive (before Linux 6.8): cpusets alone keep others off"


class Isolating:
    """Remembers, between passes, which groups have been made something of."""

    def __init__(
        self,
        tree: cgroupfs.Cgroupfs,
        book: report.Book,
        watch: Callable[[frozenset[str]], object] = lambda _: None,
        writer: Callable[[events.Container, str], opponents.Writer | None] = lambda *_: None,
    ) -> None:
        """`watch` is told which cgroups are partitions, or are to be, when they are others. `writer` says who
        wrote a file last."""
        self._tree = tree
        self._book = book
        self._watch = watch
        self._writer = writer
        self._watched: frozenset[str] = frozenset()
        self._explored: set[str] = set()
        """The groups at the top of the tree below which was looked for what is left of a former run."""
        self._made: set[str] = set()
        """Containers' cgroups that are not plain."""
        self._own: dict[str, CpuSet] = {}
        """By group above containers, the exclusive CPUs that are there for ours."""
        self._claims: object = None
        self._terms: object = None
        self._situation: partitions.Situation | None = None
        self._news: list[recurring.News] = []

    def steps(
        self,
        now: state.State,
        scope: frozenset[events.ContainerId] | None,
        found_by: report.FoundBy,
        found_at: Mapping[events.ContainerId, float],
        at: float,
    ) -> partitions.Steps:
        """What there is to write in a pass over `scope`, at monotonic seconds `at`; see `report.Outcome`."""
        self._situation, self._news = None, []
        if not self._is_concerned(now, scope):
            return _NOTHING
        self._claims, self._terms = now.ledger.claims, now.terms
        if scope is None:
            self._explore(now)
        wants = self._wants(now)
        if not (wants or self._made or self._own):
            self._end(wants)
            return _NOTHING
        its = self._situate(wants)
        known = self._book.isolations
        ending = _ending(its)
        for path, want in wants.items():
            if path in ending:
                continue
            id_ = want.container
            how: report.FoundBy = "inotify" if id_ in found_at else found_by
            news = known.seen(want, its.looks.get(path), how, found_at.get(id_, at), at)
            self._news += (self._signed(now, each) for each in news)
        waiting = frozenset(path for path, want in wants.items() if known.is_waiting(want, at))
        self._situation = dataclasses.replace(its, waiting=waiting | ending)
        return partitions.order(self._situation)

    def preview(self, now: state.State) -> partitions.Steps:
        """What a pass over everything would write."""
        return partitions.order(self._situate(self._wants(now)))

    def _situate(self, wants: Mapping[str, partitions.Want]) -> partitions.Situation:
        looks = self._looks({*wants, *partitions.wanted_below(wants), *self._made, *self._own})
        return partitions.Situation(wants=wants, looks=looks, own=dict(self._own))

    def enter(self, results: Sequence[report.Result], at: float) -> tuple[report.Entry, ...]:
        """Takes what came of the writes, at monotonic seconds `at`; what there is to tell."""
        its, written = self._situation, {result.write.group for result in results}
        if its is not None:
            after = {**its.looks, **self._looks(written | its.wants.keys())} if written else its.looks
            why = _first_errors(results)
            for path, want in its.wants.items():
                error = why.get(want.container, "")
                tried = path not in its.waiting
                self._news += self._book.isolations.passed(want, after.get(path), error, at, tried=tried)
            self._take(its, after)
            self._end(its.wants)
        return tuple(entering.enter(self._book, news, "partition") for news in self._news)

    def _is_concerned(self, now: state.State, scope: frozenset[events.ContainerId] | None) -> bool:
        """Whether a pass has to look at partitions: always where it looks at everything."""
        if scope is None:
            return True
        if not isolation.is_in_use(now) and not self._made and not self._own:
            return False
        if now.ledger.claims is not self._claims or now.terms is not self._terms:
            return True
        whats = (now.ledger.intents.get(id_) for id_ in scope)
        return any(what is not None and what.kind in intent.CLAIMING for what in whats)

    def _wants(self, now: state.State) -> dict[str, partitions.Want]:
        """The partitions that are wanted and can be, by cgroup."""
        wants = {}
        for id_, wish in isolation.wishes(now).items():
            path = now.inventory.containers[id_].cgroup
            if path is not None:
                wants[path] = partitions.Want(container=id_, kind=wish.kind, cpus=wish.cpus)
        if not wants or self._is_available(next(iter(wants.values())), next(iter(wants))):
            return wants
        return {}

    def _is_available(self, want: partitions.Want, path: str) -> bool:
        known = self._book.isolations
        if known.unavailable:
            return False
        top = path.partition("/")[0]
        try:
            self._tree.partition(top)
        except errors.HostFileError as error:
            if error.errno == errno.ENOENT:
                known.unavailable = _NO_FILES
                fields = {"reason": _NO_FILES}
                self._news.append(
                    recurring.News(event="isolation.unavailable", container=want.container, fields=fields)
                )
                return False
        return True

    def _explore(self, now: state.State) -> None:
        """Find what was made before the agent's start, below the groups at the top that were not seen yet."""
        tops = {its.cgroup.partition("/")[0] for its in now.inventory.containers.values() if its.cgroup}
        if not (new := tops - self._explored):
            return
        self._explored |= new
        ours = {}
        for id_, container in now.inventory.containers.items():
            what = now.ledger.intents.get(id_)
            if container.cgroup is not None and what is not None and what.kind is not intent.Kind.UNMANAGED:
                ours[container.cgroup] = id_
        for top in sorted(new):
            self._others_below(top, ours)

    def _others_below(self, path: str, ours: Mapping[str, events.ContainerId]) -> CpuSet:
        """The exclusive CPUs in and below a group that another program has put there; ours are noted."""
        look = self._look(path)
        if look is None or look.is_plain:
            return CpuSet()
        if path in ours:
            self._made.add(path)
            return CpuSet()
        if look.state != observed.MEMBER:
            return look.exclusive
        others = CpuSet()
        for child in self._tree.children(path):
            others |= self._others_below(child, ours)
        if own := look.exclusive - others:
            self._own[path] = own
        return others

    def _looks(self, paths: Iterable[str]) -> dict[str, observed.Partition]:
        looks = {path: self._look(path) for path in paths}
        return {path: look for path, look in looks.items() if look is not None}

    def _look(self, path: str) -> observed.Partition | None:
        """What a group's files say; None where it is gone or they cannot be read."""
        try:
            return self._tree.partition(path)
        except errors.HostFileError:
            return None

    def _take(self, its: partitions.Situation, after: Mapping[str, observed.Partition]) -> None:
        """Remember what is there for ours after a pass."""
        below = partitions.wanted_below(its.wants)
        nothing = CpuSet()
        own = {
            path: after[path].exclusive & (self._own.get(path, nothing) | below.get(path, nothing))
            for path in {*below, *self._own} & after.keys()
        }
        self._own = {path: cpus for path, cpus in own.items() if cpus}
        leaves = after.keys() - below.keys() - its.own.keys()
        self._made = {path for path in leaves if not after[path].is_plain}

    def _end(self, wants: Mapping[str, partitions.Want]) -> None:
        self._book.isolations.keep({want.container for want in wants.values()})
        if (watched := frozenset(wants)) != self._watched:
            self._watched = watched
            self._watch(watched)

    def _signed(self, now: state.State, news: recurring.News) -> recurring.News:
        """What was found, with who wrote it; the kernel itself makes a partition invalid."""
        file, has = str(news.fields["file"]), str(news.fields["observed"])
        if "invalid" in has:
            return news
        writer = self._writer(now.inventory.containers[news.container], file)
        return dataclasses.replace(news, fields={**news.fields, **opponents.named(writer)})


def _ending(its: partitions.Situation) -> frozenset[str]:
    """Groups without a process, which are about to be removed. The kernel makes them members first, and
    tells; one that is made a partition again before it is removed keeps its CPUs for good (seen on 7.2)."""
    empty = {path for path, look in its.looks.items() if not look.populated}
    return frozenset(path for path in empty & its.wants.keys() if not its.wants[path].is_had(its.looks[path]))


def _first_errors(results: Iterable[report.Result]) -> dict[events.ContainerId, str]:
    """Why the first write that failed for a container did."""
    found: dict[events.ContainerId, str] = {}
    for result in results:
        if result.error is not None:
            found.setdefault(result.write.container, str(result.error))
        elif result.blocked:
            found.setdefault(
                result.write.container, f"CPU {result.write.needs} could not be freed for a partition"
            )
    return found
