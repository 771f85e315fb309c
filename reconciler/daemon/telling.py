"""What the log is told, in the words that others rely on. I/O: the log.

Event names and fields are listed in `docs/reference/log.md`. Hooks' records are written after the hook was
answered; records of a pass are written in the worker's thread and carry its `pass_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from reconciler import errors, events, explain, intent, plan, report
from reconciler.daemon import archiving, counters, history, logs, status, walk
from reconciler.policy import checkpoint, desired, moving, restoring, state
from reconciler.runtime.nri import handler


class Teller:
    """Writes the log's records, counts what they tell of, and remembers drifts."""

    def __init__(self, log: logs.Log) -> None:
        self._log = log
        self.counters = counters.Counters()
        self.history = history.History()

    def mode(self, mode: str, reason: str) -> None:
        """The door to the runtime has changed."""
        self.counters.mode_changed(mode)
        self._log.info("mode.changed", mode=mode, reason=reason)

    def adopted(self, now: state.State, new: Sequence[events.ContainerId]) -> None:
        """Start-up has taken over what was running."""
        self._log.info(
            "node.adopted",
            containers=len(new),
            shared=str(now.pool),
            exclusive=str(now.ledger.exclusive),
            unsatisfied=len(now.ledger.unsatisfied),
        )
        for id_, reason in now.ledger.unsatisfied.items():
            self._log.warning("placement.unsatisfied", **status.owner(now, id_), reason=reason)

    def admitted(
        self,
        now: state.State,
        event: events.ContainerCreating,
        placement: desired.Placement,
        what: intent.Intent,
    ) -> None:
        """A container was placed at its creation."""
        self._placed(now, event.pod, event.container, placement, what)

    def appeared(self, now: state.State, id_: events.ContainerId) -> None:
        """A container of whose creation nobody asked was taken over."""
        if reason := now.ledger.unsatisfied.get(id_):
            self._log.warning("placement.unsatisfied", **status.owner(now, id_), reason=reason)
        elif what := now.ledger.intents.get(id_):
            container = now.inventory.containers[id_]
            pod = now.pod_of(container)
            self._placed(now, pod, container, desired.place(now, pod, container, what), what)

    def _placed(
        self,
        now: state.State,
        pod: events.Pod,
        container: events.Container,
        placement: desired.Placement,
        what: intent.Intent,
    ) -> None:
        self._log.info(
            "placement.admitted",
            **status.names(pod, container),
            **{"class": what.kind.value},
            cpus=str(placement.cpus),
            mems=None if placement.mems is None else str(placement.mems),
            reason=explain.reason(now, container, what, placement),
        )

    def refused(self, event: events.ContainerCreating, refused: errors.Refused) -> None:
        """A creation was refused."""
        self.counters.refused("create", refused.ground)
        names = status.names(event.pod, event.container)
        self._log.warning("placement.refused", **names, reason=str(refused))

    def moved(self, moves: Iterable[moving.Move], after: state.Ledger) -> None:
        """Integer containers have made room for others, each where it has its claim `after` that."""
        for move in moves:
            self.counters.moves += 1
            namespace, _, name = move.pod.partition("/")
            takers = moving.room_for(after, move)
            self._log.info(
                "placement.moved",
                namespace=namespace,
                pod=name,
                container=move.key.name,
                cpus_before=str(move.before),
                cpus=str(move.after),
                reason=f"{move.before} -> {move.after}, to make room for {', '.join(takers) or 'others'}",
            )

    def resized(self, before: state.State, after: state.State, id_: events.ContainerId) -> None:
        """A container has the CPUs of its new size."""
        was, now = desired.desired(before, (id_,)).get(id_), desired.desired(after, (id_,)).get(id_)
        self._log.info(
            "placement.resized",
            **status.owner(after, id_),
            **{"class": after.ledger.intents[id_].kind.value},
            cpus_before="" if was is None else str(was.cpus),
            cpus="" if now is None else str(now.cpus),
        )

    def resize_refused(self, now: state.State, id_: events.ContainerId, refused: errors.Refused) -> None:
        """A resize was refused; the container is as it was."""
        self.counters.refused("update", refused.ground)
        self._log.warning("placement.resize-refused", **status.owner(now, id_), reason=str(refused))

    def claim_lingers(self, now: state.State, id_: events.ContainerId) -> None:
        """The runtime has forgotten a container of which a process is alive."""
        self._claim(self._log.warning, "claim.lingers", now, id_)

    def claim_ended(self, before: state.State, id_: events.ContainerId) -> None:
        """The last process of one that was told of has ended."""
        self._claim(self._log.info, "claim.ended", before, id_)

    def _claim(
        self, write: Callable[..., object], event: str, now: state.State, id_: events.ContainerId
    ) -> None:
        container = now.inventory.containers[id_]
        claim = state.claim_of(now.ledger, now.pod_of(container), container, now.ledger.intents[id_])
        if claim is not None:
            reason = explain.lingers(now, id_)
            write(event, **status.owner(now, id_), cpus=str(claim.cpus), reason=reason)

    def held_up(self, now: state.State, id_: events.ContainerId, reason: str) -> None:
        """A container was kept from starting."""
        self.counters.refused("start", "writes")
        self._log.warning("placement.held-up", **status.owner(now, id_), reason=reason)

    def checkpoint_restored(
        self, path: str, saved: checkpoint.Saved, misfits: Sequence[restoring.Misfit], *, rebooted: bool
    ) -> None:
        """As `saving.Tell.checkpoint_restored`."""
        self._log.info(
            "checkpoint.restored",
            path=path,
            claims=len(saved.ledger.claims),
            containers=len(saved.ledger.intents),
            online_before=str(saved.online),
            nodes_before={str(node): str(cpus) for node, cpus in saved.nodes.items()},
            rebooted=rebooted,
        )
        for claim, why in misfits:
            namespace, _, pod = claim.pod.partition("/")
            self._log.warning(
                "checkpoint.misfit",
                namespace=namespace,
                pod=pod,
                container=claim.key.name,
                cpus=str(claim.cpus),
                reason=f"{why}; the claim is dropped, and what runs is looked at",
            )

    def checkpoint_set_aside(self, path: str, kept: str, reason: str) -> None:
        """As `saving.Tell.checkpoint_set_aside`."""
        self._log.warning("checkpoint.set-aside", path=path, kept=kept, reason=reason)

    def checkpoint_failed(self, path: str, reason: str) -> None:
        """As `saving.Tell.checkpoint_failed`."""
        self._log.warning("checkpoint.failed", path=path, reason=reason)

    def checkpoint_saved(self, path: str) -> None:
        """As `saving.Tell.checkpoint_saved`."""
        self._log.info("checkpoint.saved", path=path)

    def archive(self, event: archiving.Event, **fields: object) -> None:
        """As `archiving.Tell.archive`."""
        write = self._log.info if event == "history.saved" else self._log.warning
        write(event, **fields)

    def failed(self, what: str, error: BaseException) -> None:
        """Something of ours broke off."""
        self.counters.faults += 1
        self._log.error("agent.failed", what=what, error=f"{type(error).__name__}: {error}", exc_info=error)

    def complain(self, error: errors.ReconcilerError) -> None:
        """Something on the host is not as it should be; the agent goes on without it."""
        self._log.warning("host.limited", reason=str(error))

    def recovered(self, reason: str) -> None:
        """What was complained of is as it should be again."""
        self._log.info("host.recovered", reason=reason)

    def untainted(self, key: str, *, was_there: bool) -> None:
        """The start-up taint has been taken off the node, or was not on it."""
        self._log.info("taint.removed" if was_there else "taint.absent", key=key)

    def agreed(self, now: state.State, id_: events.ContainerId, **fields: object) -> None:
        """The owner of a cgroup was told what a container has, and has it on record now."""
        self._log.info("agreement.made", **status.owner(now, id_), **fields)

    def disagreed(self, now: state.State, id_: events.ContainerId, reason: str) -> None:
        """The owner of a cgroup could not be told; told once for each reason."""
        self._log.warning("agreement.failed", **status.owner(now, id_), reason=reason)

    def attribution(self, what: str, **fields: object) -> None:
        """As `attribution.Tell`."""
        write = self._log.info if what == "started" else self._log.warning
        write(f"attribution.{what}", **fields)

    def opponent(self, what: Literal["found", "gone", "contradicts", "unreadable"], **fields: object) -> None:
        """Somebody else who writes cpusets has appeared, or has gone."""
        write = self._log.info if what == "gone" else self._log.warning
        write(f"opponent.{what}", **fields)

    def notice(self, notice: handler.Notice) -> None:
        """Something about the connection to the runtime."""
        self.counters.nri_retries += notice.event == "nri.retry"
        level = self._log.error if notice.event == "nri.handler-failed" else self._log.warning
        level(notice.event, reason=notice.text)

    def passed(self, now: state.State, done: walk.Done) -> None:
        """As `walk.Tell.passed`."""
        self.counters.passed(done)
        self.history.passed(now, done)
        entries = [entry for entry in done.entries if not entry.silent]
        for entry in entries:
            is_good = entry.event in ("drift.repaired", "conflict.ended", "isolation.made")
            write = self._log.info if is_good else self._log.warning
            write(entry.event, pass_id=done.pass_id, **status.owner(now, entry.container), **entry.fields)
        failed = sum(result.failed for result in done.results)
        echo = done.request.scope is not None and done.request.found_by == "pass"
        if echo and not done.differences and not entries:
            # The echo of our own writes: nothing was found and nothing done.
            return
        write = self._log.warning if failed else self._log.info
        write("pass.done", pass_id=done.pass_id, **_summary(done), failed=failed)

    def planned(self, now: state.State, pass_id: int, steps: plan.Plan) -> None:
        """As `walk.Tell.planned`."""
        for step in steps:
            self._log.info(
                "plan.write",
                pass_id=pass_id,
                **status.owner(now, step.container),
                file=step.file,
                text=step.text,
                phase=step.phase.value,
            )
        self._log.info("plan.done", pass_id=pass_id, writes=len(steps))


def _summary(done: walk.Done) -> Mapping[str, object]:
    return {
        "found_by": _found_by(done.request),
        "looked_at": done.looked_at,
        "differences": done.differences,
        "writes": len(done.results),
        "ms": round(done.seconds * 1000, 3),
    }


def _found_by(request: walk.Request) -> report.FoundBy:
    """What made the pass necessary; a hook's decision before anything that was merged with it."""
    return "inotify" if request.found_by == "pass" and request.found_at else request.found_by
