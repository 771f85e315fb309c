"""Who else writes the same files: kubelet's CPU manager by its record, and whoever conflicts point to.

I/O: looks at kubelet's state below the host root, by polling; on asyncio.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from reconciler import errors, events, fights, intent, opponents, report
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import agreeing, attribution, telling, unit_agreeing
from reconciler.host import kubelet, systemd, units
from reconciler.policy import state
from reconciler.runtime.podresources import client as podresources

PAUSE_SECONDS = 2.0
"""Between two looks at the file: one stat."""
ASK_SECONDS = 10.0
"""Between two questions to kubelet, where its file is not to be had."""
NAME = "kubelet's static CPU manager"
_SHOWN = 20

_Ask = Callable[[str], Awaitable[podresources.Owned]]


class Opposition:
    """Knows what others may write. `found` counts how often a static CPU manager has appeared."""

    def __init__(  # noqa: PLR0913  what it looks at, and how
        self,
        host_root: str,
        now: Callable[[], state.State],
        book: report.Book,
        tell: telling.Teller,
        *,
        attributed: attribution.Attribution | None = None,
        agreement: Callable[[], schema.Agreement] = lambda: "auto",
        ask: _Ask = podresources.owned,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`attributed` knows who writes, where that is wanted; `agreement` says who may be made
        to agree; `ask` asks kubelet at the path of its socket; `clock` gives monotonic seconds."""
        self.attribution = attributed
        means = unit_agreeing.Means(
            connect=lambda: systemd.connected(host_root),
            is_there=lambda: agreement() == "auto" and systemd.is_there(host_root),
        )
        self.units = unit_agreeing.UnitAgreeing(now, book, tell, means)
        self.agreeing = agreeing.Agreeing(now, book, tell, elsewhere=self.units.looks_after)
        self._agreement = agreement
        self.found = 0
        self._root = host_root
        self._now = now
        self._book = book
        self._tell = tell
        self._ask = ask
        self._clock = clock
        self._stamp: kubelet.Stamp = None
        self._assignments: opponents.Assignments | None = None
        self._evidence = ""
        self._since = 0.0
        self._contradicted = False
        self._asked_at: float | None = None

    @property
    def is_static(self) -> bool:
        """Whether kubelet's CPU manager writes cpusets."""
        return self._assignments is not None and self._assignments.policy == opponents.STATIC

    def suspects(self) -> opponents.Suspects:
        """What others may write now; from any thread."""
        return opponents.Suspects(
            kubelet=self._assignments,
            records=self.agreeing.records,
            reloaded_ago=units.reloaded_ago(self._root),
            writer=(lambda *_: None) if self.attribution is None else self.attribution.writer,
        )

    def drifted(self, ids: Iterable[events.ContainerId]) -> None:
        """These have drifted: make those agree who would undo the repair."""
        wish = self._agreement()
        if wish != "off":
            self.agreeing.drifted(ids)
        if wish == "auto":
            self.units.drifted(ids)

    def told(self) -> Mapping[events.ContainerId, CpuSet]:
        """Whose cpuset somebody else is writing for us, or has just written, and which."""
        return {**self.agreeing.told(), **self.units.told()}

    async def serve(self, *, dry: bool = False) -> None:
        """Look again and again, and tell systemd what it has to know unless `dry`, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_again_and_again())
            if not dry:
                group.create_task(self.units.serve())

    async def _look_again_and_again(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(PAUSE_SECONDS)

    async def look(self) -> None:
        """Notice what has changed. What cannot be understood is told once; what was known before holds."""
        stamp = kubelet.stamp(self._root)
        if stamp != self._stamp:
            self._stamp = stamp
            self._read()
        if stamp is None:
            await self._question()
        self._tell_contradictions()

    def _read(self) -> None:
        try:
            read = kubelet.read(self._root)
        except errors.ReconcilerError as error:
            self._tell.opponent("unreadable", reason=str(error))
            return
        self._become(read, f"/{kubelet.STATE} says so")

    async def _question(self) -> None:
        """Ask kubelet itself, where its file is not mounted. Who has CPUs of their own there has them from a
        static manager."""
        at = self._clock()
        if self._asked_at is not None and at - self._asked_at < ASK_SECONDS:
            return
        self._asked_at = at
        socket = kubelet.socket(self._root)
        if socket is None:
            self._become(None, "")
            return
        try:
            owned = await self._ask(socket)
        except errors.Retryable:
            return
        self._become(_assigned(owned, self._now()), "its PodResources API says so")

    def _become(self, assignments: opponents.Assignments | None, evidence: str) -> None:
        before, self._assignments = self.is_static, assignments
        if self.is_static and not before:
            self.found += 1
            self._evidence = evidence
            self._since = self._clock()
            self._tell.opponent("found", kind="kubelet", name=NAME, evidence=evidence)
        elif before and not self.is_static:
            self._tell.opponent("gone", kind="kubelet", name=NAME)

    def _tell_contradictions(self) -> None:
        """Tell when there are some, and not again before there were none."""
        contradicted = self._contradictions() if self.is_static else []
        if contradicted and not self._contradicted:
            self._tell.opponent("contradicts", kind="kubelet", name=NAME, contradictions=contradicted)
        self._contradicted = bool(contradicted)

    def _contradictions(self) -> list[str]:
        if self._assignments is None:
            return []
        now = self._now()
        names, owned = _owned(now)
        found = opponents.contradictions(self._assignments, owned)
        return [
            f"{names[key]}: {theirs or 'none'} of its own after kubelet, {ours or 'none'} after the claims"
            for key, (theirs, ours) in list(found.items())[:_SHOWN]
        ]

    def document(self) -> list[dict[str, object]]:
        """What the status says of the opponents, by kind. Linear in the containers."""
        listed = {
            kind: self._entry(its[0].opponent, its[0].since, len(its))
            for kind, its in fights.by_opponent(self._book.fights.conflicts()).items()
        }
        if self.is_static:
            conflicts = listed.get("kubelet", {}).get("conflicts", 0)
            manager = opponents.Opponent(kind="kubelet", name=NAME, evidence=self._evidence)
            listed["kubelet"] = self._entry(manager, self._since, conflicts)
            listed["kubelet"]["contradictions"] = self._contradictions()
        return [listed[kind] for kind in sorted(listed)]

    def _entry(self, opponent: opponents.Opponent, since: float, conflicts: object) -> dict[str, object]:
        return {
            "kind": opponent.kind,
            "name": opponent.name,
            "evidence": opponent.evidence,
            "since_seconds": round(max(self._clock() - since, 0.0), 3),
            "conflicts": conflicts,
            "contradictions": [],
        }


def _owned(now: state.State) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], CpuSet]]:
    """What the containers are called that are looked after, and what each has for itself."""
    names: dict[tuple[str, str], str] = {}
    owned: dict[tuple[str, str], CpuSet] = {}
    for container in now.inventory.containers.values():
        what = now.ledger.intents.get(container.id)
        is_ours = what is not None and what.kind is not intent.Kind.UNMANAGED
        if what is None or not is_ours or container.phase is events.Phase.STOPPED:
            continue
        pod = now.pod_of(container)
        claim = state.claim_of(now.ledger, pod, container, what)
        key = (pod.uid, container.name)
        names[key] = f"{pod.namespace}/{pod.name} container {container.name}"
        owned[key] = claim.cpus if claim is not None and claim.exclusive else CpuSet()
    return names, owned


def _assigned(owned: podresources.Owned, now: state.State) -> opponents.Assignments | None:
    """What kubelet's answer means: nothing, where nobody has CPUs for themselves."""
    uids: Mapping[tuple[str, str], str] = {
        (pod.namespace, pod.name): pod.uid for pod in now.inventory.pods.values()
    }
    if not owned:
        return None
    entries = {
        (uids[namespace, pod], container): cpus
        for (namespace, pod, container), cpus in owned.items()
        if (namespace, pod) in uids
    }
    return opponents.Assignments(policy=opponents.STATIC, entries=entries)
