"""What a stand-in runtime remembers of pods and containers. Values only; pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler import events
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import runtime_pods


@dataclass(slots=True, eq=False)
class Sandbox:
    """A pod sandbox as the runtime has it."""

    message: nri_pb2.PodSandbox
    spec: runtime_pods.PodSpec
    stopped: bool = False


@dataclass(slots=True, eq=False)
class Record:
    """A container as the runtime has it. `message` is also its stored OCI spec, as far as it matters."""

    message: nri_pb2.Container
    pod: Sandbox
    phase: events.Phase = events.Phase.CREATING
    cgroup: str | None = None
