"""The ledger of claims, and what it stands on. Values; pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import NamedTuple

from rpds import HashTrieMap

from reconciler import events, intent
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.inventory import Inventory


class ClaimKey(NamedTuple):
    """Who holds a claim: a pod and a container name; the name is "" for an annotation of the whole pod.

    Not a container id: the claim outlives restarts.
    """

    uid: events.PodUid
    name: str


class FormerKey(NamedTuple):
    """A container by its names alone: `pod` is `namespace/name`. A pod that comes again has a new UID."""

    pod: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """CPUs that a container, or a pod by its annotation, holds.

    `pod` is `namespace/name`. `holders` are the container names under an annotation; `forbidden` are CPUs
    that the claim must not be moved to (integer only).
    """

    key: ClaimKey
    kind: intent.Kind
    cpus: CpuSet
    pod: str
    holders: frozenset[str]
    forbidden: CpuSet = CpuSet()

    def at(self, cpus: CpuSet) -> Claim:
        """The same claim on other CPUs."""
        return dataclasses.replace(self, cpus=cpus)

    def held_by(self, holders: frozenset[str]) -> Claim:
        """The same claim under other holders."""
        return dataclasses.replace(self, holders=holders)

    @property
    def namespace(self) -> str:
        """The namespace of the pod."""
        return self.pod.partition("/")[0]

    @property
    def holder(self) -> str:
        """The pod, and the container where the claim is one container's, for sentences."""
        return f"{self.pod} container {self.key.name}" if self.key.name else self.pod

    @property
    def exclusive(self) -> bool:
        """Whether nobody else may run on these CPUs."""
        return self.kind is not intent.Kind.ANNOTATED_SHARED


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Topology and configuration as the sets that decisions need."""

    topology: topologies.Topology
    config: schema.Config
    poolable: CpuSet
    reserved: CpuSet
    min_shared: int
    pin_integer_memory: bool


def terms(topology: topologies.Topology, config: schema.Config) -> Terms:
    """The terms on a node with this topology under this configuration."""
    isolated = topology.isolated if config.isolated_cpus == "exclude" else CpuSet()
    return Terms(
        topology=topology,
        config=config.of_decisions(),
        poolable=topology.online - isolated,
        reserved=config.reserved(),
        min_shared=config.min_shared_cpus,
        pin_integer_memory=config.integer_memory == "pin",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Every intent and claim. `exclusive` and `pinned` are the unions of the two sorts of claims.

    `unsatisfied` says of containers which run without what they are entitled to why that is so. `former` are
    the CPUs of integer containers whose claim has ended, until somebody else claims one of them: a pod of
    the same name that comes again has them back. It has at most as many entries as the node has CPUs.
    """

    intents: HashTrieMap[events.ContainerId, intent.Intent] = field(default_factory=HashTrieMap)
    claims: HashTrieMap[ClaimKey, Claim] = field(default_factory=HashTrieMap)
    unsatisfied: HashTrieMap[events.ContainerId, str] = field(default_factory=HashTrieMap)
    former: HashTrieMap[FormerKey, CpuSet] = field(default_factory=HashTrieMap)
    exclusive: CpuSet = CpuSet()
    pinned: CpuSet = CpuSet()

    def with_intent(self, id_: events.ContainerId, what: intent.Intent) -> Ledger:
        """The ledger that knows this container's intent."""
        return Ledger(
            intents=self.intents.insert(id_, what),
            claims=self.claims,
            unsatisfied=self.unsatisfied,
            former=self.former,
            exclusive=self.exclusive,
            pinned=self.pinned,
        )

    def with_claim(self, claim: Claim) -> Ledger:
        """The ledger with this claim added, or put in the place of the one under the same key."""
        former = self._former_without(claim.cpus) if self.former else self.former
        if claim.key in self.claims:
            return self._with_claims(self.claims.insert(claim.key, claim), former)
        exclusive, pinned = self.exclusive, self.pinned
        if claim.exclusive:
            exclusive |= claim.cpus
        else:
            pinned |= claim.cpus
        return Ledger(
            intents=self.intents,
            claims=self.claims.insert(claim.key, claim),
            unsatisfied=self.unsatisfied,
            former=former,
            exclusive=exclusive,
            pinned=pinned,
        )

    def without_claim(self, key: ClaimKey) -> Ledger:
        """The ledger without the claim under `key`, if there is one."""
        return self._with_claims(self.claims.discard(key), self.former) if key in self.claims else self

    def with_ended(self, key: ClaimKey) -> Ledger:
        """The ledger in which the claim under `key` has ended; an integer container's CPUs are remembered."""
        claim = self.claims.get(key)
        if claim is None or claim.kind is not intent.Kind.INTEGER:
            return self.without_claim(key)
        former = self.former.insert(FormerKey(claim.pod, key.name), claim.cpus)
        return dataclasses.replace(self.without_claim(key), former=former)

    def with_former(self, before: HashTrieMap[FormerKey, CpuSet]) -> Ledger:
        """The ledger that remembers again what it remembered `before`, as far as nobody has had it since."""
        held = self.exclusive | self.pinned
        for cpus in self.former.values():
            held |= cpus
        former = self.former
        for key, cpus in before.items():
            if key not in former and cpus.isdisjoint(held):
                former = former.insert(key, cpus)
        return self if former is self.former else dataclasses.replace(self, former=former)

    def _former_without(self, cpus: CpuSet) -> HashTrieMap[FormerKey, CpuSet]:
        former = self.former
        for key, its in self.former.items():
            if not its.isdisjoint(cpus):
                former = former.remove(key)
        return former

    def without_container(self, id_: events.ContainerId) -> Ledger:
        """The ledger without what is recorded of one attempt; claims stay."""
        if id_ not in self.intents:
            return self
        return dataclasses.replace(
            self, intents=self.intents.remove(id_), unsatisfied=self.unsatisfied.discard(id_)
        )

    def with_unsatisfied(self, id_: events.ContainerId, why: str) -> Ledger:
        """The ledger that reports the container as unsatisfied; `why` "" takes that back."""
        if why:
            return dataclasses.replace(self, unsatisfied=self.unsatisfied.insert(id_, why))
        if id_ not in self.unsatisfied:
            return self
        return dataclasses.replace(self, unsatisfied=self.unsatisfied.remove(id_))

    def _with_claims(
        self, claims: HashTrieMap[ClaimKey, Claim], former: HashTrieMap[FormerKey, CpuSet]
    ) -> Ledger:
        exclusive, pinned = unions(claims)
        return dataclasses.replace(self, claims=claims, former=former, exclusive=exclusive, pinned=pinned)


def unions(claims: HashTrieMap[ClaimKey, Claim]) -> tuple[CpuSet, CpuSet]:
    """The CPUs under exclusive claims and those under shared ones; linear in the number of claims."""
    exclusive = pinned = 0
    for claim in claims.values():
        if claim.exclusive:
            exclusive |= claim.cpus.bits
        else:
            pinned |= claim.cpus.bits
    return CpuSet.from_bits(exclusive), CpuSet.from_bits(pinned)


def overlapping(claims: HashTrieMap[ClaimKey, Claim]) -> CpuSet:
    """The CPUs that more than one claim has, as `annotatedOverlap: allow` lets them; linear in the claims."""
    once = more = 0
    for claim in claims.values():
        more |= once & claim.cpus.bits
        once |= claim.cpus.bits
    return CpuSet.from_bits(more)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that Desired follows from."""

    terms: Terms
    inventory: Inventory = field(default_factory=Inventory)
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def pool(self) -> CpuSet:
        """The shared pool: online CPUs less exclusive claims, kernel-isolated ones apart (PRD 3)."""
        return self.terms.poolable - self.ledger.exclusive

    def pod_of(self, container: events.Container) -> events.Pod:
        """The pod of a container of the inventory."""
        return self.inventory.pods[container.sandbox]


def claim_key(pod: events.Pod, container: events.Container, what: intent.Intent) -> ClaimKey:
    """The key under which a container with this intent holds CPUs."""
    alone = what.kind is intent.Kind.INTEGER or what.own_list
    return ClaimKey(pod.uid, container.name if alone else "")


def former_key(pod: events.Pod, container: events.Container) -> FormerKey:
    """The key under which the former CPUs of a container are remembered."""
    return FormerKey(f"{pod.namespace}/{pod.name}", container.name)


def claim_of(
    ledger: Ledger, pod: events.Pod, container: events.Container, what: intent.Intent
) -> Claim | None:
    """The claim that a container with this intent runs on; None where it is entitled to none or has none."""
    if what.kind in (intent.Kind.SHARED, intent.Kind.UNMANAGED):
        return None
    return ledger.claims.get(claim_key(pod, container, what))
