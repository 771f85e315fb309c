"""What a scenario file says. Values; `load` reads them, strictly.

A scenario is a machine, a configuration and steps. A step does one thing and then says what is expected once
everything has settled. Containers are named `POD/CONTAINER`, a pause container `POD/POD`.
"""

from __future__ import annotations

import pathlib
from typing import Annotated, Literal

import msgspec
import yaml

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "scenarios"
MACHINES = FOLDER.parent / "machines"

GroundName = Literal["pure", "fakefs", "simulated", "polled", "real"]
Key = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]+/[A-Za-z0-9-]+$")]
Requirement = Annotated[str, msgspec.Meta(pattern=r"^PRD-[0-9]+\.[0-9]+$")]
Claim = Annotated[str, msgspec.Meta(pattern=r"^[CWMXT][0-9]+$")]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Container(_Strict, frozen=True, kw_only=True):
    """CPUs as in a manifest's `resources`, in whole CPUs or fractions; None where it does not say.

    `later`: not with the pod, but when a step creates it, as an init container's successor is. `quota`
    false: kubelet sets no CFS quota (`cpuCFSQuota: false`).
    """

    limit: float | None = None
    request: float | None = None
    later: bool = False
    quota: bool = True


class Pod(_Strict, frozen=True, kw_only=True):
    """A pod's manifest. Its containers are created and started in this order."""

    pod: str
    namespace: str = "default"
    qos: Literal["guaranteed", "burstable", "besteffort"] = "burstable"
    annotations: dict[str, str] = {}
    containers: dict[str, Container] = msgspec.field(default_factory=lambda: {"main": Container()})

    @property
    def first(self) -> list[str]:
        """The containers that come with the pod."""
        return [name for name, container in self.containers.items() if not container.later]

    def resized(self, name: str, limit: float, request: float | None) -> Pod:
        """The manifest after a resize of one of its containers."""
        container = msgspec.structs.replace(self.containers[name], limit=limit, request=request)
        return msgspec.structs.replace(self, containers={**self.containers, name: container})


class Write(_Strict, frozen=True, kw_only=True):
    """Someone writes to a container's cgroup behind the agent's back."""

    container: Key
    file: Literal["cpuset.cpus", "cpuset.mems", "cpu.max"] = "cpuset.cpus"
    text: str


class Update(_Strict, frozen=True, kw_only=True):
    """The runtime is asked to change a container's CFS quota (microseconds), and nothing else."""

    container: Key
    quota: int


class Resize(_Strict, frozen=True, kw_only=True):
    """The pod's manifest is changed in place: the runtime is asked as kubelet does, for shares, quota and
    period together, in CPUs as in the manifest."""

    container: Key
    limit: float
    request: float | None = None


class Expected(_Strict, frozen=True, kw_only=True):
    """A container, as the kernel has it and as status tells it. What is None is not compared.

    `effective` is `cpus` unless it is given; `klass` is YAML's `class`; `quota` and `pod_quota` are what
    `cpu.max` says of the container and of its pod. `count` stands in the place of
    `cpus` where which CPUs they are is left to who came first.
    """

    cpus: str | None = None
    count: int | None = None
    mems: str | None = None
    quota: str | None = None
    pod_quota: str | None = None
    effective: str | None = None
    klass: str | None = msgspec.field(default=None, name="class")
    state: str = "in-sync"
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.cpus is None) == (self.count is None):
            raise ValueError("a container is expected to have cpus or a count of them")


class Down(_Strict, frozen=True, kw_only=True):
    """A container's files while there is no agent to ask."""

    cpus: str
    mems: str | None = None


class Drift(_Strict, frozen=True, kw_only=True):
    """What status counts since the agent's last start."""

    found: int
    repaired: int


class Step(_Strict, frozen=True, kw_only=True):
    """One action, and what is expected after it. `refused` is a part of the sentence that refuses it.

    `create` makes another attempt of a container of a pod that was run before; `exit` lets one end by
    itself; `agent` and `runtime` end and start again; `offline` and `online` switch CPUs. Between the
    agent's end and its start `expect_down` is checked, then `while_down` is done. `together` are steps that
    are done at the same time, on grounds that have one; nothing is expected after each of them.
    """

    run: Pod | None = None
    create: Key | None = None
    exit: Key | None = None
    remove: Key | None = None
    delete: str | None = None
    write: Write | None = None
    update: Update | None = None
    resize: Resize | None = None
    together: tuple[Step, ...] | None = None
    agent: Literal["restart", "kill"] | None = None
    runtime: Literal["restart"] | None = None
    offline: str | None = None
    online: str | None = None
    while_down: tuple[Step, ...] = ()
    expect_down: dict[Key, Down] = {}
    refused: str | None = None
    expect: dict[Key, Expected] = {}
    pools: dict[Literal["shared", "exclusive", "reserved", "offline"], str] = {}
    drift: Drift | None = None

    def __post_init__(self) -> None:
        if sum(getattr(self, name) is not None for name in ACTIONS) != 1:
            raise ValueError(f"a step has exactly one of {', '.join(ACTIONS)}")
        if (self.while_down or self.expect_down) and self.agent is None:
            raise ValueError("while_down and expect_down go with agent")
        if any(step.judges for step in (*self.while_down, *(self.together or ()))):
            raise ValueError("nothing is expected of a step within a step")

    @property
    def judges(self) -> bool:
        """Whether anything is expected after it."""
        return bool(self.refused or self.expect or self.pools or self.drift)


ACTIONS = (
    "run",
    "create",
    "exit",
    "remove",
    "delete",
    "write",
    "update",
    "resize",
    "together",
    "agent",
    "runtime",
    "offline",
    "online",
)


class Scenario(_Strict, frozen=True, kw_only=True):
    """One file. `covers` are requirements of `docs/prd.md`, `conformance` claims of
    `fixtures/conformance.yaml`; `not_on` says why a ground cannot run it."""

    name: str
    covers: Annotated[tuple[Requirement, ...], msgspec.Meta(min_length=1)]
    conformance: tuple[Claim, ...] = ()
    machine: str = "vm"
    config: dict[str, object] = {}
    not_on: dict[GroundName, str] = {}
    steps: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        there: set[str] = set()
        for step in self.steps:
            for part in (step, *step.while_down, *(step.together or ())):
                _follow(part, there)


def _follow(step: Step, there: set[str]) -> None:
    """Keeps the names of the pods that are there. Raises ValueError where a step cannot be done."""
    if step.run is not None:
        if step.run.pod in there:
            raise ValueError(f"pod {step.run.pod} is run while it is there")
        there.add(step.run.pod)
    if step.delete is not None:
        if step.delete not in there:
            raise ValueError(f"pod {step.delete} is deleted, and is not there")
        there.remove(step.delete)


def load(path: pathlib.Path) -> Scenario:
    """The scenario in a file. Raises msgspec.ValidationError with the place of what is wrong."""
    return msgspec.convert(yaml.load(path.read_text(), Loader=yaml.CSafeLoader), Scenario)


def files() -> list[pathlib.Path]:
    """All scenario files, sorted."""
    return sorted(FOLDER.glob("*.yaml"))


def machine(name: str) -> dict[str, str]:
    """The sysfs texts of a machine of `fixtures/machines`, by path."""
    text = (MACHINES / f"{name}.yaml").read_text()
    return msgspec.convert(yaml.load(text, Loader=yaml.CSafeLoader), dict[str, str])
