"""Partitions by whole passes: made at the gate, mended when somebody ends them, given back, done without."""

# covers: PRD-4.10, PRD-4.11, PRD-4.12, PRD-4.13

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler import observed
from reconciler.config import schema
from reconciler.daemon import status, walk
from reconciler.host import inotify
from reconciler.policy import lifecycle, state
from reconciler.sim import partitions
from tests.daemon import node, partitioned, pods
from tests.pipeline import samples

ISOLATED = schema.Config(isolation="isolated")
POD = "kubepods.slice/pod-db.slice"
MAIN = f"{POD}/db-main-1.scope"
DB = pods.guaranteed("db", "2-3")
DB_MAIN = pods.container(DB, whole=2)
WEB = pods.pod("web")
SHARED = pods.container(WEB)
CPUS = samples.cpus
MADE = observed.Partition(exclusive=CPUS("2-3"), state="isolated")
PLAIN = observed.Partition(exclusive=CPUS(""), state="member")
ABOVE = observed.Partition(exclusive=CPUS("2-3"), state="member")


@pytest.fixture
def ground(tmp_path: pathlib.Path) -> Iterator[partitioned.Ground]:
    """A node under `isolated`, with a shared container."""
    with contextlib.closing(partitioned.Ground(str(tmp_path), ISOLATED)) as made:
        made.create(WEB, SHARED)
        made.run()
        made.kernel.written.clear()
        yield made


def born(made: partitioned.Ground) -> partitioned.Ground:
    """The node on which the exclusive container is there, and a partition."""
    made.create(DB, DB_MAIN)
    made.run()
    assert made.host.partition(MAIN) == MADE
    made.kernel.written.clear()
    made.told.entries.clear()
    return made


def told(made: partitioned.Ground) -> list[tuple[str, dict[str, Any]]]:
    """What was told since, without times."""
    entries = [(its.event, dict(its.fields)) for its in made.told.entries if not its.silent]
    made.told.entries.clear()
    return [
        (event, {key: its for key, its in fields.items() if key != "lasted_ms"}) for event, fields in entries
    ]


def isolation(made: partitioned.Ground) -> dict[str, Any]:
    """What the status says of the container's isolation."""
    container = made.now.inventory.containers[DB_MAIN.id]
    entry = status.entry(made.now, made.book, container, made.now.ledger.intents[container.id])
    found: dict[str, Any] = entry["isolation"]  # type: ignore[assignment]
    return found


def test_the_pool_leaves_then_the_groups_above_take_the_cpus_then_the_container_is_made_a_partition(
    ground: partitioned.Ground,
) -> None:
    ground.create(DB, DB_MAIN)
    ground.run(walk.Request(scope=frozenset(), gates=frozenset({DB_MAIN.id})))
    assert ground.kernel.written == [
        (SHARED.cgroup, "cpuset.cpus", "0-1,4-7"),
        ("kubepods.slice", "cpuset.cpus.exclusive", "2-3"),
        (POD, "cpuset.cpus.exclusive", "2-3"),
        (MAIN, "cpuset.cpus.exclusive", "2-3"),
        (MAIN, "cpuset.cpus.partition", "isolated"),
    ]
    assert isolation(ground) == {"wanted": "isolated", "has": "isolated", "reason": ""}
    assert told(ground) == []
    ground.check_converged()


def test_who_has_no_list_of_its_own_is_off_the_cpus_of_a_partition(ground: partitioned.Ground) -> None:
    ground.host.make("system.slice/sshd.service")
    born(ground)
    daemon = ground.host.look("system.slice/sshd.service")
    assert isinstance(daemon, observed.Present)
    assert daemon.outer.effective_cpus == CPUS("0-1,4-7")


def test_nobody_is_put_on_cpus_before_the_kernel_has_let_go_of_them(tmp_path: pathlib.Path) -> None:
    config = schema.Config(isolation="isolated", reserved_cpus="0-1")
    with contextlib.closing(partitioned.Ground(str(tmp_path), config)) as made:
        for pod, whole in (
            (pods.guaranteed("a"), 2),
            (pods.guaranteed("high", "6-7"), 2),
            (pods.guaranteed("e"), 1),
        ):
            assert made.create(pod, pods.container(pod, whole=whole))
            made.run()
        shrinks = made.containers["a-main-1"]
        assert made.cpus(shrinks) == CPUS("2-3")
        made.resize("a-main-1", 1)
        # Who is on 4 or 5 has nowhere to go but to the CPU that has just become free.
        listed = pods.guaranteed("listed", "4-5")
        assert made.create(listed, pods.container(listed, whole=2))
        made.run()
        made.check_converged()
        mover = made.containers["e-main-1"]
        assert made.cpus(mover) | made.cpus(shrinks) == CPUS("2-3")


def test_a_group_whose_processes_have_ended_is_made_no_partition_again(ground: partitioned.Ground) -> None:
    """The kernel makes it a member when it begins to remove it; a write in between would take its CPUs away
    from everyone for good."""
    born(ground)
    ground.kernel.populate(MAIN)
    ground.kernel.write(MAIN, "cpuset.cpus.partition", "member")
    ground.kernel.written.clear()
    ground.run()
    assert ground.kernel.written == []
    assert told(ground) == []
    ground.kernel.populate(MAIN, 7)
    ground.run()
    assert ground.kernel.written == [(MAIN, "cpuset.cpus.partition", "isolated")]


def test_a_pod_that_ends_leaves_no_exclusive_cpus_in_the_groups_above(ground: partitioned.Ground) -> None:
    born(ground).end("db")
    ground.run()
    assert ground.host.partition("kubepods.slice") == PLAIN
    assert ground.cpus(SHARED) == CPUS("0-7")


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("cpuset.cpus.partition", "member", ("cpuset.cpus.partition", "isolated", "member")),
        ("cpuset.cpus.partition", "root", ("cpuset.cpus.partition", "isolated", "root")),
        ("cpuset.cpus.exclusive", "3", ("cpuset.cpus.exclusive", "2-3", "3")),
        ("cpuset.cpus.exclusive", "\n", ("cpuset.cpus.exclusive", "2-3", "")),
    ],
    ids=["ended", "another-kind", "less", "nothing"],
)
def test_what_somebody_writes_into_a_partition_is_drift_and_is_mended(
    ground: partitioned.Ground, file: str, text: str, found: tuple[str, str, str]
) -> None:
    born(ground).host.write(MAIN, file, text)
    ground.run(walk.Request(scope=frozenset({DB_MAIN.id}), found_at={DB_MAIN.id: 0.0}))
    assert ground.host.partition(MAIN) == MADE
    names = ("file", "desired", "observed")
    assert told(ground) == [
        ("drift.found", {**dict(zip(names, found, strict=True)), "found_by": "inotify"}),
        ("drift.repaired", {"file": "cpuset.cpus.partition", "observed": "isolated", "attempt": 1}),
    ]
    counters = ground.book.counters
    assert (counters.found, counters.repaired, counters.unrepaired) == (1, 1, 0)


@pytest.mark.parametrize("group", ["kubepods.slice", POD])
@pytest.mark.parametrize("text", ["\n", "2"], ids=["all", "one"])
def test_a_group_above_that_loses_cpus_is_mended_by_the_next_pass(
    ground: partitioned.Ground, group: str, text: str
) -> None:
    born(ground).host.write(group, "cpuset.cpus.exclusive", text)
    ground.run()
    assert ground.host.partition(MAIN) == MADE
    ground.check_converged()
    assert ground.book.counters.repaired == ground.book.counters.found == 1


def test_one_that_is_ended_again_and_again_is_made_again_after_pauses_and_told_now_and_then(
    ground: partitioned.Ground,
) -> None:
    born(ground)
    for _ in range(16):
        ground.host.write(MAIN, "cpuset.cpus.partition", "member")
        for _ in range(100):
            done = ground.run()
            if ground.host.partition(MAIN) == MADE:
                break
            assert done.retry_in is not None
            assert isolation(ground)["reason"].startswith("somebody ends it again and again")
            ground.seconds += max(done.retry_in, 0.001)
    counters = ground.book.counters
    assert (counters.found, counters.repaired) == (16, 16)
    assert [event for event, _ in told(ground)].count("drift.found") == 5
    assert ground.seconds > 0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 6.4 + 7 * 10.0


def test_where_the_kernel_refuses_the_cpusets_do_and_it_is_told_once_and_tried_again(
    ground: partitioned.Ground,
) -> None:
    ground.kernel.partitions.permitted = False
    ground.create(DB, DB_MAIN)
    done = ground.run(walk.Request(scope=frozenset(), gates=frozenset({DB_MAIN.id})))
    why = f"cpuset.cpus.partition is isolated invalid ({partitions.NOT_PERMITTED}) and not isolated"
    assert done.verdicts == {DB_MAIN.id: ""}
    assert isolation(ground) == {"wanted": "isolated", "has": "cpuset", "reason": why}
    assert told(ground) == [("isolation.failed", {"level": "isolated", "reason": why, "attempt": 1})]
    assert status.converged(ground.now, ground.book, busy=False)
    waits = []
    for _ in range(9):
        assert done.retry_in is not None
        waits.append(round(done.retry_in, 3))
        ground.kernel.written.clear()
        ground.run()
        assert ground.kernel.written == []
        ground.seconds += done.retry_in
        done = ground.run()
        assert ground.kernel.written == [(MAIN, "cpuset.cpus.partition", "isolated")]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert told(ground) == []
    ground.kernel.partitions.permitted = True
    ground.seconds += 10
    ground.run()
    assert told(ground) == [("isolation.made", {"level": "isolated", "cpus": "2-3"})]
    assert isolation(ground) == {"wanted": "isolated", "has": "isolated", "reason": ""}
    assert ground.book.counters.found == 0


def test_an_error_of_a_write_is_the_reason_and_what_stands_on_it_is_not_written(
    ground: partitioned.Ground,
) -> None:
    ground.host.make("kubepods.slice/in-the-way", cpus="2")
    ground.strict = False
    ground.create(DB, DB_MAIN)
    done = ground.run()
    assert isolation(ground)["reason"] == (
        "write kubepods.slice/pod-db.slice/cpuset.cpus.exclusive: the kernel refuses the text (errno 22)"
    )
    assert [result.write.group for result in done.results if result.blocked] == [MAIN, MAIN]
    assert ground.host.partition(MAIN) == PLAIN
    assert (ground.cpus(DB_MAIN), ground.cpus(SHARED)) == (CPUS("2-3"), CPUS("0-1,4-7"))


def test_a_kernel_without_the_files_is_told_once_and_asked_no_more(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(partitioned.Ground(str(tmp_path), ISOLATED)) as made:
        made.kernel.has_partitions = made.host.has_partitions = False
        made.create(WEB, SHARED)
        made.create(DB, DB_MAIN)
        assert made.run().retry_in is None
        made.run()
        why = "this kernel has no cpuset.cpus.exclusive (before Linux 6.8): cpusets alone keep others off"
        assert told(made) == [("isolation.unavailable", {"reason": why})]
        assert isolation(made) == {"wanted": "isolated", "has": "cpuset", "reason": why}
        assert (made.cpus(DB_MAIN), made.cpus(SHARED)) == (CPUS("2-3"), CPUS("0-1,4-7"))
        assert {file for _, file, _ in made.kernel.written} == {"cpuset.cpus"}


def test_a_restarted_agent_takes_what_it_finds_and_writes_nothing(ground: partitioned.Ground) -> None:
    born(ground).begin()
    ground.run()
    assert ground.kernel.written == []
    assert isolation(ground)["has"] == "isolated"
    ground.end("db")
    ground.run()
    assert ground.host.partition("kubepods.slice") == PLAIN


def test_what_was_left_while_the_agent_was_down_is_given_back_by_its_first_pass(
    ground: partitioned.Ground,
) -> None:
    born(ground).end("db")
    ground.host.make(POD)
    ground.host.write(POD, "cpuset.cpus.exclusive", "2-3")
    ground.begin()
    ground.run()
    assert {ground.host.partition(path) for path in ("kubepods.slice", POD)} == {PLAIN}


def test_switched_off_all_is_given_back_and_looked_at_no_more(ground: partitioned.Ground) -> None:
    born(ground).configure(schema.Config())
    ground.run()
    assert {ground.host.partition(path) for path in ("kubepods.slice", POD, MAIN)} == {PLAIN}
    assert isolation(ground) == {"wanted": "cpuset", "has": "cpuset", "reason": ""}
    ground.kernel.asked.clear()
    ground.run()
    assert ground.kernel.asked == []


def test_the_partition_of_an_unmanaged_container_stays_with_its_cpus_in_the_groups_above(
    ground: partitioned.Ground,
) -> None:
    others = "kubepods.slice/pod-others.slice/theirs.scope"
    ground.host.make(others, cpus="6-7")
    for group in ("kubepods.slice", "kubepods.slice/pod-others.slice", others):
        ground.host.write(group, "cpuset.cpus.exclusive", "6-7")
    ground.host.write(others, "cpuset.cpus.partition", "root")
    ground.begin()
    ground.create(DB, DB_MAIN)
    ground.run()
    assert ground.host.partition("kubepods.slice") == observed.Partition(
        exclusive=CPUS("2-3,6-7"), state="member"
    )
    ground.end("db")
    ground.run()
    assert ground.host.partition("kubepods.slice") == observed.Partition(
        exclusive=CPUS("6-7"), state="member"
    )
    assert ground.host.partition(others) == observed.Partition(exclusive=CPUS("6-7"), state="root")


def test_a_second_container_on_the_same_list_ends_the_partition_before_it_starts(
    ground: partitioned.Ground,
) -> None:
    born(ground)
    side = pods.container(DB, "side")
    ground.create(DB, side)
    assert ground.effective(side) == CPUS("0-1,4-7")
    done = ground.run(walk.Request(scope=frozenset(), gates=frozenset({side.id})))
    assert done.verdicts == {side.id: ""}
    assert ground.effective(side) == ground.effective(DB_MAIN) == CPUS("2-3")
    assert (
        isolation(ground)["reason"] == "CPUs 2-3 are container side's too, and a partition is one container's"
    )
    ground.check_converged()


def test_a_failed_end_keeps_everyone_off_the_cpus_that_the_kernel_still_keeps(
    ground: partitioned.Ground,
) -> None:
    born(ground)
    ground.strict = False
    ground.kernel.refused = MAIN
    ground.configure(schema.Config())
    done = ground.run()
    assert [(its.write.group, its.write.file) for its in done.results if its.error] == [
        (MAIN, "cpuset.cpus.partition")
    ]
    assert {its.write.group for its in done.results if its.blocked} == {MAIN, POD, "kubepods.slice"}
    assert ground.host.partition(MAIN) == MADE
    ground.kernel.refused = ""
    ground.run()
    assert ground.host.partition(MAIN) == PLAIN


def test_a_plan_shows_the_writes_and_makes_none(ground: partitioned.Ground) -> None:
    ground.create(DB, DB_MAIN)
    _, steps = ground.walker.preview(ground.now)
    assert [(step.group, step.file) for step in steps if step.group] == [
        ("kubepods.slice", "cpuset.cpus.exclusive"),
        (POD, "cpuset.cpus.exclusive"),
        (MAIN, "cpuset.cpus.exclusive"),
        (MAIN, "cpuset.cpus.partition"),
    ]
    assert ground.kernel.written == []


def test_a_shared_container_more_costs_no_look_at_partitions(ground: partitioned.Ground) -> None:
    born(ground)
    ground.kernel.asked.clear()
    more = pods.container(WEB, "more")
    ground.create(WEB, more)
    ground.run(walk.Request(scope=frozenset({more.id}), gates=frozenset({more.id})))
    assert ground.kernel.asked == []


def test_a_topology_that_lost_the_cpus_has_no_partition(ground: partitioned.Ground) -> None:
    born(ground)
    machine_ = dataclasses.replace(ground.topology, online=CPUS("0-1,4-7"))
    terms = state.terms(machine_, ISOLATED)
    ground.now = lifecycle.retry(dataclasses.replace(ground.now, terms=terms))
    ground.run()
    assert ground.host.partition(MAIN) == PLAIN


async def test_the_gate_opens_when_the_kernel_keeps_others_away(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ISOLATED, watch=True) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, DB_MAIN)
        assert made.host.partition(MAIN) == MADE
        [entry] = [its for its in made.status()["containers"] if its["id"] == DB_MAIN.id]
        assert entry["isolation"] == {"wanted": "isolated", "has": "isolated", "reason": ""}
        assert made.status()["isolation"] == {"configured": "isolated", "unavailable": ""}


async def test_an_end_is_seen_at_once(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, ISOLATED, watch=True) as made:
        await made.run(DB, DB_MAIN)
        await made.quiet()
        made.put(DB_MAIN, "member", "cpuset.cpus.partition")
        await node.until(lambda: made.host.partition(MAIN) == MADE)
        await node.until(lambda: bool(made.records("drift.repaired")))
        [found] = made.records("drift.found")
        assert (found["found_by"], found["container"]) == ("inotify", "main")
        assert (found["file"], found["observed"]) == ("cpuset.cpus.partition", "member")


def test_the_state_of_a_partition_is_watched_itself(tmp_path: pathlib.Path) -> None:
    group = tmp_path / "a"
    group.mkdir()
    state_ = group / "cpuset.cpus.partition"
    state_.write_text("member\n")
    watcher = inotify.Watcher(str(tmp_path))
    with contextlib.closing(watcher):
        watcher.watch("a")
        one = watcher._watches["a"]
        watcher.partitions = frozenset({"a"})
        watcher.watch("a")
        assert len(watcher._watches["a"]) == len(one) + 1
        with state_.open("r+") as stream:
            stream.write("isolated")
        assert watcher.read().paths == {"a"}
        watcher.partitions = frozenset()
        watcher.watch("a")
        assert watcher._watches["a"] == one
