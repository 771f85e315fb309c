"""Tells the agent what a runtime did without asking: what it would have been asked over NRI. On asyncio."""

from __future__ import annotations

from typing import assert_never

from reconciler import events
from reconciler.daemon import agent


async def tell(its_agent: agent.Agent, event: events.Event) -> None:
    """Nothing is refused: a container that is there gets what can be had. Not for resizes, which can be."""
    match event:
        case events.Synchronized():
            its_agent.synchronized(event)
        case events.ContainerCreating() | events.ContainerStarting():
            await its_agent.appeared(event)
        case events.ContainerStopped() | events.ContainerRemoved():
            its_agent.stopped(event)
        case events.PodStarted():
            its_agent.pod_started(event)
        case events.PodStopped() | events.PodRemoved():
            its_agent.pod_stopped(event)
        case events.ContainerUpdating():
            raise AssertionError("a resize is asked for with Agent.update")
        case _ as never:
            assert_never(never)
