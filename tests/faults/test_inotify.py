"""Where inotify has nothing more to give, passes do; once it has, everything is watched again."""

# covers: PRD-11.3

from __future__ import annotations

import asyncio
import pathlib
import shutil
import subprocess

import pytest

from reconciler import errors
from reconciler.daemon import watching
from reconciler.host import inotify
from tests.daemon import node, pods, process
from tests.faults import ground

WEB = pods.pod("web")
CONTAINERS = [pods.container(WEB, f"c{number}") for number in range(6)]


class Scarce(inotify.Watcher):
    """A kernel that gives `left` more watches."""

    left = 3

    def watch(self, path: str) -> bool:
        """As `Watcher.watch`."""
        if self.left <= 0:
            raise errors.HostFileError(path, "watch", 28, "raise fs.inotify.max_user_watches")
        is_there = super().watch(path)
        self.left -= is_there
        return is_there


async def test_who_is_not_watched_is_once_there_are_watches_again(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        scarce = Scarce(made.host.root)
        told: list[str] = []
        watched = watching.Watching(
            scarce, complain=lambda error: told.append(str(error)), recovered=lambda: told.append("recovered")
        )
        for container in CONTAINERS:
            made.make(container)
            watched.follow(container)
        watched.renew(CONTAINERS)
        assert len(told) == 1
        scarce.left = 2
        watched.renew(CONTAINERS)
        assert len(told) == 1
        scarce.left = 2
        watched.renew(CONTAINERS)
        watched.renew(CONTAINERS)
        assert told[1:] == ["recovered"]
        for container in CONTAINERS:
            made.put(container, "0")
        assert scarce.read().paths == {container.cgroup for container in CONTAINERS}
        scarce.left = 0
        late = pods.container(WEB, "late")
        made.make(late)
        watched.follow(late)
        assert len(told) == 3
        scarce.close()


async def test_an_agent_without_inotify_finds_drift_by_passes_and_takes_inotify_when_there_is_one(
    tmp_path: pathlib.Path,
) -> None:
    made: list[inotify.Watcher] = []
    async with node.running(tmp_path) as its:

        def reopen() -> inotify.Watcher:
            if not made:
                made.append(inotify.Watcher(its.host.root))
                raise errors.HostFileError("inotify", "open", 24, "none is left")
            return made[0]

        watched = watching.Watching(None, complain=its.tell.complain, reopen=reopen)
        its.agent._watching = watched
        watched.listen(asyncio.get_running_loop(), its.agent)
        await its.run(WEB, CONTAINERS[0])
        its.put(CONTAINERS[0], "0")
        await its.quiet()
        assert its.cpus(CONTAINERS[0]) == "0-7"
        watched.renew(CONTAINERS[:1])
        watched.renew(CONTAINERS[:1])
        its.put(CONTAINERS[0], "0")
        await node.until(lambda: its.cpus(CONTAINERS[0]) == "0-7")
        watched.close(asyncio.get_running_loop())
    assert [found["found_by"] for found in its.records("drift.found")] == ["pass", "inotify"]


LIMITED = """
echo "$1" > "/proc/sys/user/max_inotify_$2"
shift 2
exec "$@"
"""


def user_namespace() -> tuple[str, ...]:
    """What runs a program in a user namespace, which has limits of its own; skips where there is none."""
    enter = ("unshare", "--user", "--map-root-user")
    if shutil.which("unshare") is None or subprocess.run([*enter, "true"], check=False).returncode:
        pytest.skip("no user namespace can be made here")
    return enter


@pytest.mark.parametrize(
    ("kind", "most", "said"),
    [
        ("watches", "0", "raise fs.inotify.max_user_watches"),
        ("instances", "0", "raise fs.inotify.max_user_instances"),
    ],
)
async def test_an_agent_on_a_node_without_them_says_so_once_and_repairs_by_passes(
    kind: str, most: str, said: str
) -> None:
    before = (*user_namespace(), "sh", "-c", LIMITED, "sh", most, kind)
    async with ground.machine() as its:
        agent = ground.Agent(its, before=before)
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            shared = [await ground.run(its, ground.WEB, ground.SHARED) for _ in range(2)]
            own = await ground.run(its, ground.DB)
            told = await agent.told("host.limited")
            assert said in told["reason"]
            its.put(own, "0-7")
            found = await agent.told("drift.found")
            assert found["found_by"] == "pass"
            await agent.told("drift.repaired")
            assert [its.cpus(id_) for id_ in (own, *shared)] == ["2-3", "0-1,4-7", "0-1,4-7"]
            assert await agent.stop() == 0
        assert len(agent.records("host.limited")) == 1
