"""What is served over HTTP: `/metrics`, `/healthz` and `/readyz`. On asyncio."""

from __future__ import annotations

import asyncio
import http

from reconciler.daemon import agent, exposition, listener, metrics


def pages(sources: metrics.Sources) -> listener.Pages:
    """The pages of a running agent."""
    one_at_a_time = asyncio.Lock()

    async def show_metrics() -> listener.Reply:
        async with one_at_a_time:
            return listener.Reply(await exposition.text(sources), exposition.CONTENT_TYPE)

    async def healthz() -> listener.Reply:
        return _verdict(sources.probes.unwell(), "alive")

    async def readyz() -> listener.Reply:
        return _verdict(sources.probes.unready(), _door(sources.agent))

    return {"/metrics": show_metrics, "/healthz": healthz, "/readyz": readyz}


def _door(its_agent: agent.Agent) -> str:
    return f"ready; mode {its_agent.mode}: {its_agent.reason}"


def _verdict(wrong: str, fine: str) -> listener.Reply:
    if wrong:
        return listener.Reply(f"{wrong}\n".encode(), status=http.HTTPStatus.SERVICE_UNAVAILABLE)
    return listener.Reply(f"{fine}\n".encode())
