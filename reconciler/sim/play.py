"""One performance of the demo, from an empty folder to the verdict. I/O, on asyncio.

Whatever happens, the agent is stopped and the folder removed before `perform` ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from reconciler.sim import agent, display, node, screen, script, stage, verdict, wording

_LONGEST_FOLDER = 80
"""Bytes; the path of a unix socket has at most 107 (unix(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How to perform. `speed` divides the pauses for reading; `interactive` goes on after the script until
    cancelled. The agent, started by `command`, has `start_within` seconds to connect, and `patience` seconds
    for whatever must follow from an event."""

    speed: float = 1.0
    interactive: bool = False
    command: Sequence[str] = agent.COMMAND
    start_within: float = stage.PATIENCE
    patience: float = stage.PATIENCE


async def perform(shown_on: display.Display, manner: Manner) -> None:
    """Play the script and judge its end.

    Raises UnexpectedError where anything is not as it should be, and AgentError where the agent ends early.
    """
    on = stage.Stage(shown_on, speed=manner.speed)
    with tempfile.TemporaryDirectory(
        prefix="cpuset-demo-", dir=_parent(), ignore_cleanup_errors=True
    ) as folder:
        shown_on.say(_opening(shown_on.width))
        async with node.SimulatedNode(folder, on.on_record, manner.command) as its_node:
            on.enter(its_node)
            on.patience = manner.start_within
            await on.until(lambda: "" if its_node.runtime.plugins.active else "the agent has not connected")
            on.patience = manner.patience
            async with _watched(on):
                await script.play(on)
                await on.end()
                await _judge(on)
                if manner.interactive:
                    with contextlib.suppress(asyncio.CancelledError):
                        await _go_on(on)
                on.over = True
        its_node.agent.check_farewell()


def _parent() -> str | None:
    """Where the folder is made: as TMPDIR says, where sockets fit in there."""
    return None if len(tempfile.gettempdir().encode()) < _LONGEST_FOLDER else "/tmp"  # noqa: S108


@contextlib.asynccontextmanager
async def _watched(on: stage.Stage) -> AsyncIterator[None]:
    """Look at the node all the while. What the looking raises is raised at the end."""
    watching = asyncio.create_task(on.audit.watch(on.on_look), name="demo: audit")
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _judge(on: stage.Stage) -> None:
    rows, checks = await verdict.judge(on)
    on.display.say(wording.summary(rows, checks))
    wrong = verdict.failures(rows, checks)
    if wrong:
        raise stage.UnexpectedError(f"the final state is not the expected one: {'; '.join(wrong)}")
    on.display.say([(), (screen.Span("    Everything is as it should be.", "good"),)])


async def _go_on(on: stage.Stage) -> None:
    """Keep the node for people to play with: show each change, and each drift with its repair."""
    on.display.say(_invitation(on.node))
    while True:
        on.node.agent.check()
        on.show()
        await asyncio.sleep(0.2)


def _opening(width: int) -> list[screen.Line]:
    text = (
        "A simulated node of two sockets with 16 CPUs, a runtime that speaks NRI on a unix socket, and the "
        "agent as it runs on a node. The map shows whose each CPU is: a letter for a claim, "
        f"{screen.POOL} for the shared pool, {screen.INTRUDED} where someone is on an exclusive CPU."
    )
    return list(wording.paragraph(text, width))


def _program() -> str:
    """How the user can call this program too."""
    called = sys.argv[0]
    name = os.path.basename(called)
    if shutil.which(name):
        return name
    return shlex.quote(called) if os.access(called, os.X_OK) else shlex.join(agent.COMMAND)


def _invitation(its_node: node.SimulatedNode) -> list[screen.Line]:
    paths = its_node.paths
    program = _program()
    by_hand = [
        f"echo 0-15 > {shlex.quote(its_node.link('web/nginx'))}/cpuset.cpus",
        f"echo 0 > {shlex.quote(its_node.link('upf/dataplane'))}/cpuset.cpus",
        f"{program} status --api-socket {shlex.quote(paths.api_socket)}",
        f"{program} explain upf/dataplane --api-socket {shlex.quote(paths.api_socket)}",
        f"{program} whatif --cores-ids 1,9 --cpus 2 --api-socket {shlex.quote(paths.api_socket)}",
        f"{program} topology --host-root {shlex.quote(paths.host_root)}",
    ]
    lines: list[screen.Line] = [(), (screen.Span("    The node is yours until Ctrl-C.", "strong"),)]
    for label, path in (
        ("host root", paths.host_root),
        ("cgroups", paths.by_name),
        ("NRI", paths.nri_socket),
        ("agent", paths.api_socket),
    ):
        lines.append((screen.Span(f"    {label:<10}", "dim"), screen.Span(path)))
    lines.append((screen.Span("    In another terminal, for example:", "dim"),))
    return [*lines, *((screen.Span(f"      {line}"),) for line in by_hand), ()]
