"""The ledger as a document that outlives the agent. Pure: values to bytes, and back.

Version 1, JSON. CPUs are kernel lists. A document of an older version is brought up to date by `UPGRADES`,
one version at a time; what is written is always of the newest. PRD 6.7.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from rpds import HashTrieMap

from reconciler import errors, events, intent
from reconciler.cpu.idset import CpuSet
from reconciler.policy import state

VERSION = 1
LIMIT = 16 << 20
"""Bytes of the largest document that is read; 1000 containers take a few hundred thousand."""

_Raw = dict[str, object]
UPGRADES: Mapping[int, Callable[[_Raw], _Raw]] = {}
"""For each older version, what makes a document of it one of the next version."""

Reason = Literal["damaged", "newer", "foreign"]
_Count = Annotated[int, msgspec.Meta(ge=0, le=CpuSet.LIMIT)]
_Shares = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Unusable(errors.Malformed):
    """A checkpoint that is set aside; `reason` says what is the matter with it in a word."""

    def __init__(self, what: str, why: str, *, reason: Reason = "damaged") -> None:
        super().__init__(what, why)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where and when a checkpoint was made; "" is what could not be read.

    `machine` is the host's machine-id(5), `boot` the kernel's boot id.
    """

    machine: str = ""
    boot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a checkpoint says. `online` are the CPUs that were online; `shares` are the CPU shares that
    kubelet had asked for, by container."""

    origin: Origin
    online: CpuSet = CpuSet()
    ledger: state.Ledger
    shares: Mapping[events.ContainerId, int] = field(default_factory=dict)


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    pass


class _Claim(_Strict, frozen=True, kw_only=True):
    uid: str
    name: str = ""
    kind: intent.Kind
    cpus: str
    pod: str
    holders: Annotated[list[str], msgspec.Meta(min_length=1)]
    forbidden: str = ""


class _Container(_Strict, frozen=True, kw_only=True):
    kind: intent.Kind
    cpus: str = ""
    own_list: bool = False
    count: _Count = 0
    forbidden: str = ""
    why: str
    refusal: str = ""
    warning: str = ""
    unsatisfied: str = ""
    shares: _Shares | None = None


class _Former(_Strict, frozen=True, kw_only=True):
    pod: str
    name: str
    cpus: str


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: int
    machine: str
    boot: str
    online: str
    claims: list[_Claim]
    former: list[_Former]
    containers: dict[str, _Container]


_ENCODER = msgspec.json.Encoder()
_BATCH = 32
"""Containers that come in one piece: about 0.1 ms of work."""


def encode(now: state.State, origin: Origin) -> Iterator[bytes]:
    """The document about this state, one line, in pieces that each take little work.

    Linear in the containers; between two pieces others can have the interpreter.
    """
    ledger = now.ledger
    document = _Document(
        version=VERSION,
        machine=origin.machine,
        boot=origin.boot,
        online=str(now.terms.topology.online),
        claims=[_claim(claim) for claim in ledger.claims.values()],
        former=[_Former(pod=key.pod, name=key.name, cpus=str(its)) for key, its in ledger.former.items()],
        containers={},
    )
    yield _ENCODER.encode(document)[: -len(b"}}")]
    comma = b""
    left = iter(ledger.intents.items())
    while batch := list(itertools.islice(left, _BATCH)):
        containers = {id_: _container(now, id_, what) for id_, what in batch}
        yield comma + _ENCODER.encode(containers)[1:-1]
        comma = b","
    yield b"}}\n"


def _claim(claim: state.Claim) -> _Claim:
    return _Claim(
        uid=claim.key.uid,
        name=claim.key.name,
        kind=claim.kind,
        cpus=str(claim.cpus),
        pod=claim.pod,
        holders=sorted(claim.holders),
        forbidden=str(claim.forbidden),
    )


def _container(now: state.State, id_: events.ContainerId, what: intent.Intent) -> _Container:
    container = now.inventory.containers.get(id_)
    shares = None if container is None else container.limits.shares
    return _Container(
        kind=what.kind,
        cpus=str(what.cpus),
        own_list=what.own_list,
        count=what.count,
        forbidden=str(what.forbidden),
        why=what.why,
        refusal=what.refusal,
        warning=what.warning,
        unsatisfied=now.ledger.unsatisfied.get(id_, ""),
        shares=None if shares is None or shares < 0 else shares,
    )


def decode(
    text: bytes, *, machine: str = "", upgrades: Mapping[int, Callable[[_Raw], _Raw]] = UPGRADES
) -> Saved:
    """What a document says. `machine` is the id of the host that reads it, "" if it has none.

    Raises Unusable, with the position of the fault, for whatever is no such document, is of a version that
    is not known, or comes from another machine.
    """
    if len(text) > LIMIT:
        raise Unusable("checkpoint", f"has {len(text)} bytes, more than {LIMIT}")
    try:
        saved = _saved(msgspec.convert(_current(msgspec.json.decode(text), upgrades), _Document))
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Unusable("checkpoint", str(error)) from error
    except Unusable:
        raise
    except errors.Malformed as error:
        raise Unusable(error.what, error.why) from error
    if machine and saved.origin.machine not in ("", machine):
        raise Unusable("checkpoint", f"was made on machine {saved.origin.machine}", reason="foreign")
    return saved


def _current(raw: object, upgrades: Mapping[int, Callable[[_Raw], _Raw]]) -> object:
    """The document in the newest version."""
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


def _saved(document: _Document) -> Saved:
    claims: HashTrieMap[state.ClaimKey, state.Claim] = HashTrieMap(_claims_of(document))
    exclusive, pinned = state.unions(claims)
    containers = {events.ContainerId(id_): its for id_, its in document.containers.items()}
    return Saved(
        origin=Origin(machine=document.machine, boot=document.boot),
        online=_cpus(document.online, "checkpoint $.online"),
        ledger=state.Ledger(
            intents=HashTrieMap({id_: _intent_of(its, id_) for id_, its in containers.items()}),
            claims=claims,
            unsatisfied=HashTrieMap(
                {id_: its.unsatisfied for id_, its in containers.items() if its.unsatisfied}
            ),
            former=HashTrieMap(_former_of(document)),
            exclusive=exclusive,
            pinned=pinned,
        ),
        shares={id_: its.shares for id_, its in containers.items() if its.shares is not None},
    )


def _claims_of(document: _Document) -> dict[state.ClaimKey, state.Claim]:
    claims: dict[state.ClaimKey, state.Claim] = {}
    for index, its in enumerate(document.claims):
        claim = _claim_of(its, f"checkpoint $.claims[{index}]")
        if claim.key in claims:
            raise Unusable(f"checkpoint $.claims[{index}]", f"{claim.holder} has another claim already")
        claims[claim.key] = claim
    return claims


def _former_of(document: _Document) -> dict[state.FormerKey, CpuSet]:
    return {
        state.FormerKey(its.pod, its.name): _some_cpus(its.cpus, f"checkpoint $.former[{index}].cpus")
        for index, its in enumerate(document.former)
    }


def _claim_of(its: _Claim, where: str) -> state.Claim:
    if its.kind not in intent.CLAIMING:
        raise Unusable(f"{where}.kind", f"{its.kind.value} holds no CPUs")
    return state.Claim(
        key=state.ClaimKey(events.PodUid(its.uid), its.name),
        kind=its.kind,
        cpus=_some_cpus(its.cpus, f"{where}.cpus"),
        pod=its.pod,
        holders=frozenset(its.holders),
        forbidden=_cpus(its.forbidden, f"{where}.forbidden"),
    )


def _intent_of(its: _Container, id_: str) -> intent.Intent:
    where = f"checkpoint $.containers[{id_[:64]!r}]"
    return intent.Intent(
        kind=its.kind,
        cpus=_cpus(its.cpus, f"{where}.cpus"),
        own_list=its.own_list,
        count=its.count,
        forbidden=_cpus(its.forbidden, f"{where}.forbidden"),
        why=its.why,
        refusal=its.refusal,
        warning=its.warning,
    )


def _cpus(text: str, where: str) -> CpuSet:
    return CpuSet.parse(text, what=where)


def _some_cpus(text: str, where: str) -> CpuSet:
    cpus = _cpus(text, where)
    if not cpus:
        raise Unusable(where, "is empty")
    return cpus
