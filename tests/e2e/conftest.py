"""Fixtures of the tests on a real node. Refuses to run elsewhere: these tests write to the node's cgroups."""

from __future__ import annotations

import os
import pathlib
from collections.abc import AsyncIterator

import pytest

from tests.e2e import agent as agents
from tests.e2e import kubelet, node


def pytest_configure() -> None:
    """Raises UsageError off the node."""
    if "RESULTS" not in os.environ or not pathlib.Path("/opt/payload/tests").is_dir():
        raise pytest.UsageError("tests/e2e runs inside the emulated node only: make e2e")


@pytest.fixture
async def machine() -> AsyncIterator[node.Node]:
    """The node without an agent; its pods are deleted afterwards."""
    kubelet.start()
    async with node.Node() as it:
        yield it


@pytest.fixture
async def agent(request: pytest.FixtureRequest, machine: node.Node) -> AsyncIterator[agents.Agent]:
    """A fresh agent, connected and converged, with the parameter as its configuration if there is one. Its
    log goes to the results."""
    made = agents.Agent(getattr(request, "param", None))
    async with agents.running(made, machine, request.node.name) as it:
        yield it
