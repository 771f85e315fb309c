"""The ledger, and who is who on the node, as a document that outlives the agent. Pure: values to bytes, back.

A document of an older version is brought up to date, one version at a time; what is written is always of the
newest. The format is `document`'s matter. PRD 6.7.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
from rpds import HashTrieMap

from reconciler import errors, events, intent, inventory
from reconciler.cpu.idset import CpuSet
from reconciler.policy import document, state

VERSION = document.VERSION
Unusable = document.Unusable
LIMIT = 16 << 20
"""Bytes of the largest document that is read; 1000 pods take a few hundred thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where and when a checkpoint was made; "" is what could not be read.

    `machine` is the host's machine-id(5), `boot` the kernel's boot id.
    """

    machine: str = ""
    boot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a checkpoint says.

    `online` are the CPUs that were online, `nodes` those of each NUMA node, empty where it does not say;
    `shares` are the CPU shares that kubelet had asked for, by container. `inventory` is who was on the node,
    as far as that is remembered: names, annotations and limits, and the cgroups of those that may hold claims
    or linger.
    """

    origin: Origin
    online: CpuSet = CpuSet()
    nodes: Mapping[int, CpuSet] = field(default_factory=dict)
    ledger: state.Ledger
    shares: Mapping[events.ContainerId, int] = field(default_factory=dict)
    inventory: inventory.Inventory = field(default_factory=inventory.Inventory)


_ENCODER = msgspec.json.Encoder()
_BATCH = 32
"""Containers, or pods, that come in one piece: about 0.1 ms of work."""
_END = b'"pods":{},"containers":{}}'


def encode(now: state.State, origin: Origin) -> Iterator[bytes]:
    """The document about this state, one line, in pieces that each take little work.

    Linear in the containers; between two pieces others can have the interpreter.
    """
    ledger = now.ledger
    head = document.Document(
        version=VERSION,
        machine=origin.machine,
        boot=origin.boot,
        online=str(now.terms.topology.online),
        nodes={str(node.id): str(node.cpus) for node in now.terms.topology.nodes},
        claims=[_claim(claim) for claim in ledger.claims.values()],
        former=[
            document.Former(pod=key.pod, name=key.name, cpus=str(its)) for key, its in ledger.former.items()
        ],
        pods={},
        containers={},
    )
    yield _ENCODER.encode(head).removesuffix(_END) + b'"pods":{'
    yield from _in_pieces((id_, _pod(pod)) for id_, pod in now.inventory.pods.items())
    yield b'},"containers":{'
    yield from _in_pieces((id_, _container(now, id_, what)) for id_, what in ledger.intents.items())
    yield b"}}\n"


def _in_pieces(entries: Iterator[tuple[str, document.Pod | document.Container]]) -> Iterator[bytes]:
    """The inside of a JSON object."""
    comma = b""
    while batch := list(itertools.islice(entries, _BATCH)):
        yield comma + _ENCODER.encode(dict(batch))[1:-1]
        comma = b","


def _claim(claim: state.Claim) -> document.Claim:
    return document.Claim(
        uid=claim.key.uid,
        name=claim.key.name,
        kind=claim.kind,
        cpus=str(claim.cpus),
        pod=claim.pod,
        holders=sorted(claim.holders),
        forbidden=str(claim.forbidden),
    )


def _pod(pod: events.Pod) -> document.Pod:
    return document.Pod(
        uid=pod.uid, namespace=pod.namespace, name=pod.name, qos=pod.qos, annotations=dict(pod.annotations)
    )


_NOBODY = events.Container(
    id=events.ContainerId(""),
    sandbox=events.SandboxId(""),
    name="",
    cgroup=None,
    limits=events.CpuLimits(),
    phase=events.Phase.STOPPED,
)


def _container(now: state.State, id_: events.ContainerId, what: intent.Intent) -> document.Container:
    known = now.inventory.containers.get(id_, _NOBODY)
    is_pause = known.name == inventory.PAUSE
    limits = known.limits
    keeps_cgroup = what.kind in intent.CLAIMING or id_ in now.inventory.leftovers.lingering
    return document.Container(
        kind=what.kind,
        cpus=str(what.cpus),
        own_list=what.own_list,
        count=what.count,
        forbidden=str(what.forbidden),
        why=what.why,
        refusal=what.refusal,
        warning=what.warning,
        unsatisfied=now.ledger.unsatisfied.get(id_, ""),
        shares=None if limits.shares is None or limits.shares < 0 else limits.shares,
        quota=limits.quota,
        period=limits.period,
        sandbox="" if is_pause else known.sandbox,
        name="" if is_pause else known.name,
        cgroup=(known.cgroup or "") if keeps_cgroup else "",
    )


def decode(
    text: bytes,
    *,
    machine: str = "",
    upgrades: Mapping[int, Callable[[document.Raw], document.Raw]] = document.UPGRADES,
) -> Saved:
    """What a document says. `machine` is the id of the host that reads it, "" if it has none.

    Raises Unusable, with the position of the fault, for whatever is no such document, is of a version that
    is not known, or comes from another machine.
    """
    if len(text) > LIMIT:
        raise Unusable("checkpoint", f"has {len(text)} bytes, more than {LIMIT}")
    try:
        saved = _saved(document.parsed(text, upgrades))
    except Unusable:
        raise
    except errors.Malformed as error:
        raise Unusable(error.what, error.why) from error
    if machine and saved.origin.machine not in ("", machine):
        raise Unusable("checkpoint", f"was made on machine {saved.origin.machine}", reason="foreign")
    return saved


def _saved(its: document.Document) -> Saved:
    claims: HashTrieMap[state.ClaimKey, state.Claim] = HashTrieMap(_claims_of(its))
    exclusive, pinned = state.unions(claims)
    containers = {events.ContainerId(id_): entry for id_, entry in its.containers.items()}
    return Saved(
        origin=Origin(machine=its.machine, boot=its.boot),
        online=_cpus(its.online, "checkpoint $.online"),
        nodes=_nodes_of(its),
        ledger=state.Ledger(
            intents=HashTrieMap({id_: _intent_of(entry, id_) for id_, entry in containers.items()}),
            claims=claims,
            unsatisfied=HashTrieMap(
                {id_: entry.unsatisfied for id_, entry in containers.items() if entry.unsatisfied}
            ),
            former=HashTrieMap(_former_of(its)),
            exclusive=exclusive,
            pinned=pinned,
        ),
        shares={id_: entry.shares for id_, entry in containers.items() if entry.shares is not None},
        inventory=_inventory_of(its),
    )


def _nodes_of(its: document.Document) -> dict[int, CpuSet]:
    nodes = {}
    for id_, text in its.nodes.items():
        if not (id_.isascii() and id_.isdecimal() and len(id_) <= 4):
            raise Unusable("checkpoint $.nodes", f"{id_[:64]!r} is no NUMA node")
        nodes[int(id_)] = _cpus(text, f"checkpoint $.nodes[{id_}]")
    return nodes


def _inventory_of(its: document.Document) -> inventory.Inventory:
    """The pods, and those of the containers whose pod is known."""
    pods = {
        events.SandboxId(id_): events.Pod(
            sandbox=events.SandboxId(id_),
            uid=events.PodUid(entry.uid),
            namespace=entry.namespace,
            name=entry.name,
            annotations=entry.annotations,
            qos=entry.qos,
            cgroup=None,
        )
        for id_, entry in its.pods.items()
    }
    containers = {
        events.ContainerId(id_): events.Container(
            id=events.ContainerId(id_),
            sandbox=events.SandboxId(entry.sandbox),
            name=entry.name,
            cgroup=entry.cgroup or None,
            limits=events.CpuLimits(shares=entry.shares, quota=entry.quota, period=entry.period),
            phase=events.Phase.RUNNING,
        )
        for id_, entry in its.containers.items()
        if entry.name and entry.sandbox in pods
    }
    members: dict[events.SandboxId, frozenset[events.ContainerId]] = {}
    for container in containers.values():
        members[container.sandbox] = members.get(container.sandbox, frozenset()) | {container.id}
    return inventory.Inventory(
        pods=HashTrieMap(pods), containers=HashTrieMap(containers), members=HashTrieMap(members)
    )


def _claims_of(whole: document.Document) -> dict[state.ClaimKey, state.Claim]:
    claims: dict[state.ClaimKey, state.Claim] = {}
    for index, its in enumerate(whole.claims):
        claim = _claim_of(its, f"checkpoint $.claims[{index}]")
        if claim.key in claims:
            raise Unusable(f"checkpoint $.claims[{index}]", f"{claim.holder} has another claim already")
        claims[claim.key] = claim
    return claims


def _former_of(whole: document.Document) -> dict[state.FormerKey, CpuSet]:
    return {
        state.FormerKey(its.pod, its.name): _some_cpus(its.cpus, f"checkpoint $.former[{index}].cpus")
        for index, its in enumerate(whole.former)
    }


def _claim_of(its: document.Claim, where: str) -> state.Claim:
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


def _intent_of(its: document.Container, id_: str) -> intent.Intent:
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
