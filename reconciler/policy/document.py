"""The format of a checkpoint: its keys, its versions, and how an older one is brought up to date. Pure.

JSON; CPUs are kernel lists. What the values mean, and what of them can be right, is `checkpoint`'s matter.

1: claims, former CPUs, and what each container is entitled to, by its id.
2: also what pods and containers are called, for a start at which no runtime answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import msgspec

from reconciler import errors, events, intent

VERSION = 2

Raw = dict[str, object]
Reason = Literal["damaged", "newer", "foreign"]

_Positive = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Number = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class Unusable(errors.Malformed):
    """A checkpoint that is set aside; `reason` says what is the matter with it in a word."""

    def __init__(self, what: str, why: str, *, reason: Reason = "damaged") -> None:
        super().__init__(what, why)
        self.reason: Reason = reason


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    pass


class Claim(_Strict, frozen=True, kw_only=True):
    """As `state.Claim`."""

    uid: str
    name: str = ""
    kind: intent.Kind
    cpus: str
    pod: str
    holders: Annotated[list[str], msgspec.Meta(min_length=1)]
    forbidden: str = ""


class Pod(_Strict, frozen=True, kw_only=True):
    """As `events.Pod`, without its cgroup: that is found by the ids in it."""

    uid: str
    namespace: str
    name: str
    qos: events.Qos
    annotations: dict[str, str] = {}


class Container(_Strict, frozen=True, kw_only=True):
    """What a container is entitled to, as `intent.Intent`, why it has it not, what kubelet asked for, and
    what it is called. A pause container has no name: its sandbox has its id. `cgroup` is said only of those
    that may hold a claim, which ends with the last process in it, and of those that linger."""

    kind: intent.Kind
    cpus: str = ""
    own_list: bool = False
    count: _Positive = 0
    forbidden: str = ""
    why: str
    refusal: str = ""
    warning: str = ""
    unsatisfied: str = ""
    shares: _Positive | None = None
    quota: _Number | None = None
    period: _Number | None = None
    sandbox: str = ""
    name: str = ""
    cgroup: str = ""


class Former(_Strict, frozen=True, kw_only=True):
    """CPUs that a pod and container of these names had."""

    pod: str
    name: str
    cpus: str


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of it. `pods` go by their sandboxes, `nodes` are the CPUs of each NUMA node."""

    version: int
    machine: str
    boot: str
    online: str
    nodes: dict[str, str]
    claims: list[Claim]
    former: list[Former]
    pods: dict[str, Pod]
    containers: dict[str, Container]


def _without_names(raw: Raw) -> Raw:
    """Version 1 as version 2: it knows neither names nor the layout of the machine."""
    return {**raw, "pods": {}, "nodes": {}}


UPGRADES: Mapping[int, Callable[[Raw], Raw]] = {1: _without_names}
"""For each older version, what makes a document of it one of the next version."""


def parsed(text: bytes, upgrades: Mapping[int, Callable[[Raw], Raw]]) -> Document:
    """The document in the newest version. Raises Unusable, with the position of the fault."""
    try:
        return msgspec.convert(_current(msgspec.json.decode(text), upgrades), Document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Unusable("checkpoint", str(error)) from error


def _current(raw: object, upgrades: Mapping[int, Callable[[Raw], Raw]]) -> object:
    if not isinstance(raw, dict):
        raise Unusable("checkpoint", "is no JSON object")
    version = raw.get("version")
    if type(version) is not int or version < 1:
        raise Unusable("checkpoint $.version", "is no number of at least 1")
    newest = max([VERSION, *(older + 1 for older in upgrades)])
    if version > newest:
        raise Unusable(
            "checkpoint $.version", f"{version} is newer than {newest}, which is known", reason="newer"
        )
    while version in upgrades:
        raw = upgrades[version](raw)
        version += 1
    return {**raw, "version": version}
