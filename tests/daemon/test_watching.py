"""Drift as inotify tells of it, on a real directory."""

from __future__ import annotations

import asyncio
import os
import pathlib

from reconciler import errors, events
from reconciler.daemon import watching
from reconciler.host import inotify
from tests.daemon import node, pods

EVERYTHING = "0-7"
WEB = pods.pod("web")
SHARED = pods.container(WEB)
OTHER = pods.container(WEB, "other")
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


async def shell(made: node.Node, container: events.Container, text: str, file: str = "cpuset.cpus") -> None:
    """Write as a shell does, from another process, in one write as the kernel takes it."""
    path = os.path.join(made.host.root, str(container.cgroup), file)
    its = await asyncio.create_subprocess_exec(
        "sh", "-c", 'printf "%s\\n" "$1" 1<> "$2"', "sh", f"{text:<15}", path
    )
    assert await its.wait() == 0


async def test_a_shells_write_is_found_at_once_and_undone(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=True) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        await shell(made, INTEGER, EVERYTHING)
        await node.until(lambda: bool(made.records("drift.repaired")))
        assert made.cpus(INTEGER) == "2-3"
    [found] = made.records("drift.found")
    [repaired] = made.records("drift.repaired")
    assert (found["pod"], found["file"], found["found_by"]) == ("db", "cpuset.cpus", "inotify")
    assert (found["desired"], found["observed"], found["effective"]) == ("2-3", EVERYTHING, EVERYTHING)
    assert (repaired["pass_id"], repaired["attempt"]) == (found["pass_id"], 1)
    assert 0 < repaired["lasted_ms"] < 1000 * node.PATIENCE


async def test_memory_nodes_are_watched_too(tmp_path: pathlib.Path) -> None:
    pinned = pods.guaranteed("pinned", cores="4-5")
    container = pods.container(pinned, whole=2)
    async with node.running(tmp_path, watch=True) as made:
        await made.run(pinned, container)
        await shell(made, container, "0", "cpuset.mems")
        await node.until(lambda: bool(made.records("drift.repaired")))
    [found] = made.records("drift.found")
    assert (found["file"], found["desired"], found["observed"]) == ("cpuset.mems", "1", "0")


async def test_our_own_writes_are_no_drift(tmp_path: pathlib.Path) -> None:
    others = [pods.container(WEB, f"other-{number}") for number in range(20)]
    async with node.running(tmp_path, watch=True) as made:
        for other in others:
            await made.run(WEB, other)
        for _ in range(3):
            await made.run(DB, INTEGER)
            made.host.remove(str(INTEGER.cgroup))
            made.agent.pod_stopped(events.PodStopped(sandbox=DB.sandbox))
            await made.quiet()
        await asyncio.sleep(0.05)
        await made.quiet()
        drift = made.status()["drift"]
        assert len(made.kernel.attempts) >= 20 * 6
    assert drift == {"found": 0, "repaired": 0, "unrepaired": 0}
    assert made.records("drift.found", "drift.unrepairable") == []


async def test_the_echo_of_our_own_writes_is_not_told(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=True) as made:
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        await made.quiet()
        told, looks = len(made.records("pass.done")), len(made.kernel.looks)
        made.put(SHARED, "0-1,4-7")
        await node.until(lambda: len(made.kernel.looks) > looks)
        await asyncio.sleep(0.02)
        assert len(made.records("pass.done")) == told


async def test_a_burst_of_writes_costs_few_passes(tmp_path: pathlib.Path) -> None:
    containers = [pods.container(WEB, f"c{number}") for number in range(50)]
    async with node.running(tmp_path, watch=True) as made:
        for container in containers:
            await made.run(WEB, container)
        await made.quiet()
        before = len(made.records("pass.done"))
        for text in ("0", "1", "2", "0-3"):
            for container in containers:
                made.put(container, text)
        await node.until(lambda: len(made.records("drift.repaired")) >= 50)
        assert {made.cpus(container) for container in containers} == {EVERYTHING}
        assert made.status()["drift"] == {"found": 50, "repaired": 50, "unrepaired": 0}
        assert len(made.records("pass.done")) - before <= 3


async def test_lost_events_are_made_up_for(tmp_path: pathlib.Path) -> None:
    lines = pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text()
    async with node.running(tmp_path, watch=True) as made:
        await made.run(WEB, SHARED)
        await made.run(WEB, OTHER)
        await made.quiet()
        folder = pathlib.Path(made.host.root, str(OTHER.cgroup))
        # Two files in turn, as the kernel takes the same event twice in a row for one. The loop reads nothing
        # meanwhile, so that the last write is not in the queue any more.
        files = [os.open(folder / name, os.O_WRONLY) for name in ("cpuset.cpus", "cpuset.mems")]
        for number in range(int(lines) + 100):
            os.pwrite(files[number % 2], b" ", 4)
        made.put(SHARED, "0-2")
        for file in files:
            os.close(file)
        await node.until(lambda: made.cpus(SHARED) == EVERYTHING)
    [found] = made.records("drift.found")
    assert (found["container"], found["found_by"]) == ("main", "pass")


async def test_who_has_ended_is_watched_no_longer(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=True) as made:
        await made.run(WEB, SHARED)
        made.over(SHARED)
        made.agent.stopped(events.ContainerStopped(pod=WEB, container=SHARED))
        await made.quiet()
        looks = len(made.kernel.looks)
        made.put(SHARED, "0-2")
        await asyncio.sleep(0.05)
        assert (len(made.kernel.looks), made.cpus(SHARED)) == (looks, "0-2")


async def test_a_cgroup_that_vanished_and_came_back_is_watched_anew(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=True) as made:
        await made.run(WEB, SHARED)
        made.host.remove(str(SHARED.cgroup))
        await made.quiet()
        made.make(SHARED, EVERYTHING)
        await made.start(WEB, SHARED)
        await shell(made, SHARED, "0-2")
        await node.until(lambda: made.cpus(SHARED) == EVERYTHING)


class Exhausted(inotify.Watcher):
    """A kernel that gives no more watches."""

    def watch(self, path: str) -> bool:
        """As `Watcher.watch`."""
        raise errors.HostFileError(path, "watch", 28, "raise fs.inotify.max_user_watches")


async def test_that_no_watch_is_to_be_had_is_told_once(tmp_path: pathlib.Path) -> None:
    complaints: list[errors.ReconcilerError] = []
    watched = watching.Watching(Exhausted(str(tmp_path)), complain=complaints.append)
    for container in (SHARED, OTHER):
        watched.watch(container.id, str(container.cgroup))
        watched.unwatch(container.id, str(container.cgroup))
    watched.close(asyncio.get_running_loop())
    assert [str(complaint) for complaint in complaints] == [
        f"watch {SHARED.cgroup}: raise fs.inotify.max_user_watches (errno 28)"
    ]


async def test_without_a_watcher_nothing_is_watched_and_nothing_fails(tmp_path: pathlib.Path) -> None:
    complaints: list[errors.ReconcilerError] = []
    watched = watching.Watching(None, complain=complaints.append)
    watched.watch(SHARED.id, str(SHARED.cgroup))
    watched.unwatch(SHARED.id, str(SHARED.cgroup))
    watched.close(asyncio.get_running_loop())
    assert complaints == []
