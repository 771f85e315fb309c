"""One connection's way from registration to events. Pure, but for protobuf: payloads in, payloads out.

    REGISTERING --Configure--> CONFIGURED --Synchronize, more--> SYNCHRONIZING --Synchronize--> ACTIVE

Configure may overtake the reply to RegisterPlugin, and Synchronize may take minutes to come.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from reconciler import events
from reconciler.runtime import conversion
from reconciler.runtime.nri import envelope, handler, levels, nri_pb2

REGISTRATION_TIMEOUT = 5.0
REQUEST_TIMEOUT = 2.0
"""What the runtime's library uses, in seconds, where Configure does not say (NRI <= 0.6.1 never does)."""


class State(enum.Enum):
    """How far the connection is."""

    REGISTERING = "registering"
    CONFIGURED = "configured"
    SYNCHRONIZING = "synchronizing"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Identity:
    """Name and index of the plugin. The index is two digits: the runtime calls plugins in its order."""

    name: str
    index: str


class Session:
    """The state of one connection; not used again for the next."""

    def __init__(
        self, identity: Identity, narrowed: frozenset[tuple[str, str]], *, launched: bool = False
    ) -> None:
        """`narrowed` names the runtimes (name, version) that have refused the full event mask before;
        `launched`: the runtime started this plugin itself."""
        self.config = ""
        """What the runtime had for a plugin of this name in its own folder of configurations."""
        self.state = State.REGISTERING
        self.peer: handler.Peer | None = None
        self._identity = identity
        self._narrowed = narrowed
        self._launched = launched
        self._pods: list[nri_pb2.PodSandbox] = []
        self._containers: list[nri_pb2.Container] = []

    def registration(self) -> bytes:
        """The payload of RegisterPlugin."""
        request = nri_pb2.RegisterPluginRequest(
            plugin_name=self._identity.name, plugin_idx=self._identity.index
        )
        return request.SerializeToString()

    def configure(self, payload: bytes) -> bytes:
        """Take Configure, and give its reply's payload. Sets `peer`. Raises Malformed."""
        request = envelope.parse(nri_pb2.ConfigureRequest, payload)
        runtime = (request.runtime_name, request.runtime_version)
        self.config = request.config
        self.peer = handler.Peer(
            runtime=request.runtime_name,
            version=request.runtime_version,
            level=levels.infer(*runtime, request.NRI_version),
            registration_timeout=_seconds(request.registration_timeout, REGISTRATION_TIMEOUT),
            request_timeout=_seconds(request.request_timeout, REQUEST_TIMEOUT),
            events=levels.FEWER_EVENTS if runtime in self._narrowed else levels.EVENTS,
        )
        self.state = State.CONFIGURED
        return nri_pb2.ConfigureResponse(events=self.peer.events).SerializeToString()

    def synchronize(self, payload: bytes) -> bytes:
        """Take one part of Synchronize, and give its reply's payload; the state is ACTIVE after the last.

        There are never updates in the reply: CRI-O makes a zombie of a plugin whose updates fail. Raises
        Malformed.
        """
        request = envelope.parse(nri_pb2.SynchronizeRequest, payload)
        if self.state is State.ACTIVE:
            self._pods, self._containers = [], []
        self._pods += request.pods
        self._containers += request.containers
        self.state = State.SYNCHRONIZING if request.more else State.ACTIVE
        return nri_pb2.SynchronizeResponse(more=request.more).SerializeToString()

    def synchronized(self, complain: conversion.Complain) -> events.Synchronized:
        """All parts of Synchronize as one event, once; the parts are dropped."""
        pods, self._pods = self._pods, []
        containers, self._containers = self._containers, []
        return conversion.synchronized(pods, containers, complain)

    def gets_no_list(self) -> bool:
        """Whether this runtime never synchronizes this plugin, as it was before 0.7 for those that a runtime
        started itself: what runs would stay unknown, and its CPUs be given to others."""
        return self._launched and self.peer is not None and self.peer.level <= levels.ZOMBIES_UP_TO

    def is_zombie(self, took: float) -> bool:
        """Whether the runtime has given up on a Synchronize that was answered after `took` seconds, without
        closing the connection: it would stay silent for ever."""
        return (
            self.peer is not None
            and self.peer.level <= levels.ZOMBIES_UP_TO
            and took > self.peer.request_timeout
        )


def _seconds(milliseconds: int, default: float) -> float:
    return milliseconds / 1000 if milliseconds > 0 else default
