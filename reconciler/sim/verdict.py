"""Whether the demo came out as it should: the table at the end. I/O: asks the agent for its status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler import inventory
from reconciler.sim import script, stage, wording


async def judge(on: stage.Stage) -> tuple[list[wording.Row], list[wording.Check]]:
    """Every container, and everything else that was watched. Raises UnexpectedError where the agent's status
    never says that it has converged, and Retryable where it does not answer."""
    document = await on.converged()
    return on.rows(), [*_files(on), *_drifts(on, document), *_status(on, document)]


def failures(rows: list[wording.Row], checks: list[wording.Check]) -> list[str]:
    """What is wrong, as clauses; empty where all is as it should be."""
    wrong = [f"{row.name} has {row.found} instead of {row.expected}" for row in rows if not row.ok]
    return [*wrong, *(f"{check.what}: {check.seen}" for check in checks if not check.ok)]


def _files(on: stage.Stage) -> Iterator[wording.Check]:
    there = {name: on.node.read(name, "cpuset.cpus") for name in on.node.names()}
    named = {name: cpus for name, cpus in there.items() if not name.endswith(inventory.PAUSE)}
    yield wording.Check(
        what="containers of the script, each on its CPUs",
        seen=f"{sum(named.get(name) == cpus for name, cpus in script.FINAL.items())} of {len(script.FINAL)}",
        ok=named == script.FINAL,
    )
    intruded = on.audit.violations
    yield wording.Check(
        what="exclusive CPUs in others' sets, unprovoked",
        seen="; ".join(intruded) or f"none in {on.audit.looks} looks",
        ok=not intruded,
    )
    yield wording.Check(
        what="pods refused with a sentence", seen=str(len(on.refused)), ok=on.refused == ["greedy/main"]
    )


def _drifts(on: stage.Stage, document: Mapping[str, object]) -> Iterator[wording.Check]:
    found = {(record.get("id"), record.get("file")) for record in on.events("drift.found")}
    reported = sum(write in found for write in on.wrong)
    longest = max((wording.milliseconds(record) for record in on.events("drift.repaired")), default=0.0)
    yield wording.Check(
        what="wrong writes reported and repaired",
        seen=f"{reported} of {len(on.wrong)}, within {longest:.1f} ms",
        ok=reported == len(on.wrong) > 0,
    )
    invented = found - set(on.wrong)
    yield wording.Check(what="drifts reported that nobody caused", seen=str(len(invented)), ok=not invented)
    drift = document.get("drift")
    counted = drift if isinstance(drift, dict) else {}
    yield wording.Check(
        what="drift by the agent's count: found, repaired",
        seen=f"{counted.get('found')}, {counted.get('repaired')}",
        ok=counted.get("found") == counted.get("repaired") and counted.get("unrepaired") == 0,
    )


def _status(on: stage.Stage, document: Mapping[str, object]) -> Iterator[wording.Check]:
    containers = document.get("containers")
    listed = (
        [entry for entry in containers if isinstance(entry, dict)] if isinstance(containers, list) else []
    )
    ids = {on.node.id(name) for name in on.node.names()}
    in_sync = {entry.get("id") for entry in listed if entry.get("state") == "in-sync"}
    yield wording.Check(
        what="containers in sync by the agent's status",
        seen=f"{len(in_sync & ids)} of {len(ids)}, mode {document.get('mode')}",
        ok=in_sync == ids and document.get("mode") == "nri",
    )
    pools = document.get("pools")
    shared = pools.get("shared") if isinstance(pools, dict) else None
    yield wording.Check(what="shared pool by the agent's status", seen=str(shared), ok=shared == on.pool)
