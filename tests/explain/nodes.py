"""Small nodes with pods on them, for questions about them. Values; pure."""

from __future__ import annotations

from reconciler import events, intent
from reconciler.config import schema
from reconciler.policy import lifecycle, state
from reconciler.sim import machine
from tests.pipeline import samples

SHAPE = machine.Shape(sockets=2, cores=2, adjacent=True)
"""8 CPUs; the cores are 0-1, 2-3, 4-5 and 6-7, of which each two are a node with a cache."""


def creating(
    pod: str = "db",
    name: str = "main",
    *,
    cpus: int = 0,
    cores: str | None = None,
    forbid: str | None = None,
    attempt: int = 0,
) -> events.ContainerCreating:
    """The creation of a container with a whole limit of `cpus`, in a pod with these annotations."""
    lists = {intent.CORES: cores, intent.FORBID: forbid}
    its_pod = samples.pod(
        pod,
        qos=samples.GUARANTEED if cpus else samples.BURSTABLE,
        annotations={key: text for key, text in lists.items() if text is not None},
    )
    limits = samples.whole(cpus) if cpus else None
    return samples.creating(its_pod, samples.container(its_pod, name, limits=limits, attempt=attempt))


def node(
    *created: events.ContainerCreating,
    online: str = "",
    isolated: str = "",
    config: schema.Config | None = None,
) -> state.State:
    """The node on which these were created, one after the other."""
    now = samples.fresh(SHAPE, online=online, isolated=isolated, config=config)
    for event in created:
        now, _, _ = lifecycle.admit(now, event)
    return now


DB = creating("db", cpus=2)
LISTED = creating("listed", cpus=2, cores="4-5")
NEAR = creating("near", cores="6")
WEB = creating("web")
PICKY = creating("picky", forbid="0,7")
