"""Whether what a cluster shows is what a scenario says, on whatever machine. Pure.

The pure pipeline plays the scenario on its own machine and so says the class and the number of CPUs of
everyone; the kernel, which `/proc/1/status` in each container quotes, and the agent's status have to agree.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from hack.e2e import selection
from reconciler import inventory
from reconciler.cpu.idset import CpuSet
from tests.scenarios import model

EXCLUSIVE = ("annotated-exclusive", "integer")
Document = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The cluster at one time.

    `status` is the agent's document, `allowed` the kernel's word for each container of the namespace, by
    `POD/CONTAINER`.
    """

    namespace: str
    status: Document
    allowed: Mapping[str, CpuSet]

    def entries(self) -> dict[str, Document]:
        """The status' entries of the namespace, by `POD/CONTAINER`."""
        every = self.status["containers"]
        return {key_of(its): its for its in every if its["namespace"] == self.namespace}


def key_of(entry: Document) -> str:
    """What scenarios call a container."""
    return f"{entry['pod']}/{entry['container']}"


def complaints(model_: Document, pods: Mapping[str, model.Pod], look: Look, before: CpuSet) -> Iterator[str]:
    """Sentences about all that is not so.

    `model_` is the status on the scenario's machine, `pods` its manifests by name, `before` what was in the
    shared and the exclusive pool together before the scenario.
    """
    told = look.entries()
    wanted = {key_of(its): its for its in model_["containers"]}
    if told.keys() != wanted.keys():
        yield f"the agent knows {_names(told)}, and there should be {_names(wanted)}"
    pool = _set(look.status["pools"]["shared"])
    for key in sorted(told.keys() & wanted.keys()):
        pod, _, container = key.partition("/")
        yield from _of_entry(key, told[key])
        if told[key]["observed"] is None:
            continue
        cpus = _set(told[key]["observed"]["effective"])
        # A pause container is under nobody's list.
        forbidden = CpuSet() if container == inventory.PAUSE else selection.forbidden_to(pods[pod])
        yield from _of_class(key, wanted[key], told[key], cpus, pool - forbidden)
        if container != inventory.PAUSE and look.allowed.get(key) != cpus:
            yield f"{key}: the kernel says {look.allowed.get(key, 'nothing')}, the agent {cpus}"
    yield from _of_others(look)
    yield from _of_pools(model_, look, before)


def _of_entry(key: str, told: Document) -> Iterator[str]:
    """The agent's own word."""
    observed = told["observed"]
    if told["state"] != "in-sync" or observed is None:
        yield f"{key}: {told['state']}: {told['reason']}"
    elif not told["desired"]["cpus"] == observed["cpus"] == observed["effective"]:
        yield f"{key}: desired are {told['desired']['cpus']}, and it has {observed}"


def _of_class(key: str, wanted: Document, told: Document, cpus: CpuSet, pool: CpuSet) -> Iterator[str]:
    """Its class, and the CPUs that go with the class."""
    class_, had = wanted["class"], _set(wanted["observed"]["cpus"])
    if told["class"] != class_:
        yield f"{key}: is {told['class']}, and should be {class_}"
    if class_ == "integer" and len(cpus) != len(had):
        yield f"{key}: has {len(cpus)} CPUs ({cpus}), and should have {len(had)}"
    if class_.startswith("annotated") and cpus != had:
        yield f"{key}: has CPUs {cpus}, and its list is {had}"
    if class_ == "shared" and cpus != pool:
        yield f"{key}: has CPUs {cpus}, and what it may use of the shared pool is {pool}"


def _of_others(look: Look) -> Iterator[str]:
    """Nobody may run on the CPUs of an exclusive container, by the agent's word and by the kernel's."""
    present = [entry for entry in look.status["containers"] if entry["observed"] is not None]
    for holder, other in itertools.permutations(present, 2):
        if holder["class"] not in EXCLUSIVE or other["class"] == "unmanaged" or _share_a_list(holder, other):
            continue
        runs_on = _set(other["observed"]["effective"])
        if other["namespace"] == look.namespace:
            runs_on |= look.allowed.get(key_of(other), CpuSet())
        if common := _set(holder["claim"]) & runs_on:
            yield f"{key_of(other)} may run on CPUs {common} of {key_of(holder)}"


def _share_a_list(one: Document, other: Document) -> bool:
    """Whether two containers are of one pod and one annotation."""
    return one["class"] != "integer" and all(
        one[key] == other[key] for key in ("namespace", "pod", "claim", "class")
    )


def _of_pools(model_: Document, look: Look, before: CpuSet) -> Iterator[str]:
    """Nothing leaks: what is not held is shared."""
    pools = look.status["pools"]
    shared, exclusive = _set(pools["shared"]), _set(pools["exclusive"])
    strangers = selection.union(
        _set(its["claim"] or "")
        for its in look.status["containers"]
        if its["namespace"] != look.namespace and its["class"] in EXCLUSIVE
    )
    should = len(_set(model_["pools"]["exclusive"])) + len(strangers)
    if len(exclusive) != should:
        yield f"{should} CPUs should be held exclusively, and it is {exclusive or 'none'}"
    if shared | exclusive != before or not shared.isdisjoint(exclusive):
        yield f"shared are {shared}, exclusive {exclusive}, and together they should be {before}"


def _set(text: str) -> CpuSet:
    return CpuSet.parse(text, what="status")


def _names(entries: Mapping[str, Document]) -> str:
    return ", ".join(sorted(entries)) or "nobody"
