"""What the creation of a pod would bring: the creation itself, of which only the result is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler import errors, events, intent
from reconciler.explain import choice, container, sentences
from reconciler.policy import desired, lifecycle, moving, state

Document = dict[str, object]

POD = "whatif"
"""Name, UID and sandbox of the pod that is asked about; no pod has such a UID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A pod with one container: `cpus` whole CPUs as limit and request of a Guaranteed pod (0: none, and the
    pod is Burstable), `cores_ids` and `forbid_core_ids` its annotations, None without."""

    namespace: str = "default"
    cpus: int = 0
    cores_ids: str | None = None
    forbid_core_ids: str | None = None

    def event(self) -> events.ContainerCreating:
        """The creation that is asked about."""
        annotations = {intent.CORES: self.cores_ids, intent.FORBID: self.forbid_core_ids}
        pod = events.Pod(
            sandbox=events.SandboxId(POD),
            uid=events.PodUid(POD),
            namespace=self.namespace,
            name=POD,
            annotations={key: text for key, text in annotations.items() if text is not None},
            qos=events.Qos.GUARANTEED if self.cpus else events.Qos.BURSTABLE,
            cgroup=None,
        )
        its = events.Container(
            id=events.ContainerId(POD),
            sandbox=pod.sandbox,
            name=POD,
            cgroup=None,
            limits=_limits(self.cpus),
            phase=events.Phase.CREATING,
        )
        return events.ContainerCreating(pod=pod, container=its)


def _limits(cpus: int) -> events.CpuLimits:
    """As kubelet writes them."""
    if not cpus:
        return events.CpuLimits()
    return events.CpuLimits(
        shares=min(cpus * intent.SHARES_PER_CPU, intent.LARGEST_SHARES),
        quota=cpus * intent.DEFAULT_PERIOD,
        period=intent.DEFAULT_PERIOD,
    )


def document(now: state.State, question: Question) -> Document:
    """What would come of it; `now` stays as it is. Linear in the containers.

    `reason` is the refusal where it is not `admitted`; `cpus` is None then, and for one that would be left
    alone. `moves` are integer containers that would go to other
    CPUs, `follow` the number of others whose CPUs would change, with the pool's.
    """
    event = question.event()
    what = intent.decide(event.pod, event.container, now.terms.config)
    try:
        after, placement, what = lifecycle.admit(now, event)
    except errors.Refused as refused:
        return _refused(now, what, str(refused))
    claim = state.claim_of(after.ledger, event.pod, event.container, what)
    managed = what.kind is not intent.Kind.UNMANAGED
    return {
        "admitted": True,
        "class": what.kind.value,
        "why": what.why,
        "warning": what.warning or None,
        "reason": sentences.reason(after, event.container, what, placement),
        "cpus": str(placement.cpus) if managed else None,
        "mems": None if placement.mems is None else str(placement.mems),
        "exclusive": placement.owner is not None,
        "memory": container.memory(after, placement),
        "choice": choice.document(after, claim) if claim and claim.kind is intent.Kind.INTEGER else None,
        "moves": _moves(now, after),
        "pool": {"before": str(now.pool), "after": str(after.pool)},
        "follow": _following(now, after),
    }


def _refused(now: state.State, what: intent.Intent, why: str) -> Document:
    return {
        "admitted": False,
        "class": what.kind.value,
        "why": what.why,
        "warning": what.warning or None,
        "reason": why,
        "cpus": None,
        "mems": None,
        "exclusive": False,
        "memory": None,
        "choice": None,
        "moves": [],
        "pool": {"before": str(now.pool), "after": str(now.pool)},
        "follow": 0,
    }


def _moves(now: state.State, after: state.State) -> list[Document]:
    return [
        {
            "pod": move.pod,
            "container": move.key.name,
            "from": str(move.before),
            "to": str(move.after),
        }
        for move in moving.moves(now.ledger, after.ledger)
    ]


def _following(now: state.State, after: state.State) -> int:
    """How many containers without a claim of their own would have other CPUs."""
    if now.pool == after.pool:
        return 0
    later = desired.desired(after)
    return sum(
        1
        for id_, placement in desired.desired(now).items()
        if now.ledger.intents[id_].kind is intent.Kind.SHARED and later[id_].cpus != placement.cpus
    )
