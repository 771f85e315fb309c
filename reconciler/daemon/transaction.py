"""A decision for which others must leave their CPUs first: carried out before it is answered, or not at all.

The new state is in force at once, so that every pass works for it; if the cgroups do not follow, it is taken
back, and so do they. On asyncio. PRD 4.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reconciler import errors, events
from reconciler.daemon import current, guard, passes, telling
from reconciler.policy import lifecycle, moving, reverting, state


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """The step from the state `before` to `after`, about the container `id_`."""

    before: state.State
    after: state.State
    id_: events.ContainerId

    @property
    def moves(self) -> tuple[moving.Move, ...]:
        """The claims that it moves."""
        return tuple(
            move for move in moving.moves(self.before.ledger, self.after.ledger) if move.key != self._own
        )

    @property
    def uid(self) -> events.PodUid:
        """The pod that it is about."""
        return self.after.pod_of(self.after.inventory.containers[self.id_]).uid

    @property
    def _own(self) -> state.ClaimKey | None:
        container = self.after.inventory.containers.get(self.id_)
        what = self.after.ledger.intents.get(self.id_)
        if container is None or what is None:
            return None
        return state.claim_key(self.after.pod_of(container), container, what)

    def concerned(self) -> tuple[events.ContainerId, ...]:
        """The containers that must be where they should before it is answered; one without a cgroup counts
        as there."""
        ids = {self.id_} if self.id_ in self.before.inventory.containers else set()
        for move in self.moves:
            for sandbox in self.after.inventory.sandboxes(move.key.uid):
                attempts = self.after.inventory.attempts(sandbox, move.key.name)
                ids |= {its.id for its in attempts if its.phase is not events.Phase.STOPPED}
        return tuple(sorted(ids))


class Transactions:
    """Carries decisions out, or has them taken back."""

    def __init__(
        self,
        its_passes: passes.Passes,
        its_guard: guard.Guard,
        its: current.Current,
        tell: telling.Teller,
    ) -> None:
        """`its` is the state that is worked on."""
        self._passes = its_passes
        self._guard = its_guard
        self._its = its
        self._tell = tell
        self._begun: dict[events.ContainerId, asyncio.Future[list[str]]] = {}
        self._unfinished: set[events.PodUid] = set()

    def refuse_beside_another(self, uid: events.PodUid) -> None:
        """Raises Refused while a step about this pod is unfinished: what it has changed may be taken back.

        The runtime then asks again though the step's own hook has not been answered: it has given that up.
        """
        if uid in self._unfinished:
            raise errors.Refused(guard.TOO_LATE, "time")

    def begin(self, step: Transaction) -> None:
        """Begin with a step that is in force from this moment on; `carry_out` must follow.

        No pass comes in between that knows of the step and looks at a part of the node only: it would not see
        who is still on the CPUs that others are to have.
        """
        self._guard.begin(step.id_)
        self._unfinished.add(step.uid)
        self._begun[step.id_] = self._settle(step)

    async def carry_out(self, step: Transaction, trouble: str) -> None:
        """Return when the cgroups are as the step that was begun wants them.

        Raises Refused, beginning with `trouble`, when they could not be made so, or the runtime does not
        wait any more, and they are as they were.
        """
        try:
            why = _why(await self._begun.pop(step.id_))
            given_up = self._guard.has_given_up(step.id_)
            if not why and not given_up:
                self._tell.moved(step.moves, step.after.ledger)
                return
            stayed = self._take_back(step)
            await self._settle(step)
        finally:
            self._unfinished.discard(step.uid)
            self._guard.end(step.id_)
        reason = why or "it took too long"
        put_back = "whoever could go back" if stayed else "everything"
        raise errors.Refused(
            f"{trouble}: {reason}; {put_back} was put back, and it will be tried again",
            "writes" if why else "time",
        )

    def _take_back(self, step: Transaction) -> Sequence[moving.Move]:
        """Replace the state by one in which the step was not made; who has to stay where it was moved to."""
        self._its.replace(reverting.revert(self._its.now, step.before, step.after, step.id_))
        ledger = self._its.now.ledger
        moved = moving.moves(step.before.ledger, ledger)
        stayed = [move for move in step.moves if move in moved]
        self._tell.moved(stayed, ledger)
        self._its.become(lifecycle.retry(self._its.now))
        return stayed

    def _settle(self, step: Transaction) -> asyncio.Future[list[str]]:
        """Let a pass over everything settle what the step is about: the verdicts on who is concerned."""
        self._passes.everything(hook=True)
        return asyncio.gather(*map(self._passes.gate, step.concerned()))


def _why(verdicts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(verdict for verdict in verdicts if verdict))
