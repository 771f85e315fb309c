"""The pods of the demo, and the CPUs that each must get. Literal values: nothing here is worked out. Pure.

The machine has two sockets of four cores with two threads each: CPUs 0-3 and 8-11 on node 0, 4-7 and 12-15 on
node 1; CPU n and CPU n+8 share a core.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler import events
from reconciler.sim import runtime_pods

ALL = "0-15"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A pod. `cpus` and `mems` are what its containers must get, "" for the shared pool and for memory that
    is left alone; `letter` stands for it on the map."""

    pod: runtime_pods.PodSpec
    containers: tuple[runtime_pods.ContainerSpec, ...]
    letter: str = ""
    cpus: str = ""
    mems: str = ""
    exclusive: bool = False

    @property
    def names(self) -> list[str]:
        """Its containers as `pod/container`."""
        return [f"{self.pod.name}/{container.name}" for container in self.containers]


WEB = Member(
    pod=runtime_pods.PodSpec(name="web", uid="0a1b2c3d-0001-4000-8000-000000000001"),
    containers=(
        runtime_pods.ContainerSpec(name="nginx", request=500),
        runtime_pods.ContainerSpec(name="log", request=100),
    ),
)
BATCH = Member(
    pod=runtime_pods.PodSpec(
        name="batch", uid="0a1b2c3d-0002-4000-8000-000000000002", qos=events.Qos.BEST_EFFORT
    ),
    containers=(runtime_pods.ContainerSpec(name="worker"),),
)
DB = Member(
    pod=runtime_pods.PodSpec(
        name="db", uid="0a1b2c3d-0003-4000-8000-000000000003", qos=events.Qos.GUARANTEED
    ),
    containers=(runtime_pods.ContainerSpec(name="postgres", limit=2000, request=2000),),
    letter="D",
    cpus="1,9",
    exclusive=True,
)
STORAGE = Member(
    pod=runtime_pods.PodSpec(
        name="storage",
        uid="0a1b2c3d-0004-4000-8000-000000000004",
        qos=events.Qos.GUARANTEED,
        annotations={"weka.io/cores-ids": "4-5,12-13"},
    ),
    containers=(runtime_pods.ContainerSpec(name="target", limit=4000, request=4000),),
    letter="S",
    cpus="4-5,12-13",
    mems="1",
    exclusive=True,
)
TELEMETRY = Member(
    pod=runtime_pods.PodSpec(
        name="telemetry",
        uid="0a1b2c3d-0005-4000-8000-000000000005",
        annotations={"weka.io/cores-ids": "2,10"},
    ),
    containers=(runtime_pods.ContainerSpec(name="agent", request=250),),
    letter="t",
    cpus="2,10",
    mems="0",
)
UPF = Member(
    pod=runtime_pods.PodSpec(
        name="upf", uid="0a1b2c3d-0006-4000-8000-000000000006", qos=events.Qos.GUARANTEED
    ),
    containers=(runtime_pods.ContainerSpec(name="dataplane", limit=4000, request=4000),),
    letter="U",
    cpus="6-7,14-15",
    exclusive=True,
)
GREEDY = Member(
    pod=runtime_pods.PodSpec(
        name="greedy",
        uid="0a1b2c3d-0007-4000-8000-000000000007",
        qos=events.Qos.GUARANTEED,
        annotations={"weka.io/cores-ids": "3,5"},
    ),
    containers=(runtime_pods.ContainerSpec(name="main", limit=2000, request=2000),),
)
INGEST = Member(
    pod=runtime_pods.PodSpec(name="ingest", uid="0a1b2c3d-0008-4000-8000-000000000008"),
    containers=(runtime_pods.ContainerSpec(name="queue", request=1000, limit=2000),),
)
RAID = Member(
    pod=runtime_pods.PodSpec(
        name="raid",
        uid="0a1b2c3d-0009-4000-8000-000000000009",
        qos=events.Qos.GUARANTEED,
        annotations={"weka.io/cores-ids": "6-7"},
    ),
    containers=(runtime_pods.ContainerSpec(name="main", limit=2000, request=2000),),
    letter="R",
    cpus="6-7",
    mems="1",
    exclusive=True,
)
