"""The state that everything is decided by: a value, replaced here and nowhere else. On asyncio.

In the event loop's thread alone. A decision of a hook is `put`: whoever made it asks for the passes that it
needs, and tells of it once it is carried out. What happens otherwise the state `becomes`.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.daemon import telling
from reconciler.policy import moving
from reconciler.policy import state as states


class Current:
    """Holds the state; asks for a pass over everything where the exclusive CPUs have changed."""

    def __init__(self, now: states.State, tell: telling.Teller, changed: Callable[[], object]) -> None:
        """`changed` is called where the exclusive CPUs are others than before."""
        self._now = now
        self._tell = tell
        self._changed = changed
        self.on_change: Callable[[], object] = lambda: None

    @property
    def now(self) -> states.State:
        """The newest."""
        return self._now

    def put(self, after: states.State) -> None:
        """Have another one in force, and nothing else follow from it."""
        self._now = after
        self.on_change()

    def replace(self, after: states.State) -> None:
        """Have another one in force, without a word about who has moved."""
        before = self._now
        self.put(after)
        if before.ledger.exclusive != after.ledger.exclusive:
            self._changed()

    def become(self, after: states.State) -> None:
        """Have another one in force, and tell who has moved by it."""
        before = self._now
        self.replace(after)
        self._tell.moved(moving.moves(before.ledger, after.ledger), after.ledger)
