"""The agent as a process that is killed, and starts again with its checkpoint, or with what is there."""

from __future__ import annotations

import os
import pathlib
import signal
import stat
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reconciler import events
from reconciler.policy import checkpoint
from reconciler.sim import runtime_pods
from tests.daemon import process

# covers: PRD-6.7

DB = runtime_pods.PodSpec(name="db", uid="5b8a3f10-0000-4000-8000-000000000002", qos=events.Qos.GUARANTEED)
INTEGER = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


@pytest.fixture
async def its() -> AsyncIterator[process.Machine]:
    """A machine whose runtime listens, in a folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        made = process.Machine(pathlib.Path(name))
        for file, text in (("proc/sys/kernel/random/boot_id", "b-1\n"), ("etc/machine-id", "m-1\n")):
            path = pathlib.Path(made.root, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        async with made.runtime:
            yield made
        made.kernel.close()


@pytest.fixture
def file(its: process.Machine) -> pathlib.Path:
    """Where the checkpoint is."""
    folder = its.folder / "state"
    folder.mkdir()
    return folder / "checkpoint.json"


async def run(its: process.Machine) -> str:
    """Run a pod that has CPUs of its own; the container's id."""
    container = await its.runtime.create_container(await its.runtime.run_pod(DB), INTEGER)
    await its.runtime.start_container(container)
    return container


def saved(status: dict[str, Any]) -> bool:
    return bool(status["checkpoint"]["saved"])


async def test_a_killed_agent_goes_on_with_what_it_had_saved(
    its: process.Machine, file: pathlib.Path
) -> None:
    first, second = process.Agent(its, name="first"), process.Agent(its, name="second")
    async with process.running(first):
        await its.runtime.plugins.wait_for(1)
        container = await run(its)
        document = await first.status(saved)
        assert document["checkpoint"] == {"path": str(file), "saved": True, "reason": ""}
        await first.stop(signal.SIGKILL)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    its.put(container, "6-7")
    pathlib.Path(its.root, "proc/sys/kernel/random/boot_id").write_text("b-2\n")
    async with process.running(second):
        document = await second.status(lambda status: status["converged"] and saved(status))
        assert its.cpus(container) == "2-3"
        assert document["drift"] == {"found": 1, "repaired": 1, "unrepaired": 0}
        [restored] = second.records("checkpoint.restored")
        told = {key: restored[key] for key in ("claims", "online_before", "rebooted", "level")}
        assert told == {"claims": 1, "online_before": "0-7", "rebooted": True, "level": "info"}
        [found] = second.records("drift.found")
        assert (found["pod"], found["desired"], found["observed"]) == ("db", "2-3", "6-7")
        assert await second.stop() == 0
    assert checkpoint.decode(file.read_bytes(), machine="m-1").origin.boot == "b-2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(b"\0\0\0\0", "damaged", id="damaged"),
        pytest.param(b'{"version": 7}', "newer", id="newer"),
        pytest.param(
            b'{"version":1,"machine":"other","boot":"","online":"","claims":[],"former":[],"containers":{}}',
            "foreign",
            id="another machine's",
        ),
    ],
)
async def test_an_agent_whose_checkpoint_cannot_be_used_goes_on_with_what_runs(
    its: process.Machine, file: pathlib.Path, text: bytes, reason: str
) -> None:
    container = await run(its)
    its.put(container, "4-5")
    file.write_bytes(text)
    agent = process.Agent(its)
    async with process.running(agent):
        document = await agent.status(lambda status: status["converged"] and saved(status))
        assert [entry["claim"] for entry in document["containers"] if entry["claim"]] == ["4-5"]
        [told] = agent.records("checkpoint.set-aside")
        assert (told["level"], told["path"]) == ("warning", str(file))
        assert told["kept"] == f"{file}.{reason}"
        assert await agent.stop() == 0
    assert pathlib.Path(f"{file}.{reason}").read_bytes() == text
    assert checkpoint.decode(file.read_bytes()).ledger.claims


async def test_an_agent_that_cannot_save_places_on_and_says_so(
    its: process.Machine, file: pathlib.Path
) -> None:
    agent = process.Agent(its)
    os.makedirs(f"{file}.new/in-the-way")
    async with process.running(agent):
        await its.runtime.plugins.wait_for(1)
        container = await run(its)
        told = await agent.told("checkpoint.failed")
        assert told["level"] == "warning"
        document = await agent.status(lambda status: status["checkpoint"]["reason"] == told["reason"])
        assert "Is a directory" in document["checkpoint"]["reason"]
        assert document["checkpoint"]["saved"] is False
        assert its.cpus(container) == "2-3"
        os.rmdir(f"{file}.new/in-the-way")
        os.rmdir(f"{file}.new")
        await agent.told("checkpoint.saved")
        await agent.status(saved)
        assert await agent.stop() == 0
    assert len(agent.records("checkpoint.failed")) == 1
    assert checkpoint.decode(file.read_bytes()).ledger.claims


async def test_a_dry_run_leaves_the_checkpoint_as_it_is(its: process.Machine, file: pathlib.Path) -> None:
    file.write_bytes(b"garbage")
    agent = process.Agent(its, "--dry-run")
    async with process.running(agent):
        await its.runtime.plugins.wait_for(1)
        await run(its)
        document = await agent.status(lambda status: len(status["containers"]) == 2)
        assert document["checkpoint"]["reason"] == "a dry run writes none"
        assert await agent.stop() == 0
    assert file.read_bytes() == b"garbage"
    assert sorted(os.listdir(file.parent)) == ["checkpoint.json", "instance.lock"]
