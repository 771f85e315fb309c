"""What the steps of the script are made of: pods come and go, files are overwritten, results awaited.

On asyncio; I/O through the node and the display. Nothing waits for a time to pass but to be looked at: every
wait is for a condition, and fails after a generous while.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from reconciler import errors, inventory
from reconciler.cpu.idset import CpuSet
from reconciler.sim import audit, cast, display, frame, node, runtime_plugins, wording

PATIENCE = 15.0
"""Seconds after which a condition is taken for one that will not come."""
_READ = 2.2
"""Seconds that a step stays on the screen at speed 1."""
_LOOK = 1.0
"""Seconds for which a wrong map stays on the screen at speed 1, though it was right again long before."""
_POLL = 0.005
_NOTE = "at the moment of the wrong write"


class UnexpectedError(errors.ReconcilerError):
    """The node is not in the state that the script expects."""


class Stage:
    """One performance. `pool` and `own` are the cpusets that the script expects now."""

    def __init__(self, shown_on: display.Display, *, speed: float) -> None:
        """`speed` divides the pauses for reading."""
        self.patience = PATIENCE
        """Seconds that a condition may take."""
        self.records: list[wording.Record] = []
        self.wrong: list[tuple[str, str]] = []
        """Every overwritten file, as (container's id, file)."""
        self.refused: list[str] = []
        self.pool = cast.ALL
        self.own: dict[str, tuple[str, str]] = {}
        self.over = False
        """Whether what the agent still says is its farewell."""
        self.display = shown_on
        self._speed = speed
        self._teller = wording.Teller(shown_on.width)
        self._steps = 0
        self._held = False

    def enter(self, its_node: node.SimulatedNode) -> None:
        """Perform on this node."""
        self.node = its_node
        self.audit = audit.Audit(its_node)

    def on_record(self, record: wording.Record) -> None:
        """Take a record of the agent's log."""
        self.records.append(record)
        if not self.over:
            self.display.say(self._teller.tell(record))

    def on_look(self) -> None:
        """Look at the node, and show it where the display can follow."""
        seen = self.audit.look(tally=self._tally())
        if not self._held:
            self.display.follow(seen)

    def show(self) -> None:
        """Look at the node, and show it now."""
        self.display.draw(self.audit.look(tally=self._tally()))

    async def step(self, title: str, text: str) -> None:
        """Begin the next step, when the last one has been read."""
        if self._steps:
            await self.pause(_READ)
        self._steps += 1
        self.display.say(wording.step(self._steps, title, text, self.display.width))

    def remark(self, label: str, text: str) -> None:
        """Say what came of a step, where neither the map nor the log shows it."""
        self.display.say(wording.labelled(label, text, self.display.width, "good"))

    async def pause(self, seconds: float) -> None:
        """Let people look."""
        await asyncio.sleep(seconds / self._speed)
        self.node.agent.check()

    async def arrive(self, member: cast.Member, *, moves: Mapping[str, str] = MappingProxyType({})) -> None:
        """Run a pod with all its containers; for the first one containers must move to other CPUs (`moves`,
        by name)."""
        await self._run_sandbox(member)
        for name, cpus in moves.items():
            self.own[name] = (cpus, self.own[name][1])
            self.audit.moves(name, cpus)
        for container, name in zip(member.containers, member.names, strict=True):
            await self.node.run_container(member.pod.name, container)
            if member.letter:
                self.own[name] = (member.cpus, member.mems)
            # From here on its workload runs: nobody else may be on its CPUs any more.
            self.audit.in_force(member, name)
            self.audit.look()

    async def arrive_in_vain(self, member: cast.Member, sentence: str) -> None:
        """Run a pod whose container must be refused with this sentence; then remove it."""
        await self._run_sandbox(member)
        try:
            await self.node.run_container(member.pod.name, member.containers[0])
        except runtime_plugins.RequestFailedError as error:
            if sentence not in str(error):
                raise UnexpectedError(f"{member.names[0]} was refused otherwise: {error}") from error
            self.refused.append(member.names[0])
        else:
            raise UnexpectedError(f"{member.names[0]} was admitted and should have been refused")
        await self.converged()
        await self.node.remove_pod(member.pod.name)

    async def leave(self, member: cast.Member) -> None:
        """Remove a pod."""
        await self.converged()
        for name in member.names:
            self.audit.ended(name)
            self.own.pop(name, None)
        await self.node.remove_pod(member.pod.name)

    async def settle(self, *, pool: str | None = None) -> None:
        """Wait until every file says what it should, with this shared pool from now on, and the agent says
        that it has converged."""
        self.pool = self.pool if pool is None else pool
        await self.until(self.differences)
        await self.converged()
        self.show()

    async def meddle(self, writes: Mapping[tuple[str, str], str]) -> None:
        """Overwrite files, by (container, file), and wait until all is repaired and reported.

        The map shows the moment of the write for a while, since the repair is faster than any eye.
        """
        before = self.audit.look(tally=self._tally())
        mark = len(self.records)
        names = {name for name, _ in writes}
        self.audit.excused |= names
        self._held = True
        for (name, file), text in writes.items():
            self.node.meddle(name, file, text)
            self.wrong.append((self.node.id(name), file))
        self.display.draw(_overwritten(before, writes))
        await self.pause(_LOOK)
        await self.until(self.differences)
        await self.until(lambda: self._unreported(writes, mark))
        self.audit.excused -= names
        self._held = False
        self.show()

    async def end(self) -> None:
        """Let people read the last step."""
        await self.pause(_READ)

    async def converged(self) -> dict[str, object]:
        """The agent's status, once it says that all has converged."""
        document: dict[str, object] = {}

        async def ask() -> str:
            document.update(await self.node.status())
            return "" if document.get("converged") else "the agent does not say that it has converged"

        await self.until_asked(ask)
        return document

    async def until(self, left: Callable[[], str]) -> None:
        """Return once `left` says "" for nothing left. Raises UnexpectedError with what it says at last."""

        async def ask() -> str:
            return left()

        await self.until_asked(ask)

    async def until_asked(self, left: Callable[[], Awaitable[str]]) -> None:
        """As `until`, for a condition that has to be asked for."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience
        while missing := await left():
            self.node.agent.check()
            if loop.time() > deadline:
                raise UnexpectedError(f"step {self._steps}: {missing} after {self.patience:g} s")
            await asyncio.sleep(_POLL)

    def rows(self) -> list[wording.Row]:
        """Every container with what it should have by the script, and what its files say."""
        return [
            wording.Row(name=name, expected=_pair(*self._expected(name)), found=_pair(*self._found(name)))
            for name in self.node.names()
        ]

    def differences(self) -> str:
        """The first container that is not as the script expects, as a clause; "" for none."""
        for row in self.rows():
            if not row.ok:
                return f"{row.name} has {row.found} instead of {row.expected}"
        return ""

    def events(self, kind: str) -> list[wording.Record]:
        """The records of one kind so far."""
        return [record for record in self.records if record.get("event") == kind]

    async def _run_sandbox(self, member: cast.Member) -> None:
        """Run a pod's sandbox, and wait until its pause container is on the pool: the runtime starts that on
        all CPUs, and tells of it only then."""
        pause = f"{member.pod.name}/{inventory.PAUSE}"
        self.audit.excused.add(pause)
        await self.node.run_pod(member)
        await self.until(self.differences)
        self.audit.excused.discard(pause)

    def _expected(self, name: str) -> tuple[str, str]:
        return self.own.get(name, (self.pool, ""))

    def _found(self, name: str) -> tuple[str, str]:
        return self.node.read(name, "cpuset.cpus"), self.node.read(name, "cpuset.mems")

    def _unreported(self, writes: Mapping[tuple[str, str], str], mark: int) -> str:
        """The first of these writes that the log does not tell of, found and repaired."""
        told = self.records[mark:]
        found = {(r.get("id"), r.get("file")) for r in told if r.get("event") == "drift.found"}
        repaired = {r.get("id") for r in told if r.get("event") == "drift.repaired"}
        for name, file in writes:
            id_ = self.node.id(name)
            if (id_, file) not in found or id_ not in repaired:
                return f"the log does not tell of the wrong {file} of {name} and its repair"
        return ""

    def _tally(self) -> str:
        repaired, refused = len(self.events("drift.repaired")), len(self.refused)
        return f"drift repaired: {repaired}, pods refused: {refused}"


def _overwritten(before: frame.Frame, writes: Mapping[tuple[str, str], str]) -> frame.Frame:
    residents = []
    for resident in before.residents:
        cpus = writes.get((resident.name, "cpuset.cpus"))
        mems = writes.get((resident.name, "cpuset.mems"), resident.mems)
        given = (
            resident.cpus
            if cpus is None
            else CpuSet.parse(cpus, what="wrong cpuset") or before.topology.online
        )
        residents.append(dataclasses.replace(resident, cpus=given, mems=mems))
    return dataclasses.replace(before, residents=tuple(residents), note=_NOTE)


def _pair(cpus: str, mems: str) -> str:
    return f"{cpus or '(all)'}{f', node {mems}' if mems else ''}"
