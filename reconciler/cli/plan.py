"""`plan`: what a pass would write, on this node or on a captured machine; nothing is written. I/O."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from typing import Any

from reconciler import observed, report
from reconciler.cli import captured, output
from reconciler.config import load, schema
from reconciler.daemon import api, options, status, walk
from reconciler.host import sysfs
from reconciler.policy import lifecycle, state
from reconciler.sim import kernel, machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `plan`."""
    parser.add_argument("--capture", metavar="FILE", help="plan for this captured machine, not for this node")
    parser.add_argument("--config", metavar="FILE", help="configuration to plan with, for --capture")
    parser.add_argument(
        "--api-socket", metavar="PATH", default=options.API_SOCKET, help="default: %(default)s"
    )
    output.add_output(parser)


def run(given: argparse.Namespace) -> int:
    """Print the plan. Raises Retryable where no agent answers, Usage for files that cannot be used."""
    if given.capture is None:
        document: dict[str, Any] = asyncio.run(api.ask(given.api_socket, {"request": "plan"}))
    else:
        config = schema.Config() if given.config is None else load.read(given.config)
        document = _on(captured.read(given.capture), config)
    if given.output == "json":
        output.print_json(document)
    else:
        print(text(document))
    return 0


def text(document: dict[str, Any]) -> str:
    """The plan as people read it."""
    lines = [f"{name.ljust(9)}  {cpus or '-'}" for name, cpus in document["pools"].items()]
    lines += [f"unsatisfied  {entry['id']}: {entry['reason']}" for entry in document.get("unsatisfied", ())]
    if not document["writes"]:
        return "\n".join([*lines, "", f"nothing to write: {document['containers']} containers are in order"])
    rows = [
        (
            write["phase"],
            f"{write.get('namespace', '-')}/{write.get('pod', write['id'])}",
            write.get("container", "-"),
            write["file"],
            write["observed"] or "-",
            write["text"],
        )
        for write in document["writes"]
    ]
    header = ("PHASE", "POD", "CONTAINER", "FILE", "OBSERVED", "WRITE")
    return "\n".join([*lines, "", output.table(header, rows)])


def _on(capture: captured.Capture, config: schema.Config) -> dict[str, Any]:
    """The plan for a captured machine: the agent's own path, over a directory with the machine's files."""
    with tempfile.TemporaryDirectory(prefix="cpuset-reconciler-") as root, contextlib.ExitStack() as stack:
        machine.write(root, capture.files)
        topology = sysfs.topology(root)
        cgroups = options.Options(host_root=root).cgroup_root
        tree = stack.enter_context(contextlib.closing(kernel.SimulatedCgroupfs(cgroups, topology)))
        walker = walk.Walker(tree, report.Book(), _Silent(), dry=True)
        now = state.State(terms=state.terms(topology, config))
        now = lifecycle.absorb(now, captured.synchronized(capture))
        runs = walker.look(now, now.inventory.containers)
        now = lifecycle.adopt(now, observed.asked_for(runs))
        looks, steps = walker.preview(now)
        return {
            **status.plan_document(now, looks, steps),
            "unsatisfied": [
                {**status.owner(now, id_), "reason": reason}
                for id_, reason in sorted(now.ledger.unsatisfied.items())
            ],
        }


class _Silent:
    """Tells nobody."""

    def passed(self, now: state.State, done: walk.Done) -> None:
        """As `walk.Tell.passed`."""

    def planned(self, now: state.State, pass_id: int, steps: tuple[object, ...]) -> None:
        """As `walk.Tell.planned`."""
