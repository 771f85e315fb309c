"""The agent as a program that is to see who writes: where it may, and where it may not."""

# covers: PRD-7.10, PRD-7.25

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator

import pytest

from reconciler import errors
from reconciler.host import fanotify
from tests.daemon import process
from tests.faults import ground

CONFIG = "passIntervalSeconds: 0.5\nattribution: fanotify\n"


@pytest.fixture
async def machine() -> AsyncIterator[process.Machine]:
    """A machine whose files are in a file system to which few write, and whose agent is to see who does."""
    with tempfile.TemporaryDirectory(prefix="fault-", dir="/dev/shm") as name:
        made = process.Machine(pathlib.Path(name))
        made.config.write_text(CONFIG)
        async with made.runtime:
            yield made
        made.kernel.close()


async def test_a_program_that_may_names_who_wrote_and_says_that_it_sees(machine: process.Machine) -> None:
    try:
        fanotify.Watcher(machine.root).close()
    except errors.HostFileError as error:
        pytest.skip(str(error))
    agent = ground.Agent(machine)
    async with process.running(agent):
        await machine.runtime.plugins.wait_for(1)
        shared = await ground.run(machine, ground.WEB, ground.SHARED)
        await ground.run(machine, ground.DB)
        await agent.status(lambda status: status["converged"])
        machine.put(shared, "2")
        found, repaired = await agent.told("drift.found"), await agent.told("drift.repaired")
        command = pathlib.Path("/proc/self/comm").read_text().strip()
        assert (found["writer"]["pid"], found["writer"]["command"]) == (os.getpid(), command)
        assert repaired["writer"] == found["writer"]
        status = await agent.status(lambda status: status["converged"])
        assert (status["attribution"]["active"], status["attribution"]["reason"]) == (True, "")
        assert status["attribution"]["writes"] > 0
        assert [record["path"] for record in agent.records("attribution.started")] == [machine.cgroups]
        assert await agent.stop() == 0


async def test_a_program_that_may_not_says_so_once_and_repairs_all_the_same(machine: process.Machine) -> None:
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root cannot be had without its privileges here")
        before = ("setpriv", "--bounding-set", "-sys_admin")
    agent = ground.Agent(machine, before=before)
    async with process.running(agent):
        await machine.runtime.plugins.wait_for(1)
        shared = await ground.run(machine, ground.WEB, ground.SHARED)
        await ground.run(machine, ground.DB)
        await agent.status(lambda status: status["converged"])
        for count in (1, 2):
            machine.put(shared, "2")
            await agent.told("drift.repaired", count)
            assert machine.cpus(shared) == "0-1,4-7"
        assert all("writer" not in record for record in agent.records("drift.found", "drift.repaired"))
        [told] = agent.records("attribution.unavailable")
        assert "Operation not permitted; it needs CAP_SYS_ADMIN (errno 1)" in told["reason"]
        status = await agent.status(lambda status: status["converged"])
        assert not status["attribution"]["active"]
        assert "it needs CAP_SYS_ADMIN" in status["attribution"]["reason"]
        assert await agent.stop() == 0
