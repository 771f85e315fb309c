"""The part of a pass that keeps slices of the host on the shared pool. I/O; runs in the worker's thread.

Which slices were confined is kept in a file, so that one that is configured no more is given back also after
a restart. It is written before a slice is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from reconciler import errors, events, observed, plan, recurring, report, slices
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import checkpoint, entering
from reconciler.host import cgroupfs
from reconciler.policy import desired, state

_LONGEST = 64 * 1024
"""Bytes of the file that are read."""
Steps = tuple[plan.Plan, plan.Plan]
"""What to write before containers are moved, and what after."""


def remembered(path: str) -> frozenset[str]:
    """The slices that the file names, without what is no slice's name; none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            lines = file.read(_LONGEST).decode("ascii", "replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(line for line in lines if schema.is_host_slice(line))


class Slicing:
    """Remembers, between passes, which slices are confined."""

    def __init__(  # noqa: PLR0913  what it works on, and who is told
        self,
        tree: cgroupfs.Cgroupfs,
        book: report.Book,
        path: str = "",
        *,
        told: Callable[[], Mapping[events.ContainerId, CpuSet]] = dict,
        watch: Callable[[Mapping[events.ContainerId, str]], object] = lambda _: None,
        complain: Callable[[errors.ReconcilerError], object] = lambda _: None,
    ) -> None:
        """`path` is the file, "" for none. `told` says what systemd writes for us, `watch` is told which
        cgroups are to be watched, `complain` of what cannot be confined or kept."""
        self._tree = tree
        self._book = book
        self._path = path
        self._told = told
        self._watch = watch
        self._complain = complain
        self._confined = remembered(path) if path else frozenset()
        self._kept = self._confined
        self._of_containers: frozenset[str] = frozenset()
        self._watched: frozenset[str] = frozenset()
        self._pool: CpuSet | None = None
        self._looks: dict[str, observed.Look] = {}
        self._news: list[recurring.News] = []

    def steps(
        self,
        now: state.State,
        scope: frozenset[events.ContainerId] | None,
        found_by: report.FoundBy,
        found_at: Mapping[events.ContainerId, float],
        at: float,
    ) -> Steps:
        """What there is to write in a pass over `scope`, at monotonic seconds `at`; see `report.Outcome`."""
        self._looks, self._news = {}, []
        names = self._names(now, scope)
        if not names:
            return (), ()
        known = self._book.slices
        self._looks = {name: self._tree.look(slices.path(name)) for name in names}
        self._news += known.seen(self._looks, self._told(), found_by, found_at, at)
        return known.order(self._looks, self._occupied(now), at)

    def save(self) -> None:
        """Keep who is confined; before anything is written. A file that cannot be written costs only that."""
        if not self._path or self._confined == self._kept:
            return
        try:
            checkpoint.write(self._path, [f"{name}\n".encode() for name in sorted(self._confined)])
            self._kept = self._confined
        except errors.HostFileError as error:
            self._complain(error)

    def enter(self, results: Sequence[report.Result], at: float) -> tuple[report.Entry, ...]:
        """Takes what came of the writes, at monotonic seconds `at`; what there is to tell."""
        if not self._looks:
            return ()
        mine = [its for its in results if slices.named(its.write.container) in self._looks]
        written = {slices.named(its.write.container) for its in mine}
        after = {
            name: self._tree.look(slices.path(name)) if name in written else look
            for name, look in self._looks.items()
        }
        known = self._book.slices
        self._news += known.passed(after, _failures(mine), at)
        if given_back := known.given_back():
            self._confined -= given_back
            self.save()
        return tuple(entering.enter(self._book, news) for news in self._news)

    def _names(self, now: state.State, scope: frozenset[events.ContainerId] | None) -> Iterable[str]:
        """The slices to look at: all where everything is, or the pool is another one."""
        wanted = frozenset(now.terms.config.host_slices) - self._of_containers
        if scope is None or now.pool != self._pool or not wanted <= self._confined:
            self._pool = now.pool
            self._want(now, wanted)
            return sorted(self._confined)
        return [name for name in sorted(self._confined) if slices.key(name) in scope]

    def _want(self, now: state.State, wanted: frozenset[str]) -> None:
        for name in sorted(wanted - self._of_containers):
            if any(_is_in(its.cgroup, slices.path(name)) for its in now.inventory.containers.values()):
                self._of_containers |= {name}
                self._complain(errors.Usage(f"hostSlices: containers are in {name}: it is left alone"))
        wanted -= self._of_containers
        # Without a pool there is nothing to confine to: what was is left as it is.
        before = self._confined
        self._confined = before | wanted
        online = now.terms.topology.online
        pool = now.pool or online
        self._book.slices.want(
            {
                name: slices.Want(cpus=pool if name in wanted else CpuSet(), online=online)
                for name in sorted(self._confined)
            }
        )
        if self._confined != before:
            self.save()
        if wanted != self._watched or self._confined != before:
            self._watched = wanted
            self._watch({slices.key(name): slices.path(name) for name in wanted})

    def _occupied(self, now: state.State) -> CpuSet:
        """CPUs that holders are on and have to leave yet."""
        bits = 0
        wanted = desired.desired(now)
        for id_, cpus in self._book.written().items():
            if id_ in wanted and wanted[id_].owner is not None:
                bits |= (cpus - wanted[id_].cpus).bits
        return CpuSet.from_bits(bits)


def _is_in(cgroup: str | None, group: str) -> bool:
    return cgroup is not None and cgroup.startswith(f"{group}/")


def _failures(results: Iterable[report.Result]) -> dict[str, errors.HostFileError | None]:
    """Why the first write to each slice failed that did; None for one that waits."""
    found: dict[str, errors.HostFileError | None] = {}
    for result in results:
        if result.failed:
            found.setdefault(str(slices.named(result.write.container)), result.error)
    return found


def give_back(path: str, tree: cgroupfs.Cgroupfs) -> Iterator[plan.Write]:
    """The writes that give back what the file names, and is not given back yet: for uninstalling."""
    for name in sorted(remembered(path)):
        look = tree.look(slices.path(name))
        if isinstance(look, observed.Present) and look.outer.cpus:
            yield plan.Write(
                container=slices.key(name),
                file=observed.CPUS,
                text="",
                phase=plan.Phase.SETTLE,
                group=slices.path(name),
            )


def forget(path: str) -> None:
    """Remove the file: everything that it names is given back."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
