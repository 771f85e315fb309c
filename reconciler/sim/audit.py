"""Looks at the simulated node's files over and over, and keeps count of what must never be seen. I/O: reads.

It knows the claims from the script and the cpusets from the files; the agent is not asked.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from reconciler import errors
from reconciler.cpu.idset import CpuSet
from reconciler.sim import cast, frame, node

_PAUSE = 0.01
"""Seconds between two looks."""
_WRITTEN_WITHIN = 0.5
"""Seconds that a writer may take from emptying a plain file to filling it, on a machine with much to do."""
_KEPT = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """What the script knows a running container to hold."""

    letter: str
    number: int
    cpus: CpuSet
    exclusive: bool


class Audit:
    """Looks, counted. `excused` are containers whose files someone has just overwritten."""

    def __init__(self, watched: node.SimulatedNode) -> None:
        self.looks = 0
        self.violations: list[str] = []
        self.excused: set[str] = set()
        self._node = watched
        self._numbers = itertools.count()
        self._claims: dict[str, Claim] = {}
        self._moves: dict[str, CpuSet] = {}

    def in_force(self, member: cast.Member, name: str) -> None:
        """A container that is entitled to CPUs of its own runs from now on."""
        if member.letter:
            cpus = CpuSet.parse(member.cpus, what=name)
            self._claims[name] = Claim(member.letter, next(self._numbers), cpus, member.exclusive)

    def moves(self, name: str, cpus: str) -> None:
        """A container is about to be moved, and holds these CPUs once its file says so."""
        self._moves[name] = CpuSet.parse(cpus, what=name)

    def ended(self, name: str) -> None:
        """A container is about to end."""
        self._claims.pop(name, None)

    def look(self, *, tally: str = "") -> frame.Frame:
        """The node now. Nothing of this process runs meanwhile, so no container comes or goes.

        An exclusive CPU in the set of anyone who is not excused is a violation.
        """
        seen = self._frame(tally)
        while self._have_moved():
            # Someone moved while the files were read: who was seen on its former CPUs was there by right.
            seen = self._frame(tally)
        self.looks += 1
        for intrusion in seen.intrusions():
            if intrusion.intruder not in self.excused and len(self.violations) < _KEPT:
                self.violations.append(str(intrusion))
        return seen

    def _have_moved(self) -> bool:
        """Whether containers have arrived where they were to move; they hold these CPUs from now on."""
        arrived = [name for name, cpus in self._moves.items() if self._cpus(name) == cpus]
        for name in arrived:
            self._claims[name] = dataclasses.replace(self._claims[name], cpus=self._moves.pop(name))
        return bool(arrived)

    def _frame(self, tally: str) -> frame.Frame:
        return frame.Frame(
            topology=self._node.topology,
            residents=tuple(self._resident(name) for name in self._node.names()),
            tally=tally,
        )

    async def watch(self, on_look: Callable[[], None]) -> None:
        """Call `on_look` over and over, until cancelled."""
        while True:
            on_look()
            await asyncio.sleep(_PAUSE)

    def _resident(self, name: str) -> frame.Resident:
        claim = self._claims.get(name, Claim("", 0, CpuSet(), False))
        return frame.Resident(
            name=name,
            letter=claim.letter,
            number=claim.number,
            claim=claim.cpus,
            exclusive=claim.exclusive,
            cpus=self._cpus(name),
            mems=self._node.read(name, "cpuset.mems"),
        )

    def _cpus(self, name: str) -> CpuSet:
        """What a container may run on. An empty file means all CPUs, unless it is just being written, which
        a plain file shows and the kernel's never does."""
        deadline = time.monotonic() + _WRITTEN_WITHIN
        while not (text := self._node.read(name, "cpuset.cpus")) and time.monotonic() < deadline:
            time.sleep(0.0002)
        try:
            return CpuSet.parse(text, what=name) or self._node.topology.online
        except errors.Malformed:
            # Whatever it is, nobody is kept from any CPU by it.
            return self._node.topology.online
