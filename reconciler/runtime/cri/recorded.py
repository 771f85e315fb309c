"""Everything that the runtime has on record, once: who is on the node, and which cpuset each is to have.

On asyncio. The record is that of `records`: what the runtime writes back with each update.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler import errors, events, giving_back
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.runtime import conversion
from reconciler.runtime.cri import client as clients
from reconciler.runtime.cri import info, poller


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The runtime's list, and the records of its containers and pause containers."""

    everyone: events.Synchronized
    records: dict[events.ContainerId, giving_back.Record]


async def read(client: clients.Client, complain: conversion.Complain) -> Recorded:
    """What is on record now, one call after another. Who vanishes meanwhile, or whose record cannot be
    read, has none; `complain` is told of the latter.

    Raises as `client.Client` does where the lists cannot be had or a call is not answered.
    """
    version = await client.version()
    news = await poller.Poller(client, complain, version.runtime_name).poll()
    everyone = next(event for event in news if isinstance(event, events.Synchronized))
    records: dict[events.ContainerId, giving_back.Record] = {}
    paused = [events.ContainerId(pod.sandbox) for pod in everyone.pods if pod.cgroup is not None]
    for ids, ask in ((paused, _of_sandbox), ([its.id for its in everyone.containers], _of_container)):
        for id_ in ids:
            try:
                records[id_] = await ask(client, id_)
            except errors.Gone:
                continue
            except errors.Refused as error:
                complain(errors.Malformed(f"record of {id_}", str(error)))
            except errors.Malformed as error:
                complain(error)
    return Recorded(everyone=everyone, records=records)


async def _of_sandbox(client: clients.Client, id_: str) -> giving_back.Record:
    cpu = info.parse((await client.sandbox_status(id_, verbose=True)).info).cpu
    return _record(cpu.cpus or "", cpu.mems or "")


async def _of_container(client: clients.Client, id_: str) -> giving_back.Record:
    answer = await client.container_status(id_, verbose=True)
    cpu, linux = info.parse(answer.info).cpu, answer.status.resources.linux
    return _record(cpu.cpus or linux.cpuset_cpus, cpu.mems or linux.cpuset_mems)


def _record(cpus: str, mems: str) -> giving_back.Record:
    return giving_back.Record(
        cpus=CpuSet.parse(cpus, what="cpuset on record"),
        mems=NodeSet.parse(mems, what="memory nodes on record"),
    )
