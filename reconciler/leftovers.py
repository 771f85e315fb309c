"""What has ended for the runtime though a process of it is alive. Values; pure. PRD 6.8, ADR 0024.

It can run on CPUs like anyone else, so it stays in the inventory until its last process has ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from rpds import HashTrieMap

from reconciler import events

NOBODY: frozenset[events.ContainerId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What has ended for the runtime and is not over.

    `lingering` are containers of which a process is alive; of those that are `forgotten` the runtime has no
    record any more, as of the pods whose sandbox is in `ended`. `pids` are of processes that were seen, one
    of a container.
    """

    lingering: frozenset[events.ContainerId] = NOBODY
    forgotten: frozenset[events.ContainerId] = NOBODY
    ended: frozenset[events.SandboxId] = frozenset()
    pids: HashTrieMap[events.ContainerId, int] = field(default_factory=HashTrieMap)

    def with_lingering(
        self,
        ids: Set[events.ContainerId],
        *,
        forgotten: bool = False,
        ended: events.SandboxId | None = None,
    ) -> Leftovers:
        """The leftovers with these; `forgotten`: without a record, `ended`: their sandbox, if that has."""
        return dataclasses.replace(
            self,
            lingering=self.lingering | ids,
            forgotten=self.forgotten | ids if forgotten else self.forgotten,
            ended=self.ended if ended is None else self.ended | {ended},
        )

    def with_seen(self, pids: Mapping[events.ContainerId, int]) -> Leftovers:
        """The leftovers of which these processes were seen; those of others are passed over."""
        known = self.pids
        for id_, pid in pids.items():
            if id_ in self.lingering and known.get(id_) != pid:
                known = known.insert(id_, pid)
        return self if known is self.pids else dataclasses.replace(self, pids=known)

    def without(self, id_: events.ContainerId) -> Leftovers:
        """The leftovers without this container."""
        if id_ not in self.lingering:
            return self
        return Leftovers(
            lingering=self.lingering - {id_},
            forgotten=self.forgotten - {id_},
            ended=self.ended,
            pids=self.pids.discard(id_),
        )

    def without_pod(self, sandbox: events.SandboxId) -> Leftovers:
        """The leftovers in which this sandbox has not ended."""
        if sandbox not in self.ended:
            return self
        return dataclasses.replace(self, ended=self.ended - {sandbox})
