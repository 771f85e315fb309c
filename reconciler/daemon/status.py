"""The status document: what `cpuset-reconciler status --output json` prints. Pure but for its callers."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler import events, explain, intent, narrowing, observed, plan, report, slices
from reconciler.cpu import bandwidth
from reconciler.cpu.idset import CpuSet
from reconciler.policy import desired, isolation, state

Document = dict[str, object]
STATES = ("in-sync", "pending", "drifted", "unsatisfied", "gone")
UNSETTLED = ("pending", "drifted")
"""States in which the node has not converged."""


def document(now: state.State, book: report.Book, *, mode: str, reason: str, busy: bool) -> Document:
    """The node's status. `busy`: a pass is under way or asked for. Linear in the containers."""
    containers = list(_containers(now, book))
    settled = all(entry["state"] not in UNSETTLED for entry in containers)
    counters = book.counters
    return {
        "mode": mode,
        "reason": reason,
        "converged": settled and not busy,
        "pools": pools(now),
        "overlaps": len(state.overlapping(now.ledger.claims)),
        "containers": containers,
        "host_slices": book.slices.documents(),
        "isolation": {"configured": now.terms.config.isolation, "unavailable": book.isolations.unavailable},
        "drift": {
            "found": counters.found,
            "repaired": counters.repaired,
            "unrepaired": counters.unrepaired,
        },
    }


def pools(now: state.State) -> dict[str, str]:
    """The sets that the node's CPUs are in, as kernel lists."""
    return {name: str(cpus) for name, cpus in sets(now).items()}


def sets(now: state.State) -> dict[str, CpuSet]:
    """The sets that the node's CPUs are in."""
    return {
        "shared": now.pool,
        "exclusive": now.ledger.exclusive,
        "reserved": now.terms.reserved,
        "offline": now.terms.topology.offline,
    }


def _containers(now: state.State, book: report.Book) -> Iterator[dict[str, object]]:
    for container, what in _decided(now):
        yield entry(now, book, container, what)


def _decided(now: state.State) -> Iterator[tuple[events.Container, intent.Intent]]:
    """Every container that runs or may run, and has an intent, by id."""
    for id_ in sorted(now.inventory.containers):
        container = now.inventory.containers[id_]
        what = now.ledger.intents.get(id_)
        if what is not None and container.phase is not events.Phase.STOPPED:
            yield container, what


def census(now: state.State, book: report.Book) -> dict[tuple[str, str], int]:
    """How many containers there are of each class and state that has any, by both names. Linear."""
    counts: dict[tuple[str, str], int] = {}
    for container, what in _decided(now):
        pod = now.pod_of(container)
        want = desired.place(now, pod, container, what)
        key = _class(now, pod, container, what), _state(now, book, container, what, want)[0]
        counts[key] = counts.get(key, 0) + 1
    return counts


def converged(now: state.State, book: report.Book, *, busy: bool) -> bool:
    """Whether nothing is on its way and no container is `pending` or `drifted`."""
    return not busy and all(state_ not in UNSETTLED for _, state_ in census(now, book))


def entry(
    now: state.State, book: report.Book, container: events.Container, what: intent.Intent
) -> dict[str, object]:
    """What the status says of one container with this intent."""
    pod = now.pod_of(container)
    want = desired.place(now, pod, container, what)
    claim = state.claim_of(now.ledger, pod, container, what)
    state_, wrong = _state(now, book, container, what, want)
    return {
        "id": container.id,
        "namespace": pod.namespace,
        "pod": pod.name,
        "container": container.name,
        "class": _class(now, pod, container, what),
        "claim": None if claim is None else str(claim.cpus),
        "desired": {
            "cpus": str(want.cpus),
            "mems": None if want.mems is None else str(want.mems),
            "quotas": {wish.file: str(wish) for wish in want.quotas},
        },
        "observed": _observed(book.latest.get(container.id)),
        "state": state_,
        "reason": wrong or explain.reason(now, container, what, want),
        "conflict": book.fights.document(container.id),
        "unenforceable": _unenforceable(now, book, container, want),
        "isolation": _isolation(now, book, container, what),
    }


def _unenforceable(
    now: state.State, book: report.Book, container: events.Container, want: desired.Placement
) -> dict[str, object] | None:
    """What of the placement the kernel does not grant; None where it grants all."""
    online = now.terms.topology.online
    what = book.unenforceable(container.id) or narrowing.offline(want, online)
    return None if what is None else what.document()


def _isolation(
    now: state.State, book: report.Book, container: events.Container, what: intent.Intent
) -> dict[str, str] | None:
    """How others are kept off its exclusive CPUs; None for one that has none."""
    wish = isolation.wish(now, container, what)
    if wish is None:
        return None
    has = book.isolations.level(container.id)
    missing = "" if has == wish.level else book.isolations.reason(container.id) or "it is being made"
    return {"wanted": wish.asked, "has": has, "reason": wish.why or missing}


def _class(now: state.State, pod: events.Pod, container: events.Container, what: intent.Intent) -> str:
    claim = state.claim_of(now.ledger, pod, container, what)
    return (what.kind if claim is None else claim.kind).value


def _observed(look: observed.Look | None) -> dict[str, object] | None:
    if not isinstance(look, observed.Present):
        return None
    granted = look.outer if look.inner is None else look.inner
    return {
        "cpus": str(look.outer.cpus),
        "mems": str(look.outer.mems),
        "effective": str(granted.effective_cpus),
        "quotas": {its.file: _has(look, its.file) for its in look.quotas},
    }


def _state(
    now: state.State,
    book: report.Book,
    container: events.Container,
    what: intent.Intent,
    want: desired.Placement,
) -> tuple[str, str]:
    """The state's name, and what is wrong, or "" where the reason of the placement says all there is."""
    if trouble := book.trouble(container.id):
        cause, error = trouble
        return ("pending" if cause.value == "pending" else "drifted"), error
    if what.kind is intent.Kind.UNMANAGED:
        return "in-sync", ""
    look = book.latest.get(container.id)
    if isinstance(look, observed.Absent) and container.phase is events.Phase.RUNNING:
        return "gone", "the container has no cgroup any more; the runtime has not said so yet"
    if book.confirmed.get(container.id) == want:
        return ("unsatisfied" if explain.shortfall(now, container, what) else "in-sync"), ""
    if container.cgroup is None:
        return "gone", "the runtime keeps this container in no cgroup of this host"
    # Without a CPU of the pool online there is nothing to write.
    return "pending" if want.cpus else "unsatisfied", ""


def owner(now: state.State, id_: events.ContainerId) -> dict[str, str]:
    """Whose container this is, as log fields."""
    container = now.inventory.containers.get(id_)
    if container is None:
        name = slices.named(id_)
        return {"id": id_} if name is None else {"slice": name}
    return names(now.pod_of(container), container)


def names(pod: events.Pod, container: events.Container) -> dict[str, str]:
    """What a container is called, as log fields."""
    return {"id": container.id, "namespace": pod.namespace, "pod": pod.name, "container": container.name}


def plan_document(now: state.State, looks: observed.Observed, steps: plan.Plan) -> Document:
    """What a pass would write: what `cpuset-reconciler plan --output json` prints."""
    return {
        "containers": len(looks),
        "pools": pools(now),
        "writes": [
            {
                **owner(now, step.container),
                "file": step.file,
                "observed": _has(looks.get(step.container), step.file),
                "text": step.text,
                "phase": step.phase.value,
            }
            for step in steps
        ],
    }


def _has(look: observed.Look | None, file: str) -> str:
    if not isinstance(look, observed.Present):
        return ""
    if file.endswith(bandwidth.FILE):
        says = look.says(file)
        return str(says) if isinstance(says, bandwidth.Bandwidth) else ""
    inner = file.startswith(f"{observed.INNER}/")
    cpuset = look.inner if inner and look.inner is not None else look.outer
    return str(cpuset.cpus if file.endswith(observed.CPUS) else cpuset.mems)
