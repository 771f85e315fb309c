"""`status`: asks the running agent what every container has and should have. I/O."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from reconciler.cli import output
from reconciler.daemon import api, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `status`."""
    parser.add_argument(
        "--api-socket", metavar="PATH", default=options.API_SOCKET, help="default: %(default)s"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 unless a runtime is connected and all is converged"
    )
    parser.add_argument(
        "--ready", action="store_true", help="exit with 1 unless the agent serves the node; for probes"
    )
    output.add_output(parser)


def run(given: argparse.Namespace) -> int:
    """Print the status. Raises Retryable where no agent answers."""
    document: dict[str, Any] = asyncio.run(api.ask(given.api_socket, {"request": "status"}))
    if given.output == "json":
        output.print_json(document)
    else:
        print(text(document))
    is_fine = document["converged"] and document["mode"] != "none"
    return 1 if (given.check and not is_fine) or (given.ready and not document["ready"]) else 0


def text(document: dict[str, Any]) -> str:
    """The status as people read it."""
    pools = document["pools"]
    drift = document["drift"]
    lines = [
        f"mode       {document['mode']} ({document['reason']})",
        f"converged  {'yes' if document['converged'] else 'no'}",
        f"ready      {'yes' if document['ready'] else document['unready']}",
        *(f"{name.ljust(9)}  {cpus or '-'}" for name, cpus in pools.items()),
        f"drift      {drift['found']} found, {drift['repaired']} repaired, {drift['unrepaired']} not",
    ]
    if document.get("contained"):
        lines.append(f"contained  the agent keeps to the shared pool by its pod's {document['contained']}")
    if rows := [_row(container) for container in document["containers"]]:
        header = ("POD", "CONTAINER", "CLASS", "DESIRED", "CPUS", "EFFECTIVE", "MEMS", "STATE", "REASON")
        lines += ["", output.table(header, rows)]
    return "\n".join(lines)


def _row(container: dict[str, Any]) -> tuple[str, ...]:
    observed = container["observed"] or {"cpus": "-", "effective": "-", "mems": "-"}
    return (
        f"{container['namespace']}/{container['pod']}",
        container["container"],
        container["class"],
        container["desired"]["cpus"],
        observed["cpus"] or "-",
        observed["effective"] or "-",
        observed["mems"] or "-",
        container["state"],
        container["reason"],
    )
