"""Slices of the host follow the shared pool, and are given back."""

from __future__ import annotations

import dataclasses
import errno
import pathlib

import msgspec
import pytest

from reconciler import events
from reconciler.config import schema
from reconciler.daemon import slicing
from tests.daemon import node, pods

# covers: PRD-7.18, PRD-7.19

SYSTEM = "system.slice"
CONFINED = schema.Config(host_slices=(SYSTEM, "a-b.slice", "user.slice"))
FREE = schema.Config()
DB, STORAGE = pods.guaranteed("db"), pods.guaranteed("storage", "6-7")
INTEGER, LISTED = pods.container(DB, whole=2), pods.container(STORAGE, whole=2)


def make(made: node.Node) -> None:
    """The host has two of the slices; the third has no process yet, and no cgroup."""
    for path in (SYSTEM, "a.slice", "a.slice/a-b.slice"):
        made.host.make(path)


def says(made: node.Node, path: str = SYSTEM) -> str:
    """What a slice's `cpuset.cpus` says."""
    return pathlib.Path(made.host.root, path, "cpuset.cpus").read_text().strip()


def entry(made: node.Node, name: str = SYSTEM) -> dict[str, object]:
    """What the status says of a slice."""
    [found] = [its for its in made.status()["host_slices"] if its["name"] == name]
    return dict(found)


async def renewed(made: node.Node, config: schema.Config) -> None:
    """The configuration becomes this one."""
    made.agent.renew(made.topology, config)
    await made.quiet()


async def test_slices_have_the_shared_pool_and_follow_it_both_ways(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, CONFINED) as made:
        make(made)
        await made.quiet()
        assert (says(made), says(made, "a.slice/a-b.slice"), says(made, "a.slice")) == ("0-7", "0-7", "")
        await made.run(DB, INTEGER)
        assert (says(made), says(made, "a.slice/a-b.slice")) == ("0-1,4-7", "0-1,4-7")
        assert entry(made)["state"] == "in-sync"
        assert entry(made, "user.slice")["state"] == "gone"
        made.over(INTEGER)
        made.agent.pod_stopped(events.PodStopped(sandbox=DB.sandbox))
        await made.quiet()
        assert says(made) == "0-7"
        assert made.records("drift.found", "drift.repaired", "placement.failed") == []


async def test_a_slice_leaves_before_a_holder_comes_and_grows_after_everyone_has_moved(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path, CONFINED) as made:
        make(made)
        await made.run(DB, INTEGER)
        made.kernel.attempts.clear()
        its = pods.guaranteed("mover", "2-3")
        moved_in = pods.container(its, whole=2)
        await made.run(its, moved_in)
        assert made.cpus(INTEGER) == "4-5"
        assert says(made) == "0-1,6-7"
        order = [(path, text) for path, file, text in made.kernel.attempts if file == "cpuset.cpus"]
        shrunk = order.index((SYSTEM, "0-1,6-7"))
        assert shrunk < order.index((str(INTEGER.cgroup), "4-5"))
        made.over(moved_in)
        made.agent.pod_stopped(events.PodStopped(sandbox=its.sandbox))
        await made.quiet()
        assert says(made) == "0-3,6-7"


async def test_a_slice_is_not_put_on_cpus_that_a_mover_could_not_leave(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, CONFINED) as made:
        make(made)
        await made.run(DB, INTEGER)
        # Somebody has put the holder elsewhere, and it cannot be put back.
        made.put(INTEGER, "0-1")
        made.host.write(SYSTEM, "cpuset.cpus", "4-7")
        made.kernel.refuses[str(INTEGER.cgroup)] = errno.EBUSY
        await made.passes.passed()
        assert says(made) == "4-7"
        made.kernel.refuses.clear()
        await node.until(lambda: says(made) == "0-1,4-7")


async def test_the_drift_of_a_slice_is_found_at_once_repaired_and_told_with_its_name(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path, CONFINED, watch=True) as made:
        make(made)
        await made.run(DB, INTEGER)
        await renewed(made, msgspec.structs.replace(CONFINED, host_slices=(SYSTEM,)))
        made.host.write(SYSTEM, "cpuset.cpus", "0-7")
        await node.until(lambda: says(made) == "0-1,4-7")
        await made.quiet()
        [found] = made.records("drift.found")
        assert {name: found[name] for name in ("slice", "file", "desired", "observed", "found_by")} == {
            "slice": SYSTEM,
            "file": "cpuset.cpus",
            "desired": "0-1,4-7",
            "observed": "0-7",
            "found_by": "inotify",
        }
        [repaired] = made.records("drift.repaired")
        assert (repaired["slice"], repaired["attempt"]) == (SYSTEM, 1)
        assert made.status()["drift"] == {"found": 1, "repaired": 1, "unrepaired": 0}


async def test_who_writes_a_slice_again_and_again_is_repaired_now_and_then_and_counted(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path, CONFINED, watch=True) as made:
        make(made)
        await made.run(DB, INTEGER)
        for number in range(200):
            made.host.write(SYSTEM, "cpuset.cpus", str(number % 8))
            await made.passes.passed()
        drifts = entry(made)["drifts"]
        assert isinstance(drifts, int)
        assert 0 < drifts < 20
        assert len(made.records("drift.found")) <= drifts.bit_length()
        await node.until(lambda: says(made) == "0-1,4-7")
        await made.quiet()
        counted = made.status()["drift"]
        assert (counted["found"], counted["unrepaired"]) == (counted["repaired"], 0)


async def test_a_slice_that_is_configured_no_more_is_given_back(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, CONFINED) as made:
        make(made)
        await made.run(DB, INTEGER)
        assert slicing.remembered(str(tmp_path / "host-slices")) == set(CONFINED.host_slices)
        await renewed(made, FREE)
        assert says(made) == says(made, "a.slice/a-b.slice") == ""
        await made.quiet()
        assert made.status()["host_slices"] == []
        assert slicing.remembered(str(tmp_path / "host-slices")) == set()
        made.host.write(SYSTEM, "cpuset.cpus", "1")
        await made.quiet()
        assert says(made) == "1"


async def test_where_the_kernel_does_not_let_it_be_cleared_it_gets_all_cpus(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, CONFINED) as made:
        make(made)
        await made.run(DB, INTEGER)
        write = made.kernel.write

        def refuse(path: str, file: str, text: str) -> None:
            """As Linux up to 6.12 does for a group with processes."""
            if not text:
                raise made.kernel._error(f"{path}/{file}", "write", OSError(errno.ENOSPC, "no"))
            write(path, file, text)

        made.kernel.write = refuse  # type: ignore[method-assign]
        await renewed(made, FREE)
        await node.until(lambda: says(made) == "0-7")
        assert made.records("placement.failed") == []


async def test_one_that_was_confined_before_a_restart_is_given_back_after_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "host-slices").write_text("system.slice\n../../etc\nkubepods.slice\n")
    async with node.running(tmp_path, FREE, ready=False) as made:
        make(made)
        made.host.make("kubepods.slice", "0-6")
        made.host.write(SYSTEM, "cpuset.cpus", "0-3")
        await made.synchronize()
        assert (says(made), says(made, "kubepods.slice")) == ("", "0-6")


async def test_a_slice_in_which_containers_are_is_left_alone_and_that_is_told(tmp_path: pathlib.Path) -> None:
    elsewhere = dataclasses.replace(INTEGER, cgroup="pods.slice/pod1/db.scope")
    async with node.running(tmp_path, schema.Config(host_slices=(SYSTEM, "pods.slice"))) as made:
        make(made)
        made.host.make("pods.slice", "")
        await made.run(DB, elsewhere)
        await made.passes.passed()
        assert (says(made), says(made, "pods.slice")) == ("0-1,4-7", "")
        [told] = made.records("host.limited")
        assert told["reason"] == "hostSlices: containers are in pods.slice: it is left alone"


async def test_what_cannot_be_written_is_told_once_and_tried_again(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, CONFINED) as made:
        make(made)
        made.kernel.refuses[SYSTEM] = errno.EROFS
        await made.run(DB, INTEGER)
        await made.passes.passed()
        await made.passes.passed()
        [told] = made.records("placement.failed")
        assert (told["slice"], "read-only" in told["reason"]) == (SYSTEM, True)
        assert "read-only" in str(entry(made)["reason"])
        # It holds up nobody else.
        assert made.cpus(INTEGER) == "2-3"
        made.kernel.refuses.clear()
        await node.until(lambda: says(made) == "0-1,4-7")


async def test_with_dry_run_no_slice_is_written_and_no_file(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, CONFINED, dry=True) as made:
        make(made)
        await made.quiet()
        assert says(made) == ""
        assert {record["slice"] for record in made.records("plan.write")} == {SYSTEM, "a-b.slice"}
    assert not (tmp_path / "host-slices").exists()


@pytest.mark.parametrize("text", ["", "\xff\xfe\n", "a\n" * 100_000, "system.slice"])
def test_a_file_that_is_damaged_names_whom_it_can(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "host-slices").write_text(text)
    assert slicing.remembered(str(tmp_path / "host-slices")) == ({SYSTEM} if text == SYSTEM else set())
