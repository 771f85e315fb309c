"""The simulated node without NRI: the agent is started with `--source cri`, and sees the runtime's lists."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pathlib
from collections.abc import AsyncIterator

from reconciler.sim import runtime_cri
from tests.scenarios import model, simulated

NEVER_REFUSES = "over CRI nothing is refused: who asks too much is unsatisfied"


def why_not(scenario: model.Scenario) -> str:
    """Why a scenario has nothing to say about this ground, or ""."""
    if any(step.refused for step in scenario.steps):
        return NEVER_REFUSES
    return scenario.not_on.get("polled") or scenario.not_on.get("simulated", "")


class PolledGround(simulated.SimulatedGround):
    """A node in a directory whose agent polls. Use as `async with polled.node(...)`."""

    source = "cri"

    def __init__(self, folder: pathlib.Path, scenario: model.Scenario) -> None:
        super().__init__(folder, scenario)
        self.cri_socket = str(folder / "cri.sock")
        self.side = runtime_cri.CriSide(self.runtime)
        self._serving = contextlib.AsyncExitStack()
        self._pokes = itertools.count()
        self.tree.make("kubepods.slice")

    async def listen(self) -> None:
        """Let the runtime answer."""
        self.side.released.clear()
        await self._serving.enter_async_context(runtime_cri.listening(self.cri_socket, self.side))

    async def connected(self) -> None:
        """Return when the agent has polled."""
        await self._until(lambda status: status["mode"] == "cri")

    async def restart_runtime(self) -> None:
        """As `Ground.restart_runtime`."""
        await self._serving.aclose()
        await self._until(lambda status: status["mode"] == "none")
        await self.listen()
        await self.connected()

    async def settle(self) -> None:
        """As `Ground.settle`: with a poll from its beginning to its end."""
        seen = self.side.calls["ListContainers"]
        async with asyncio.timeout(simulated.PATIENCE):
            while self.side.calls["ListContainers"] < seen + 2:
                self._poke()
                await asyncio.sleep(0.03)
        await super().settle()

    def _poke(self) -> None:
        """Bring the next poll: a cgroup is made where pods' are."""
        path = f"kubepods.slice/kubepods-other{next(self._pokes)}.slice"
        self.tree.make(path)
        self.tree.remove(path)

    async def end(self) -> None:
        """As `SimulatedGround.end`."""
        await super().end()
        await self._serving.aclose()


@contextlib.asynccontextmanager
async def node(folder: pathlib.Path, scenario: model.Scenario) -> AsyncIterator[PolledGround]:
    """A node with a running agent, below `folder`."""
    made = PolledGround(folder, scenario)
    await made.listen()
    await made.start_agent()
    async with simulated.ending(made):
        yield made
