"""A process in the cgroup of a container that the runtime has no record of, on a real kernel."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
from collections.abc import Iterator

from tests.e2e import agent as agents
from tests.e2e import cgroups, kubelet, node, pods, settle

# covers: PRD-6.8


@contextlib.contextmanager
def left_behind(pod: node.Pod, group: cgroups.Cgroup, cpus: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group that is made anew where the container's was, as one that could not be killed
    would be in the old one."""
    kubelet.make(pod.parent)
    kubelet.switch_on(group.path.parent)
    group.path.mkdir()
    pathlib.Path(group.path, "cpuset.cpus").write_text(cpus)
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        pathlib.Path(group.path, "cgroup.procs").write_text(str(sleeper.pid))
        yield sleeper
    finally:
        sleeper.kill()
        sleeper.wait()
        with contextlib.suppress(OSError):  # the kernel may not have seen it off yet
            group.path.rmdir()
        kubelet.remove(pod.parent)


async def test_a_process_that_nobody_has_a_record_of_keeps_its_cpus_until_it_ends(
    machine: node.Node, agent: agents.Agent
) -> None:
    db = await machine.run_pod(pods.guaranteed("db"))
    group = machine.cgroup(db, await machine.run(db, pods.WHOLE_TWO))
    status = await settle.settle(machine, agent)
    cpus = group.cpus
    assert status["pools"]["exclusive"] == cpus
    agent.stop()
    await machine.delete("db")
    with left_behind(db, group, cpus) as sleeper:
        await agent.start()
        told = await agent.until_logged("claim.lingers", pod="db")
        assert (told["cpus"], f"(pid {sleeper.pid})" in told["reason"]) == (cpus, True)
        other = await machine.run_pod(pods.guaranteed("other"))
        others = machine.cgroup(other, await machine.run(other, pods.WHOLE_TWO))
        assert cgroups.cpus(others.cpus).isdisjoint(cgroups.cpus(cpus))
        assert group.allowed() == {cpus}
        sleeper.kill()
        sleeper.wait()
        await agent.until_logged("claim.ended", pod="db")
    status = await settle.settle(machine, agent)
    assert status["pools"]["exclusive"] == others.cpus
