"""The preferences that decided which CPUs an integer container has. Pure.

What was free when a claim was made is not kept. So its CPUs are judged by what is free now, its own
included, beside what would be chosen in their stead: anew, and without the cores, caches or nodes that it
is on.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.cpu.idset import CpuSet
from reconciler.policy import integer, placement, state

Document = dict[str, object]

PREFERENCES = {
    "nodes": "NUMA nodes",
    "distance": "distance between them",
    "caches": "last-level caches",
    "split": "CPUs on cores it has not whole",
    "broken": "free cores broken up",
    "new": "CPUs it does not hold already",
    "cpu_0": "CPU 0",
    "node_room": "free CPUs of these nodes",
    "cache_room": "free CPUs of these caches",
    "node_set": "lower nodes",
    "cache_set": "emptier caches, lower ones",
    "core_0": "the core of CPU 0",
    "unfinished": "used cores left unfinished",
    "cpus": "lower CPUs",
}
"""The fields of `placement.Score` in words, most important first; less is better."""

_SETS = frozenset({"node_set", "cache_set", "cpus"})
"""Fields that are sets: they order choices that are equally good, and as numbers they say nothing."""


def document(now: state.State, claim: state.Claim) -> Document:
    """The score of an integer claim's CPUs, and of what would be chosen in their stead.

    `among` are the CPUs of the choice. Of each other choice, `decided_by` is the first preference in which
    the two differ, and `better` whether the other one is better in it: then something was free for a while
    that is not now, or the other way round. At most four searches.
    """
    machine = now.terms.topology
    chosen = claim.cpus & machine.online
    among = integer.free(now, claim.forbidden) | chosen
    score = placement.score(machine, among, chosen)
    return {
        "among": str(among),
        "cpus": str(chosen),
        "score": _numbers(score),
        "others": [
            {
                "cpus": str(cpus),
                "how": how,
                "score": _numbers(its),
                "decided_by": _first_difference(score, its),
                "better": its < score,
            }
            for how, cpus in _others(now, among, chosen)
            for its in (placement.score(machine, among, cpus),)
        ],
    }


def _others(now: state.State, among: CpuSet, chosen: CpuSet) -> Iterator[tuple[str, CpuSet]]:
    """Other choices, each one once."""
    machine = now.terms.topology
    seen = {chosen}
    for how, groups in (
        ("chosen anew", ()),
        ("on other cores", machine.cores),
        ("on other caches", machine.llcs),
        ("on other nodes", tuple(node.cpus for node in machine.nodes)),
    ):
        room = among
        for group in groups:
            if not group.isdisjoint(chosen):
                room -= group
        cpus = placement.choose(machine, room, len(chosen)) if chosen else None
        if cpus is not None and cpus not in seen:
            seen.add(cpus)
            yield how, cpus


def _first_difference(one: placement.Score, other: placement.Score) -> str:
    fields = zip(placement.Score._fields, one, other, strict=True)
    return next(name for name, its, others in fields if its != others)


def _numbers(score: placement.Score) -> dict[str, int]:
    return {name: value for name, value in score._asdict().items() if name not in _SETS}
