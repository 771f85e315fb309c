"""The demo as its users start it, and what it makes of an agent that fails it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest

from reconciler import errors
from reconciler.cli import main
from reconciler.sim import agent, audit, cast, display, node, play, stage

PATIENCE = 60
ROOT = pathlib.Path(__file__).parents[2]
DRY = (
    sys.executable,
    "-c",
    "import sys; from reconciler.cli import main; sys.exit(main.main([*sys.argv[1:], '--dry-run']))",
)
SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A folder with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield pathlib.Path(name)


@contextlib.asynccontextmanager
async def demo(folder: pathlib.Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command as a process, which makes its own folder in `folder`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reconciler.cli.main", "demo", *arguments),
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def read_to(process: asyncio.subprocess.Process, words: str) -> list[str]:
    """The lines up to the one with these words."""
    assert process.stdout is not None
    lines = []
    while line := (await process.stdout.readline()).decode():
        lines.append(line.rstrip())
        if words in line:
            return lines
    pytest.fail(f"{words!r} did not come: {lines[-5:]}")


def left_behind(folder: pathlib.Path) -> list[str]:
    """Files in the folder, and processes that know it by their command line."""
    left = [str(path) for path in folder.iterdir()]
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(folder) in path.read_bytes():
                left.append(str(path))
    return left


async def test_the_demo_ends_by_itself_with_the_expected_state(folder: pathlib.Path) -> None:
    async with demo(folder, "--plain", "--speed", "1000") as process:
        out, err = await process.communicate()
    text = out.decode()
    assert (process.returncode, err) == (0, b"")
    assert "refused   greedy/main: " in text
    assert "repaired  web/nginx cpuset.cpus: 0-15 -> 0,2-3,8,10-11 in " in text
    assert "repaired  storage/target cpuset.mems: 0 -> 1 in " in text
    assert "WRONG" not in text
    assert text.rstrip().endswith("Everything is as it should be.")
    assert max(map(len, text.splitlines())) <= 100
    assert left_behind(folder) == []


async def test_a_signal_ends_it_without_leftovers_and_with_a_sentence(folder: pathlib.Path) -> None:
    async with demo(folder, "--plain") as process:
        await read_to(process, "admitted  web/nginx")
        assert left_behind(folder)
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
    assert process.returncode == 1
    assert err.decode().count("\n") == 1
    assert "stopped before its end" in err.decode()
    assert left_behind(folder) == []


async def test_a_reader_that_has_seen_enough_leaves_nothing_behind(folder: pathlib.Path) -> None:
    async with demo(folder, "--plain", "--speed", "1000") as process:
        await read_to(process, "admitted  web/nginx")
        assert process.stdout is not None
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()
        assert await process.wait() == 1
    assert left_behind(folder) == []


async def test_an_interactive_node_repairs_what_its_user_writes(folder: pathlib.Path) -> None:
    async with demo(folder, "--plain", "--interactive", "--speed", "1000") as process:
        lines = await read_to(process, " topology --host-root ")
        [command] = [line.strip() for line in lines if "echo 0-15 >" in line]
        shell = await asyncio.create_subprocess_shell(command)
        assert await shell.wait() == 0
        [*_, told] = await read_to(process, "repaired ")
        assert "web/nginx cpuset.cpus: " in told
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert left_behind(folder) == []


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan", "1001"])
def test_a_speed_that_cannot_be_is_refused(speed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["demo", f"--speed={speed}"])
    assert ended.value.code == 2
    assert f"'{speed}' is not a factor above 0" in capsys.readouterr().err


async def test_an_agent_that_writes_nothing_fails_the_demo() -> None:
    shown = io.StringIO()
    with pytest.raises(stage.UnexpectedError, match=r"step 1: .* has \(all\) instead of 0-15"):
        await play.perform(display.Plain(shown), play.Manner(speed=1000, patience=1.0, command=DRY))
    assert "Everything is as it should be" not in shown.getvalue()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        pytest.param(
            (sys.executable, "-c", "import sys; sys.exit('this host will not do')"),
            "the agent ended with exit code 1: this host will not do",
            id="ends-at-once",
        ),
        pytest.param(("/nowhere/agent",), "the agent cannot be started: /nowhere/agent", id="does-not-exist"),
    ],
)
async def test_an_agent_that_is_not_there_fails_the_demo(command: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(agent.AgentError, match=sentence):
        await play.perform(display.Plain(io.StringIO()), play.Manner(command=command))


async def test_an_agent_that_never_connects_fails_the_demo() -> None:
    with pytest.raises(stage.UnexpectedError, match=r"the agent has not connected after 0\.1 s"):
        await play.perform(display.Plain(io.StringIO()), play.Manner(start_within=0.1, command=SLEEPER))


async def test_the_audit_sees_who_is_on_an_exclusive_cpu(folder: pathlib.Path) -> None:
    async with node.SimulatedNode(str(folder), lambda _: None, SLEEPER) as its_node:
        watched = audit.Audit(its_node)
        for member in (cast.BATCH, cast.DB):
            await its_node.run_pod(member)
            await its_node.run_container(member.pod.name, member.containers[0])
        for name in its_node.names():
            its_node.meddle(name, "cpuset.cpus", "1,9" if name == "db/postgres" else "2")
        watched.in_force(cast.DB, "db/postgres")
        watched.look()
        assert watched.violations == []
        its_node.meddle("batch/worker", "cpuset.cpus", "0-3")
        watched.excused = {"batch/worker"}
        watched.look()
        assert watched.violations == []
        watched.excused = set()
        watched.look()
        assert watched.violations == ["batch/worker may run on CPU 1, which db/postgres holds exclusively"]
        watched.ended("db/postgres")
        watched.look()
        assert len(watched.violations) == 1
        assert watched.looks == 4


@pytest.mark.parametrize("text", ["", "0-"], ids=["empty", "garbage"])
async def test_a_file_without_a_list_keeps_nobody_from_any_cpu(folder: pathlib.Path, text: str) -> None:
    async with node.SimulatedNode(str(folder), lambda _: None, SLEEPER) as its_node:
        await its_node.run_pod(cast.BATCH)
        its_node.meddle("batch/POD", "cpuset.cpus", text)
        [pause] = audit.Audit(its_node).look().residents
        assert str(pause.cpus) == "0-15"


async def checking(running: agent.Agent) -> None:
    """Check the agent until that raises."""
    async with asyncio.timeout(PATIENCE):
        while True:
            running.check()
            await asyncio.sleep(0.01)


async def test_a_fault_in_taking_the_log_is_raised_by_the_next_check(folder: pathlib.Path) -> None:
    def fail(_: object) -> None:
        raise errors.Retryable("the display is gone")

    talker = agent.Agent(
        (sys.executable, "-c", "import sys,time; print('{}', file=sys.stderr, flush=True); time.sleep(600)"),
        fail,
    )
    await talker.start()
    try:
        with pytest.raises(errors.Retryable, match="the display is gone"):
            await checking(talker)
    finally:
        assert await talker.stop() == -signal.SIGTERM


async def test_an_agent_that_ends_badly_when_told_to_stop_fails_the_demo() -> None:
    ready = asyncio.Event()
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit('no farewell'))\n"
        "print('{}', file=sys.stderr, flush=True)\n"
        "time.sleep(600)\n"
    )
    rude = agent.Agent((sys.executable, "-c", program), lambda _: ready.set())
    await rude.start()
    async with asyncio.timeout(PATIENCE):
        await ready.wait()
    assert await rude.stop() == 1
    with pytest.raises(agent.AgentError, match="exit code 1 when it was told to stop: no farewell"):
        rude.check_farewell()
