"""How the versions of containerd and CRI-O differ, as an NRI plugin sees them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.runtime.nri import levels, mux, ttrpc
from reconciler.sim import runtime_pods


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One runtime. Time-outs in seconds, sizes in bytes.

    `split_above` is the size from which Synchronize is split; the real ones take what ttrpc can send.
    """

    runtime: str
    version: str
    nri: levels.Level
    naming: runtime_pods.Naming = field(default_factory=runtime_pods.Naming)
    registration_timeout: float = 5.0
    request_timeout: float = 2.0
    split_above: int = ttrpc.MAX_SENT

    @property
    def says_timeouts(self) -> bool:
        """Whether Configure carries the time-outs."""
        return self.nri >= levels.Level(0, 7, 0)

    @property
    def says_version(self) -> bool:
        """Whether Configure carries the version of NRI."""
        return self.nri >= levels.Level(0, 12, 0)

    @property
    def configures_first(self) -> bool:
        """Whether Configure comes before the reply to RegisterPlugin; either may happen, seen like this."""
        return self.nri >= levels.Level(0, 7, 0)

    @property
    def own_calls(self) -> bool:
        """Whether each event is a call of its own, instead of StateChange."""
        return self.nri >= levels.Level(0, 12, 0)

    @property
    def checks_names(self) -> bool:
        """Whether a plugin's name may hold only letters, digits and `_.+-`."""
        return self.nri >= levels.Level(0, 12, 0)

    @property
    def valid_events(self) -> int:
        """The event bits that a plugin may ask for."""
        return 0x3FFF if self.nri >= levels.Level(0, 10, 0) else 0x7FF

    @property
    def splits(self) -> bool:
        """Whether a large Synchronize comes in parts; else it comes whole, however large."""
        return self.nri >= levels.Level(0, 7, 0)

    @property
    def makes_zombies(self) -> bool:
        """Whether a plugin whose Synchronize failed stays connected and hears nothing any more."""
        return self.nri <= levels.ZOMBIES_UP_TO

    @property
    def max_sent(self) -> int:
        """The largest body of a message."""
        return ttrpc.MAX_SENT if self.splits else mux.MAX_PAYLOAD - 10

    @property
    def registers_alone(self) -> bool:
        """Whether registering waits until no request is in flight, and new ones wait behind it
        (BlockPluginSync: containerd >= 1.7.26, containerd#14083)."""
        return self.runtime == "containerd" and self.nri >= levels.Level(0, 8, 0)


def containerd(version: str, nri: tuple[int, int, int]) -> Profile:
    """A containerd with the systemd driver."""
    return Profile(runtime="containerd", version=version, nri=levels.Level(*nri))


def crio(version: str, nri: tuple[int, int, int]) -> Profile:
    """A CRI-O with the systemd driver."""
    naming = runtime_pods.Naming(runtime="cri-o")
    return Profile(runtime="cri-o", version=version, nri=levels.Level(*nri), naming=naming)


PROFILES = {
    "containerd-1.7.0": containerd("v1.7.0", (0, 3, 0)),
    "containerd-1.7.24": containerd("1.7.24~ds1", (0, 6, 1)),
    "containerd-2.1.9": containerd("v2.1.9", (0, 8, 0)),
    "containerd-2.2.0": containerd("v2.2.0", (0, 10, 0)),
    "containerd-2.2.7": containerd("v2.2.7", (0, 11, 0)),
    "containerd-2.3.4": containerd("v2.3.4", (0, 12, 0)),
    "containerd-2.4.0": containerd("v2.4.0", (0, 12, 2)),
    "cri-o-1.32": crio("1.32.1", (0, 9, 0)),
    "cri-o-1.36": crio("1.36.3", (0, 11, 0)),
}
"""One runtime of each kind that matters, by name."""
