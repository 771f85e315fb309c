"""Who may run on one CPU, what it shares with which others, and whose cpusets have it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler import errors, events, observed
from reconciler.cpu.idset import CpuSet
from reconciler.diff import granted
from reconciler.explain import names
from reconciler.policy import desired, state

Document = dict[str, object]


def document(now: state.State, looks: observed.Observed, cpu: int) -> Document:
    """Who may run on CPU `cpu`, with `looks` as the last looks at the containers.

    Raises Malformed where the node has no such CPU. Linear in the containers.
    """
    machine = now.terms.topology
    if cpu not in machine.online | machine.offline:
        has = f"it has {machine.online | machine.offline}"
        raise errors.Malformed(f"CPU {cpu}", f"this node has no such CPU; {has}")
    return {
        "cpu": cpu,
        "answer": _answer(now, cpu),
        **_state(now, cpu),
        **_place(now, cpu),
        "siblings": [
            {"cpu": other, "answer": _answer(now, other), **_state(now, other)}
            for other in machine.siblings(cpu)
            if other != cpu
        ],
        "containers": list(_containers(now, looks, cpu)),
    }


def _state(now: state.State, cpu: int) -> Document:
    return {
        "online": cpu in now.terms.topology.online,
        "isolated": cpu in now.terms.topology.isolated,
        "reserved": cpu in now.terms.reserved,
        "pool": cpu in now.pool,
        "claims": names.claims_on(now, CpuSet((cpu,))),
    }


def _place(now: state.State, cpu: int) -> Document:
    """Its node, and the CPUs that share its socket, last-level cache and core; None for an offline one."""
    machine = now.terms.topology
    if cpu not in machine.online:
        return {"node": None, "socket": None, "cache": None, "core": None}
    return {
        "node": next(node.id for node in machine.nodes if cpu in node.cpus),
        "socket": next(str(socket) for socket in machine.sockets if cpu in socket),
        "cache": next(str(llc) for llc in machine.llcs if cpu in llc),
        "core": str(machine.siblings(cpu)),
    }


def _answer(now: state.State, cpu: int) -> str:
    """Who may run there, in a clause."""
    claims = names.claims_on(now, CpuSet((cpu,)))
    holders = " and ".join(f"{its['class']} {_holder(its)}" for its in claims)
    if cpu not in now.terms.topology.online:
        return f"nobody: it is offline (held by {holders})" if holders else "nobody: it is offline"
    if any(its["exclusive"] for its in claims):
        return f"{holders}, exclusively"
    if cpu in now.pool:
        also = f", also held by {holders}" if holders else ""
        return f"the shared pool{also}"
    if holders:
        return f"{holders}; not the shared pool: the kernel isolates it"
    return "nobody: the kernel isolates it; an annotation may name it"


def _holder(claim: names.Document) -> str:
    return f"{claim['pod']} container {claim['container']}" if claim["container"] else str(claim["pod"])


def _containers(now: state.State, looks: observed.Observed, cpu: int) -> Iterator[Document]:
    """The containers that should have it, whose `cpuset.cpus` has it, or which the kernel lets run there."""
    for id_, container in sorted(now.inventory.containers.items()):
        what = now.ledger.intents.get(id_)
        if what is None or container.phase is events.Phase.STOPPED:
            continue
        pod = now.pod_of(container)
        look = looks.get(id_)
        has = {
            "desired": cpu in desired.place(now, pod, container, what).cpus,
            "observed": isinstance(look, observed.Present) and cpu in look.outer.cpus,
            "effective": isinstance(look, observed.Present) and cpu in granted(look),
        }
        if any(has.values()):
            yield {
                "id": id_,
                "namespace": pod.namespace,
                "pod": pod.name,
                "container": container.name,
                "class": what.kind.value,
                **has,
            }
