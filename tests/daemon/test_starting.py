"""What is written at a start with a checkpoint, while what runs is still looked at: nothing."""

from __future__ import annotations

import pathlib

from reconciler import events
from reconciler.policy import checkpoint, lifecycle
from tests.daemon import node as nodes
from tests.daemon import pods

# covers: PRD-6.9

WEB = pods.pod("web", pause=True)
DB = pods.guaranteed("db")
NEW = pods.pod("new", pause=True)
SHARED = pods.container(WEB, phase=events.Phase.RUNNING)
GROWN = pods.container(DB, whole=2, phase=events.Phase.RUNNING)


async def test_no_pass_goes_by_a_save_that_is_older_than_a_resize(tmp_path: pathlib.Path) -> None:
    async with nodes.running(tmp_path, ready=False) as node:
        small = events.ContainerCreating(pod=DB, container=pods.container(DB, whole=1))
        before, placement, _ = lifecycle.admit(node.agent.state, small)
        shares = {GROWN.id: 1024}
        saved = checkpoint.Saved(origin=checkpoint.Origin(), ledger=before.ledger, shares=shares)
        node.agent._adoption.remember(saved)
        node.make(GROWN, "2-3")
        node.make(SHARED, "0-1,4-7")
        assert str(placement.cpus) == "2"
        node.kernel.hold()
        node.agent.connected(nodes.PEER)
        node.agent.synchronized(nodes.listed((WEB, SHARED), (DB, GROWN)))
        # What asks for passes at any time: the timer, inotify, and a pod of which NRI tells.
        node.passes.everything()
        node.agent.signalled([SHARED.id], 0.0)
        assert NEW.cgroup is not None
        node.host.make(NEW.cgroup)
        node.agent.pod_started(events.PodStarted(pod=NEW))
        node.kernel.release()
        await node.quiet()
        assert node.cpus(GROWN) == "2-3"
        assert [text for path, file, text in node.kernel.attempts if file == "cpuset.cpus"] == ["0-1,4-7"]
        assert {path for path, _, _ in node.kernel.attempts} == {NEW.cgroup}
