"""Polls are counted, and those that fail."""

# covers: PRD-12.2

from __future__ import annotations

from grpclib import const

from tests.cri.scenes import polled
from tests.daemon import node as nodes


async def test_polls_are_counted_as_answered_or_failed() -> None:
    async with polled(period=0.01) as its:
        counts = its.node.tell.counters
        await nodes.until(lambda: counts.cri_polls >= 2)
        assert counts.cri_failures == 0
        its.side.faults["ListPodSandbox"] = const.Status.UNAVAILABLE
        await nodes.until(lambda: its.node.agent.mode == "none")
        polls = counts.cri_polls
        assert counts.cri_failures >= 1
        assert counts.cri_polls == polls
        its.side.faults.clear()
        await nodes.until(lambda: counts.cri_polls > polls)
        assert counts.mode_changes["cri"] == 2
