"""The questions that the API answers, and what each takes. Looks things up; `explain` and `status` answer. On
asyncio.

What takes long on a large node is answered in a thread, from the state of that moment: no hook waits for it.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec

from reconciler import errors, events, report
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import agent, api, archived, archiving, exposition, metrics, passes, saving, status
from reconciler.explain import container, cpu, names, whatif
from reconciler.policy import state

_CpuId = Annotated[int, msgspec.Meta(ge=0, lt=CpuSet.LIMIT)]
_CpuCount = Annotated[int, msgspec.Meta(ge=1, le=CpuSet.LIMIT)]
_Namespace = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]


class Explain(api.Request, frozen=True):
    """Either why a container has its CPUs, by a name that `names.find` knows, or who may run on a CPU."""

    container: str | None = None
    cpu: _CpuId | None = None

    def __post_init__(self) -> None:
        if (self.container is None) == (self.cpu is None):
            raise ValueError("give either `container` or `cpu`")


class Whatif(api.Request, frozen=True):
    """A pod with one container, as `whatif.Question` has it; at least one of its CPU keys."""

    namespace: _Namespace = "default"
    cpus: _CpuCount | None = None
    cores_ids: str | None = None
    forbid_core_ids: str | None = None

    def __post_init__(self) -> None:
        if self.cpus is None and self.cores_ids is None and self.forbid_core_ids is None:
            raise ValueError("give at least one of `cpus`, `cores_ids`, `forbid_core_ids`")


class Drifts(api.Request, frozen=True):
    """Drifts as `archived.Query` has it; `pod` is `NAMESPACE/NAME`."""

    since: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    pod: Annotated[str, msgspec.Meta(pattern=r"^[^/]+/[^/]+$(?!\n)", max_length=400)] | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0


def answers(  # noqa: PLR0913  who knows what
    its_agent: agent.Agent,
    its_passes: passes.Passes,
    book: report.Book,
    saver: saving.Saver | None = None,
    sources: metrics.Sources | None = None,
    *,
    drifts: archiving.Archiving | None = None,
    contained: str | None = None,
) -> api.Answers:
    """The answers of a running agent, by the names of the requests. Without `sources` there are no metrics,
    and the status does not say whether the node is served; without `drifts` there is no history.
    `contained` is the cgroup that is written instead of the agent's own, where that may not be."""

    async def answer_status(_: api.Request) -> api.Document:
        its = status.document(
            its_agent.state, book, mode=its_agent.mode, reason=its_agent.reason, busy=its_agent.busy
        )
        served = {} if sources is None else _served(sources)
        kept = {
            "contained": contained,
            "checkpoint": None if saver is None else saver.document(),
            "history": None if drifts is None else drifts.document(),
        }
        return {**its, **served, **kept}

    async def answer_plan(_: api.Request) -> api.Document:
        looks, steps = await its_passes.preview()
        return status.plan_document(its_agent.state, looks, steps)

    async def answer_explain(asked: Explain) -> api.Document:
        now, note = its_agent.state, _note(its_agent)
        if asked.cpu is not None:
            told = await asyncio.to_thread(cpu.document, now, book.latest, asked.cpu)
        else:
            told = await asyncio.to_thread(_container, now, book, asked.container or "")
        return {**told, "note": note}

    async def answer_whatif(asked: Whatif) -> api.Document:
        question = whatif.Question(
            namespace=asked.namespace,
            cpus=asked.cpus or 0,
            cores_ids=asked.cores_ids,
            forbid_core_ids=asked.forbid_core_ids,
        )
        now, note = its_agent.state, _note(its_agent)
        return {**await asyncio.to_thread(whatif.document, now, question), "note": note}

    async def answer_metrics(_: api.Request) -> api.Document:
        if sources is None:
            raise errors.Retryable("this agent has no metrics")
        return {"text": (await exposition.text(sources)).decode()}

    async def answer_drifts(asked: Drifts) -> api.Document:
        if drifts is None:
            raise errors.Retryable("this agent keeps no history")
        query = archived.Query(since=asked.since, pod=asked.pod, after=asked.after)
        page = await drifts.answer(query)
        return {"drifts": page.rows, "more": page.more, "note": drifts.document()["reason"] or None}

    return {
        "drifts": api.Answer(Drifts, answer_drifts),
        "metrics": api.Answer(api.Request, answer_metrics),
        "status": api.Answer(api.Request, answer_status),
        "plan": api.Answer(api.Request, answer_plan),
        "explain": api.Answer(Explain, answer_explain),
        "whatif": api.Answer(Whatif, answer_whatif),
    }


def _served(sources: metrics.Sources) -> dict[str, object]:
    """What status says of the probes, and of hooks that ran out of time."""
    unready = sources.probes.unready()
    answered = {"admitted": 0, "refused": 0, "in-place": 0}
    for (_, answer), count in sources.counters.guarded.items():
        answered[answer] += count
    others = sources.opposition
    return {
        "ready": not unready,
        "unready": unready,
        "guard": answered,
        "opponents": others.document(),
        "attribution": None if others.attribution is None else others.attribution.document(),
    }


def _container(now: state.State, book: report.Book, name: str) -> dict[str, object]:
    its = names.find(now, name)
    what = now.ledger.intents.get(its.id)
    if what is None:
        raise errors.Retryable(f"container {names.of(now, its)}: the agent has not taken it over yet")
    entry = status.entry(now, book, its, what)
    if its.phase is events.Phase.STOPPED:
        entry |= {"state": "gone", "reason": container.exited(now, its, what), "observed": None}
    return {**entry, **container.document(now, its, what)}


def _note(its_agent: agent.Agent) -> str | None:
    """Why the answer may be out of date, or None."""
    if its_agent.mode == "none":
        return f"no runtime is connected ({its_agent.reason}): the node may have changed"
    if its_agent.busy:
        return "a change is under way: the answer may be another one in a moment"
    return None
