"""What somebody else writes to a container's cpuset because he was told to: that is no drift."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler import events
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import turns

_SECONDS = 5.0
"""For so long after he has answered what he wrote counts as ours, though something else is wanted by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What he was told last; `ended` is None while he has not answered."""

    id: events.ContainerId
    cpus: CpuSet
    ended: float | None = None


class Echo:
    """Remembers the last call, from any thread, by the clock of whose turns it is part of."""

    def __init__(self, its: turns.Turns) -> None:
        self._turns = its
        self._last: _Call | None = None

    @contextlib.contextmanager
    def of(self, id_: events.ContainerId, cpus: CpuSet) -> Iterator[None]:
        """He is told, until leaving, that this container has these CPUs."""
        self._last = _Call(id=id_, cpus=cpus)
        try:
            yield
        finally:
            self._last = _Call(id=id_, cpus=cpus, ended=self._turns.clock())

    def told(self) -> Mapping[events.ContainerId, CpuSet]:
        """Whose cpuset he is writing for us, or has just written, and which."""
        last = self._last
        if last is None or (last.ended is not None and self._turns.clock() - last.ended > _SECONDS):
            return {}
        return {last.id: last.cpus}
