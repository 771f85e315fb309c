"""One pass: what it looks at, writes, remembers and tells."""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
from collections.abc import Iterator

import pytest

from reconciler import events, observed, plan, report
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import walk
from reconciler.host import sysfs
from reconciler.policy import lifecycle, state
from reconciler.sim import machine
from tests.daemon import kernels, pods

WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
EVERYTHING = walk.Request(scope=None)


class Told:
    """Keeps what a walker tells."""

    def __init__(self) -> None:
        self.done: list[walk.Done] = []
        self.plans: list[plan.Plan] = []

    def passed(self, now: state.State, done: walk.Done) -> None:  # noqa: ARG002  the protocol's
        """As `walk.Tell.passed`."""
        self.done.append(done)

    def planned(self, now: state.State, pass_id: int, steps: plan.Plan) -> None:  # noqa: ARG002  the protocol's
        """As `walk.Tell.planned`."""
        self.plans.append(steps)


class Ground:
    """A shared and an exclusive container, both on every CPU, and who makes passes over them."""

    def __init__(self, folder: pathlib.Path) -> None:
        machine.write(str(folder), machine.vm())
        self.topology = sysfs.topology(str(folder))
        (folder / "sys/fs/cgroup").mkdir(parents=True)
        self.kernel = kernels.Kernel(str(folder / "sys/fs/cgroup"), self.topology)
        self.now = state.State(terms=state.terms(self.topology, schema.Config()))
        for pod, container in ((WEB, SHARED), (DB, INTEGER)):
            self.now, _, _ = lifecycle.admit(self.now, events.ContainerCreating(pod=pod, container=container))
            self.kernel.make(str(container.cgroup), "0-7")
        self.forget_attempts()
        self.book = report.Book()
        self.told = Told()
        self.followed: list[CpuSet] = []
        self.seconds = 0.0

    def forget_attempts(self) -> None:
        """Count writes and looks from here."""
        self.kernel.attempts.clear()
        self.kernel.looks.clear()

    def walker(self, *, dry: bool = False) -> walk.Walker:
        """One that has made no pass yet."""
        return walk.Walker(
            self.kernel,
            self.book,
            self.told,
            dry=dry,
            follow=self.followed.append,
            clock=lambda: self.seconds,
        )

    def text(self, container: events.Container) -> str:
        """What the container's file says."""
        return pathlib.Path(self.kernel.root, str(container.cgroup), "cpuset.cpus").read_text().strip()


@pytest.fixture
def ground(tmp_path: pathlib.Path) -> Iterator[Ground]:
    """A machine of 8 CPUs."""
    made = Ground(tmp_path)
    yield made
    made.kernel.close()


def test_a_pass_puts_everyone_where_they_belong(ground: Ground) -> None:
    done = ground.walker().run(ground.now, EVERYTHING)
    assert (ground.text(SHARED), ground.text(INTEGER)) == ("0-1,4-7", "2-3")
    assert (done.looked_at, done.differences, len(done.results), done.retry_in) == (2, 2, 2, None)
    assert ground.told.done == [done]


def test_whoever_must_leave_leaves_first(ground: Ground) -> None:
    ground.walker().run(ground.now, EVERYTHING)
    assert [path for path, _, _ in ground.kernel.attempts] == [SHARED.cgroup, INTEGER.cgroup]


def test_what_is_in_order_is_not_written(ground: Ground) -> None:
    walker = ground.walker()
    walker.run(ground.now, EVERYTHING)
    ground.forget_attempts()
    done = walker.run(ground.now, EVERYTHING)
    assert ground.kernel.attempts == []
    assert (done.looked_at, done.differences) == (2, 0)


def test_a_pass_looks_only_at_what_it_was_asked_to(ground: Ground) -> None:
    done = ground.walker().run(ground.now, walk.Request(scope=frozenset({SHARED.id})))
    assert done.looked_at == 1
    assert set(ground.kernel.looks) == {SHARED.cgroup}


def test_without_a_pool_a_pass_looks_at_everyone(ground: Ground) -> None:
    terms = dataclasses.replace(ground.now.terms, poolable=CpuSet.parse("2-3", what="test"))
    now = dataclasses.replace(ground.now, terms=terms)
    assert not now.pool
    ground.walker().run(now, walk.Request(scope=frozenset({SHARED.id})))
    assert set(ground.kernel.looks) == {INTEGER.cgroup}


def test_a_gate_has_its_trespassers_looked_at_too(ground: Ground) -> None:
    walker = ground.walker()
    walker.run(ground.now, EVERYTHING)
    ground.kernel.write(str(SHARED.cgroup), "cpuset.cpus", "0-7")
    ground.book._reach[SHARED.id] = ground.now.pool | ground.now.ledger.exclusive
    gates = frozenset({INTEGER.id})
    done = walker.run(ground.now, walk.Request(scope=frozenset(), gates=gates))
    assert done.verdicts == {INTEGER.id: ""}
    assert (done.looked_at, ground.text(SHARED)) == (2, "0-1,4-7")


def test_unknown_and_stopped_containers_are_passed_over(ground: Ground) -> None:
    stopped = lifecycle.absorb(ground.now, events.ContainerStopped(pod=WEB, container=SHARED))
    scope = frozenset({SHARED.id, events.ContainerId("unknown")})
    done = ground.walker().run(stopped, walk.Request(scope=scope))
    assert (done.looked_at, ground.kernel.looks) == (0, [])


def test_a_failed_write_is_to_be_tried_again_after_growing_pauses(ground: Ground) -> None:
    ground.kernel.refuses[str(SHARED.cgroup)] = errno.EBUSY
    walker = ground.walker()
    pauses = [walker.run(ground.now, EVERYTHING).retry_in for _ in range(9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    ground.kernel.refuses.clear()
    assert walker.run(ground.now, EVERYTHING).retry_in is None


def test_a_drift_lasts_from_its_signal_to_its_repair(ground: Ground) -> None:
    walker = ground.walker()
    walker.run(ground.now, EVERYTHING)
    ground.kernel.write(str(SHARED.cgroup), "cpuset.cpus", "0-7")
    ground.seconds = 5.25
    done = walker.run(ground.now, walk.Request(scope=frozenset({SHARED.id}), found_at={SHARED.id: 5.0}))
    found, repaired = done.entries
    assert (found.event, found.fields["found_by"]) == ("drift.found", "inotify")
    assert (repaired.event, repaired.fields["lasted_ms"]) == ("drift.repaired", 250.0)


def test_who_has_ended_is_forgotten_and_closed(ground: Ground) -> None:
    walker = ground.walker()
    walker.run(ground.now, EVERYTHING)
    before = len(os.listdir("/proc/self/fd"))
    gone = lifecycle.absorb(ground.now, events.ContainerRemoved(pod=WEB, container=SHARED))
    walker.run(gone, walk.Request(scope=frozenset(), gone=((SHARED.id, SHARED.cgroup),)))
    assert set(ground.book.latest) == {INTEGER.id}
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_vanished_cgroup_is_neither_drift_nor_an_error(ground: Ground) -> None:
    walker = ground.walker()
    walker.run(ground.now, EVERYTHING)
    ground.kernel.remove(str(SHARED.cgroup))
    done = walker.run(ground.now, EVERYTHING)
    assert (done.differences, done.entries, done.retry_in) == (0, (), None)
    assert ground.book.latest[SHARED.id] == observed.Absent()


def test_garbage_in_a_file_costs_only_its_container(ground: Ground) -> None:
    pathlib.Path(ground.kernel.root, str(SHARED.cgroup), "cpuset.cpus").write_text("0-x\n")
    done = ground.walker().run(ground.now, EVERYTHING)
    assert ground.text(INTEGER) == "2-3"
    [entry] = done.entries
    assert (entry.event, entry.container) == ("placement.failed", SHARED.id)
    assert "cpuset.cpus" in str(entry.fields["reason"])


def test_the_pool_is_followed_when_it_changes(ground: Ground) -> None:
    walker = ground.walker()
    for _ in range(2):
        walker.run(ground.now, EVERYTHING)
    ended = lifecycle.absorb(ground.now, events.PodStopped(sandbox=DB.sandbox))
    walker.run(ended, EVERYTHING)
    assert [str(cpus) for cpus in ground.followed] == ["0-1,4-7", "0-7"]


def test_a_preview_writes_nothing_and_remembers_nothing(ground: Ground) -> None:
    looks, steps = ground.walker().preview(ground.now)
    assert set(looks) == {SHARED.id, INTEGER.id}
    assert [(step.container, step.text) for step in steps] == [(SHARED.id, "0-1,4-7"), (INTEGER.id, "2-3")]
    assert (ground.kernel.attempts, ground.book.latest, ground.told.done) == ([], {}, [])


def test_a_dry_pass_plans_writes_nothing_and_holds_nobody_up(ground: Ground) -> None:
    walker = ground.walker(dry=True)
    request = walk.Request(scope=None, gates=frozenset({INTEGER.id}))
    for _ in range(2):
        assert walker.run(ground.now, request).verdicts == {INTEGER.id: ""}
    assert ground.kernel.attempts == []
    [steps] = ground.told.plans
    assert [step.text for step in steps] == ["0-1,4-7", "2-3"]
    assert (ground.followed, ground.book.counters) == ([], report.Counters())
