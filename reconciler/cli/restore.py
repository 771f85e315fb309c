"""`restore`: gives containers back what the runtime has on record of them, without an agent. I/O.

For uninstalling: the agent leaves placements as they are when it ends. It must have ended, or it would place
everyone again.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from reconciler import errors, events, giving_back, observed, partitions, report
from reconciler.cli import output, unit_restoring
from reconciler.cli import run as run_command
from reconciler.config import load, schema
from reconciler.daemon import executor, isolating, options, slicing, status
from reconciler.host import cgroupfs, cgroupmount, sysfs
from reconciler.policy import lifecycle, state
from reconciler.runtime.cri import client, recorded
from reconciler.runtime.nri import instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One write: `failed` says why it was not made, "" if it was or, with `--dry-run`, would be."""

    container: events.ContainerId
    group: str
    file: str
    observed: str
    text: str
    failed: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `restore`."""
    default = options.Options()
    parser.add_argument(
        "--cpus",
        choices=["recorded", "all"],
        default="recorded",
        help="what containers get: the runtime's record, or all CPUs and memory nodes (default: %(default)s)",
    )
    parser.add_argument("--config", metavar="FILE", help="the agent's configuration: whom it left alone")
    parser.add_argument(
        "--cri-socket", metavar="PATH", default=default.cri_socket, help="default: %(default)s"
    )
    parser.add_argument("--host-root", metavar="DIR", default=default.host_root, help="default: %(default)s")
    parser.add_argument("--state-dir", metavar="DIR", default=default.state_dir, help="default: %(default)s")
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be written, and write nothing"
    )
    parser.add_argument("--simulated", action="store_true", help="the host root is a plain directory")
    output.add_output(parser)


def run(given: argparse.Namespace) -> int:
    """Write, and print what was written. Raises Retryable where an agent runs, where the runtime does not
    answer, and for writes that failed, after they are printed."""
    chosen = options.Options(
        cri_socket=given.cri_socket,
        host_root=given.host_root,
        state_dir=given.state_dir,
        simulated=given.simulated,
        dry=given.dry_run,
    )
    config = schema.Config() if given.config is None else load.read(given.config)
    tree = run_command.tree(chosen)
    try:
        now, done = asyncio.run(_restore(chosen, config, tree, everything=given.cpus == "all"))
    finally:
        tree.close()
    document = _document(now, done, dry=chosen.dry)
    if given.output == "json":
        output.print_json(document)
    else:
        print(text(document))
    if failed := [its for its in done if its.failed]:
        first = failed[0]
        why = f"{first.group or first.container}/{first.file}: {first.failed}"
        raise errors.Retryable(f"{len(failed)} of {len(done)} writes failed, the first: {why}")
    return 0


async def _restore(
    chosen: options.Options, config: schema.Config, tree: cgroupfs.Cgroupfs, *, everything: bool
) -> tuple[state.State, tuple[Done, ...]]:
    if chosen.dry:
        return await _restore_alone(chosen, config, tree, everything=everything)
    async with instance.alone(chosen.lock, on_wait=lambda _: _refuse(chosen.lock)):
        if not chosen.simulated:
            cgroupmount.check_writable(chosen.cgroup_root)
        return await _restore_alone(chosen, config, tree, everything=everything)


def _refuse(lock: str) -> None:
    raise errors.Retryable(f"an agent holds {lock} and would place everyone again: stop it first")


async def _restore_alone(
    chosen: options.Options, config: schema.Config, tree: cgroupfs.Cgroupfs, *, everything: bool
) -> tuple[state.State, tuple[Done, ...]]:
    async with client.Client(chosen.cri_socket) as calls:
        known = await recorded.read(calls, _complain)
    nothing = msgspec.structs.replace(config, cfs_quota="keep", isolation="cpuset", isolation_namespaces=())
    now = state.State(terms=state.terms(sysfs.topology(chosen.host_root), nothing))
    now = lifecycle.adopt(lifecycle.absorb(now, known.everyone), {})
    records = dict.fromkeys(known.records, giving_back.Record()) if everything else known.records
    partitions_ = list(_without_partitions(now, tree, dry=chosen.dry))
    ours = {id_: records[id_] for id_ in giving_back.managed(now) if id_ in records}
    confined = slicing.remembered(chosen.host_slices)
    # First, for it writes the cgroup files of a unit by what that has.
    told = await unit_restoring.tell(
        chosen.host_root, unit_restoring.units(now.inventory, ours, confined), dry=chosen.dry
    )
    slices_ = _slices(chosen, now, tree)
    changes = giving_back.changes(now, _looks(now, tree), records)
    done = [
        _carry_out(tree, executor.cgroup_of(now, change.container) or "", change, dry=chosen.dry)
        for change in changes
    ]
    return now, (*partitions_, *map(_of_unit, told), *slices_, *done)


def _of_unit(its: unit_restoring.Told) -> Done:
    return Done(
        container=events.ContainerId(""),
        group=its.unit,
        file="AllowedCPUs",
        observed=str(its.before),
        text=str(its.after),
        failed=its.failed,
    )


def _complain(error: errors.ReconcilerError) -> None:
    print(f"left as it is: {error}", file=sys.stderr)


def _looks(now: state.State, tree: cgroupfs.Cgroupfs) -> observed.Observed:
    looks = {}
    for id_ in giving_back.managed(now):
        path = executor.cgroup_of(now, id_)
        if path is not None:
            looks[id_] = tree.look(path, giving_back.files(now, id_))
    return looks


def _without_partitions(now: state.State, tree: cgroupfs.Cgroupfs, *, dry: bool) -> Iterator[Done]:
    """Take back partitions, as a pass does that wants none."""
    walls = isolating.Isolating(tree, report.Book())
    steps = walls.steps(now, None, "pass", {}, 0.0)
    for step in (*steps.first, *steps.last):
        [result] = (report.Result(write=step),) if dry else executor.execute((step,), now, tree)
        why = "" if result.error is None else str(result.error)
        owner = step.container if step.container != partitions.NOBODY else events.ContainerId("")
        if not result.gone:
            yield Done(
                container=owner, group=step.group, file=step.file, observed="", text=step.text, failed=why
            )


def _slices(chosen: options.Options, now: state.State, tree: cgroupfs.Cgroupfs) -> list[Done]:
    """Give slices of the host back their CPUs."""
    done = []
    for step in slicing.give_back(chosen.host_slices, tree):
        change = giving_back.Change(
            container=step.container,
            file=step.file,
            observed="",
            text=step.text,
            instead=str(now.terms.topology.online),
        )
        done.append(_carry_out(tree, step.group, change, dry=chosen.dry))
    if not chosen.dry and not any(its.failed for its in done):
        slicing.forget(chosen.host_slices)
    return done


def _carry_out(tree: cgroupfs.Cgroupfs, path: str, change: giving_back.Change, *, dry: bool) -> Done:
    """Make one change; one of a group that has vanished is as good as made."""
    written, failed = change.text, ""
    if not dry:
        try:
            written = _write(tree, path, change)
        except errors.Gone:
            pass
        except errors.HostFileError as error:
            failed = str(error)
    return Done(
        container=change.container,
        group=path,
        file=change.file,
        observed=change.observed,
        text=written,
        failed=failed,
    )


def _write(tree: cgroupfs.Cgroupfs, path: str, change: giving_back.Change) -> str:
    """What was written. Raises as `Cgroupfs.write` does."""
    try:
        tree.write(path, change.file, change.text)
    except errors.HostFileError as error:
        if error.errno != errno.ENOSPC or not change.instead:
            raise
        tree.write(path, change.file, change.instead)
        return change.instead
    return change.text


def _document(now: state.State, done: Iterable[Done], *, dry: bool) -> dict[str, Any]:
    return {
        "containers": len(giving_back.managed(now)),
        "dry": dry,
        "writes": [
            {
                **(status.owner(now, its.container) if its.container else {}),
                "cgroup": its.group,
                "file": its.file,
                "observed": its.observed,
                "text": its.text,
                "failed": its.failed or None,
            }
            for its in done
        ],
    }


def text(document: dict[str, Any]) -> str:
    """What was written, as people read it."""
    if not document["writes"]:
        return f"nothing to restore: {document['containers']} containers are as recorded"
    rows = [
        (
            f"{write['namespace']}/{write['pod']}" if "pod" in write else "-",
            write.get("container", write["cgroup"]),
            write["file"],
            write["observed"] or "-",
            write["text"] or "-",
            "failed" if write["failed"] else "would be written" if document["dry"] else "written",
        )
        for write in document["writes"]
    ]
    return output.table(("POD", "CONTAINER", "FILE", "OBSERVED", "RESTORED", "RESULT"), rows)
