"""A disk that is full or read-only costs the checkpoint for that time, and no container anything."""

# covers: PRD-11.4

from __future__ import annotations

import re

import pytest

from reconciler.policy import checkpoint
from tests.daemon import process
from tests.faults import confined, ground

FULL = """
mount -t tmpfs -o size=64k,mode=700 none "$1"
dd if=/dev/zero of="$1/filler" bs=4k count=1000 2>/dev/null || true
"""
NO_LOCK = 'mount -t tmpfs -o ro,mode=700 none "$1"'
NO_INODE = 'mount -t tmpfs -o nr_inodes=1 none "$1"'


@confined.unwritable(FULL)
async def test_a_state_directory_that_cannot_be_written_is_told_and_saved_to_when_it_can(
    script: str, mended: tuple[str, ...], why: str
) -> None:
    async with ground.machine() as its:
        state = its.folder / "state"
        state.mkdir()
        agent = ground.Agent(its, before=confined.mounting(script, str(state)))
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            shared = await ground.run(its, ground.WEB, ground.SHARED)
            own = await ground.run(its, ground.DB)
            told = await agent.told("checkpoint.failed")
            assert why in told["reason"]
            document = await agent.status(lambda status: status["converged"])
            assert document["checkpoint"] == {
                "path": f"{state}/checkpoint.json",
                "saved": False,
                "reason": told["reason"],
            }
            assert (its.cpus(own), its.cpus(shared)) == ("2-3", "0-1,4-7")
            confined.inside(agent.pid, *(word.format(state) for word in mended))
            await agent.told("checkpoint.saved")
            await agent.status(lambda status: status["checkpoint"]["saved"])
            text = agent.file("state/checkpoint.json")
            assert await agent.stop() == 0
    assert len(checkpoint.decode(text).ledger.claims) == 1


async def test_a_state_directory_that_becomes_read_only_keeps_the_last_checkpoint_and_the_agent() -> None:
    async with ground.machine() as its:
        state = its.folder / "state"
        state.mkdir()
        script = 'mount -t tmpfs -o mode=700 none "$1"'
        agent = ground.Agent(its, before=confined.mounting(script, str(state)))
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            first = await ground.run(its, ground.DB)
            await agent.status(lambda status: status["checkpoint"]["saved"])
            before = agent.file("state/checkpoint.json")
            confined.inside(agent.pid, "mount", "--bind", "-o", "ro", str(state), str(state))
            await its.runtime.stop_container(first)
            await its.runtime.remove_container(first)
            told = await agent.told("checkpoint.failed")
            assert "Read-only file system" in told["reason"]
            assert agent.file("state/checkpoint.json") == before
            second = await ground.run(its, ground.DB)
            assert its.cpus(second) == "2-3"
            assert await agent.stop() == 0


@pytest.mark.parametrize(
    ("script", "folder", "said"),
    [
        pytest.param(NO_LOCK, "state", "instance.lock cannot be opened: Read-only file system", id="no lock"),
        pytest.param(NO_INODE, "run", "API socket .*: No space left on device", id="no socket"),
    ],
)
async def test_a_start_that_finds_no_room_for_its_lock_or_its_socket_ends_with_2_and_one_sentence(
    script: str, folder: str, said: str
) -> None:
    async with ground.machine() as its:
        (its.folder / "state").mkdir()
        (its.folder / "run").mkdir()
        before = confined.mounting(script, str(its.folder / folder))
        agent = ground.Agent(its, "--api-socket", str(its.folder / "run/api.sock"), before=before)
        async with process.running(agent):
            assert await agent.ended() == 2
        # Where the machine is slow asyncio's debug mode logs a start that took long.
        [line] = [line for line in agent.said().splitlines() if not line.startswith("{")]
        assert line.startswith("cpuset-reconciler: ")
        assert re.search(said, line)
