"""What a probe wants to know: is the agent alive, and does it serve the node. No I/O; in the event loop.

Being alive is not being right: a node that cannot converge is told by status and metrics, not by a restart.
"""

from __future__ import annotations

from reconciler import report
from reconciler.daemon import agent, passes, status

STUCK_SECONDS = 30.0
"""A pass that has taken this long is stuck in a file: one over 1000 containers takes part of a second."""


class Probes:
    """Looks at a running agent."""

    def __init__(
        self, its_agent: agent.Agent, its_passes: passes.Passes, book: report.Book, *, dry: bool = False
    ) -> None:
        """With `dry` nothing converges, and what runs has been taken over at least."""
        self._agent = its_agent
        self._passes = its_passes
        self._book = book
        self._dry = dry
        self._has_converged = False

    def unwell(self) -> str:
        """Why the agent should be started anew, or "". Any answer shows that the event loop runs."""
        seconds = self._passes.seconds()
        if seconds < STUCK_SECONDS:
            return ""
        return f"the pass that is under way has taken {seconds:.0f} s: a file of the host does not answer"

    def unready(self) -> str:
        """Why the node is not served, or "": a door to the runtime is open, its first list has been taken
        over, and the node has converged once since the agent's start."""
        if self._agent.mode == "none":
            return f"no runtime is connected: {self._agent.reason}"
        if not self._has_converged:
            self._has_converged = self._converged()
        return "" if self._has_converged else "the node has not converged yet"

    def _converged(self) -> bool:
        busy = self._agent.busy
        return not busy if self._dry else status.converged(self._agent.state, self._book, busy=busy)
