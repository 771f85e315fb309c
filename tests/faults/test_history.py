"""A disk that is full or read-only costs the history of drifts for that time, and no container anything."""

# covers: PRD-7.21

from __future__ import annotations

import asyncio
import pathlib
import signal

from reconciler.daemon import api, archived
from tests.daemon import process
from tests.faults import confined, ground

NEARLY_FULL = """
mount -t tmpfs -o size=128k,mode=700 none "$1"
dd if=/dev/zero of="$1/filler" bs=1k count=90 2>/dev/null
"""


async def drift(its: process.Machine, container: str, right: str) -> None:
    """Somebody writes to it, and it is put right."""
    its.put(container, "0-7")
    await process.until(lambda: its.cpus(container) == right)


async def drifts(agent: process.Agent) -> int:
    """How many the history has."""
    answer = await api.ask(agent.api, {"request": "drifts"})
    rows = answer["drifts"]
    assert isinstance(rows, list)
    return sum(row["drifts"] for row in rows)


@confined.unwritable(NEARLY_FULL)
async def test_a_disk_that_cannot_be_written_costs_the_history_for_that_time_and_is_told_once(
    script: str, mended: tuple[str, ...], why: str
) -> None:
    async with ground.machine() as its:
        state = its.folder / "state"
        state.mkdir()
        agent = ground.Agent(its, before=confined.mounting(script, str(state)))
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            own = await ground.run(its, ground.DB)
            await agent.status(lambda status: status["converged"])
            await drift(its, own, "2-3")
            told = await agent.told("history.failed")
            assert why in told["reason"], told
            await drift(its, own, "2-3")
            status = await agent.status(lambda status: status["drift"]["repaired"] == 2)
            assert status["history"]["reason"]
            confined.inside(agent.pid, *(word.format(state) for word in mended))
            saved = await agent.told("history.saved")
            assert saved["lost"] == 0
            assert await drifts(agent) == 2
            reasons = [record["reason"] for record in agent.records("history.failed")]
            assert len(reasons) == len(set(reasons))
            assert await agent.stop() == 0


async def test_drifts_outlive_an_agent_that_was_killed_and_a_file_that_was_damaged_is_begun_anew() -> None:
    async with ground.machine() as its:
        agent = ground.Agent(its)
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            own = await ground.run(its, ground.DB)
            await agent.status(lambda status: status["converged"])
            await drift(its, own, "2-3")
            await process.until((its.folder / "state/drifts.sqlite").exists)
            async with asyncio.timeout(process.PATIENCE):
                while not await drifts(agent):  # noqa: ASYNC110  another process is waited for
                    await asyncio.sleep(0.02)
            await agent.stop(signal.SIGKILL)
        path = str(its.folder / "state/drifts.sqlite")
        [row] = archived.read(path, archived.Query()).rows
        assert (row["pod"], row["result"]) == ("db", "repaired")
        again = ground.Agent(its, name="again")
        async with process.running(again):
            await again.status(lambda status: status["converged"] and status["mode"] == "nri")
            assert await drifts(again) == 1
            assert await again.stop() == 0
        pathlib.Path(path).write_bytes(b"\xff" * 8192)
        last = ground.Agent(its, name="last")
        async with process.running(last):
            told = await last.told("history.set-aside")
            assert told["kept"] == f"{path}.damaged"
            await last.status(lambda status: status["converged"] and status["mode"] == "nri")
            assert await drifts(last) == 0
            assert await last.stop() == 0
