"""What the plugin asks of whoever decides. Types only.

Calls come one after another, in the event loop's thread, in the order in which the runtime made them, but an
answer that is awaited does not hold up the next call. Every method must be idempotent and must adopt ids that
it does not know: events can be lost with a connection and told twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from reconciler import events
from reconciler.runtime.nri import levels


class Adjustment(NamedTuple):
    """What a container shall run on, as kernel lists. "" leaves a file as it is; it cannot mean "nothing"."""

    cpus: str = ""
    mems: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The runtime at the other end, as it introduced itself. Time-outs in seconds.

    `level` is its NRI version, said or inferred; `events` is the mask that was asked for.
    """

    runtime: str
    version: str
    level: levels.Level
    registration_timeout: float
    request_timeout: float
    events: int


class Handler(Protocol):
    """Decides. `Refused` from `create`, `start` or `update`, at once or from what is awaited, fails the
    runtime's request with its text; any other exception too, but is reported as a fault of ours."""

    def connected(self, peer: Peer) -> None:
        """The plugin is registered. Everything that runs follows in `synchronized`, maybe minutes later."""

    def disconnected(self, reason: str) -> None:
        """The connection that `connected` told of is lost. What is claimed stays claimed."""

    def synchronized(self, event: events.Synchronized, peer: Peer) -> None:
        """Everything that the runtime has; already answered, and called before any later event."""

    def create(self, event: events.ContainerCreating) -> Adjustment | Awaitable[Adjustment]:
        """Where a container shall be born."""

    def start(self, event: events.ContainerStarting) -> Awaitable[None] | None:
        """The workload's first instruction waits for this to return."""

    def update(self, event: events.ContainerUpdating) -> Adjustment | Awaitable[Adjustment]:
        """Where a container that is resized shall be from now on; its present place where nothing changes."""

    def stopped(self, event: events.ContainerStopped) -> None:
        """A container is gone."""

    def removed(self, event: events.ContainerRemoved) -> None:
        """A container is forgotten."""

    def pod_started(self, event: events.PodStarted) -> None:
        """A sandbox runs."""

    def pod_stopped(self, event: events.PodStopped) -> None:
        """A sandbox has stopped."""

    def pod_removed(self, event: events.PodRemoved) -> None:
        """A sandbox is forgotten."""

    def guard(self, event: events.Event) -> Adjustment | None:
        """What to answer instead of the awaited answer, which took 60 % of the runtime's time-out.

        After this the awaited result reaches nobody. None answers without an adjustment. May raise Refused.
        """


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the connection that an operator may want to know. `event` names the kind."""

    event: str
    text: str
    error: BaseException | None = None


class Meter(Protocol):
    """Counts what a connection does. Must be quick, and must not raise."""

    def connected(self) -> None:
        """A plugin is registered."""

    def lost(self) -> None:
        """The connection of a registered plugin has ended."""

    def answered(self, hook: str, seconds: float) -> None:
        """The answer to a hook (`CreateContainer`, `StartContainer`, whatever the runtime calls it by) has
        been sent, so long after the first bytes of the call came."""


class Unmetered:
    """Counts nothing."""

    def connected(self) -> None:
        """As `Meter`."""

    def lost(self) -> None:
        """As `Meter`."""

    def answered(self, hook: str, seconds: float) -> None:
        """As `Meter`."""


UNMETERED = Unmetered()

Report = Callable[[Notice], None]
"""Takes notices; must not raise."""
