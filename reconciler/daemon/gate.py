"""Whether a container may start: the verdict of a pass on its cgroup and on everyone else's. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler import diff, events, observed, plan, report
from reconciler.policy import desired, state


def verdict(now: state.State, book: report.Book, id_: events.ContainerId) -> str:
    """Why the container must not start, as a sentence, or "". Linear in the containers for an exclusive one.

    One that is to have CPUs for itself must have them; any other must be off everyone else's, but for those
    of its own list where lists may overlap. A container whose cgroup is not where the runtime says is not
    held up: it runs in no cgroup of ours.
    """
    want = desired.desired(now, (id_,)).get(id_)
    look = book.latest.get(id_)
    if want is None or look is None or isinstance(look, observed.Absent):
        return ""
    trouble = book.trouble(id_)
    if want.owner is not None:
        if others := trespassers(now, book, id_):
            names = ", ".join(_name(now, other) for other in others)
            return f"exclusive CPUs {want.cpus} are still used by {names}{_unseen(book, others)}"
        if trouble is not None and not _is_placed(now, want, look):
            return f"exclusive CPUs {want.cpus} could not be given: {trouble[1]}"
        return ""
    if isinstance(look, observed.Present) and look.outer.reach & now.ledger.exclusive <= want.cpus:
        return ""
    reason = "it runs on CPUs that others hold" if trouble is None else trouble[1]
    return f"it could not be confined to {want.cpus}: {reason}"


def _is_placed(now: state.State, want: desired.Placement, look: observed.Look) -> bool:
    """Whether it has its CPUs, though something else is not as it should be: that holds nobody up."""
    return isinstance(look, observed.Present) and diff.placed(want, look, now.terms.topology.online)


def trespassers(
    now: state.State, book: report.Book, id_: events.ContainerId
) -> tuple[events.ContainerId, ...]:
    """Who was last seen on the exclusive CPUs of this container; nobody where it has none."""
    holder = desired.desired(now, (id_,)).get(id_)
    if holder is None or holder.owner is None:
        return ()
    on_them = {other: cpus for other, cpus in book.written().items() if not cpus.isdisjoint(holder.cpus)}
    return plan.trespassers(holder, on_them, desired.desired(now, on_them))


def _unseen(book: report.Book, others: Iterable[events.ContainerId]) -> str:
    """Why the first of these that cannot be looked at cannot: it is where it was last seen."""
    for id_ in others:
        look = book.latest.get(id_)
        if isinstance(look, observed.Unreadable):
            return f", as far as is known: {look.error}"
    return ""


def _name(now: state.State, id_: events.ContainerId) -> str:
    container = now.inventory.containers.get(id_)
    if container is None:
        return id_
    pod = now.pod_of(container)
    return f"{pod.namespace}/{pod.name} container {container.name}"
