"""`explain`: asks the running agent why a container has its CPUs, or who may run on a CPU. I/O."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from reconciler import errors
from reconciler.cli import choice, output
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import api, options

_MOST_ROWS = 20
"""Rows of one table of the text; more are counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `explain`."""
    parser.add_argument(
        "container",
        metavar="CONTAINER",
        nargs="?",
        help="POD/CONTAINER, NAMESPACE/POD/CONTAINER, an id, or the beginning of only one id",
    )
    parser.add_argument("--cpu", metavar="N", type=_cpu, help="explain this CPU instead")
    parser.add_argument(
        "--api-socket", metavar="PATH", default=options.API_SOCKET, help="default: %(default)s"
    )
    output.add_output(parser)


def _cpu(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and int(text) < CpuSet.LIMIT):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a CPU from 0 to {CpuSet.LIMIT - 1}")
    return int(text)


def run(given: argparse.Namespace) -> int:
    """Print the explanation. Raises Retryable where no agent answers, or knows no such container or CPU."""
    if (given.container is None) == (given.cpu is None):
        raise errors.Usage("name a CONTAINER, or a CPU with --cpu")
    asked = {"container": given.container} if given.cpu is None else {"cpu": given.cpu}
    document: dict[str, Any] = asyncio.run(api.ask(given.api_socket, {"request": "explain", **asked}))
    if given.output == "json":
        output.print_json(document)
    else:
        print(container_text(document) if given.cpu is None else cpu_text(document))
    return 0


def container_text(document: dict[str, Any]) -> str:
    """The explanation of a container as people read it."""
    parts = [output.fields(list(_about(document)))]
    if document["restrictions"]:
        rows = [(each["cpus"], _restriction(each)) for each in document["restrictions"]]
        parts.append(_table(("CANNOT HAVE", "BECAUSE"), rows))
    if document["choice"]:
        parts.append(choice.text(document["choice"]))
    return "\n\n".join(parts)


def _about(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "container", f"{document['namespace']}/{document['pod']}/{document['container']}"
    yield "id", document["id"]
    yield "class", f"{document['class']}: {document['why']}"
    if document["warning"]:
        yield "warning", document["warning"]
    yield "cpus", _cpus(document)
    yield "memory", document["memory"]
    if quotas := document["desired"]["quotas"]:
        yield "quota", ", ".join(f"{file} {quota or 'as it is'}" for file, quota in quotas.items())
    yield "state", document["state"]
    if observed := document["observed"]:
        found = f"cpus {observed['cpus'] or '-'}, effective {observed['effective'] or '-'}"
        yield "observed", f"{found}, mems {observed['mems'] or '-'}"
    yield "reason", document["reason"]
    if document["unsatisfied"]:
        yield "refused", document["unsatisfied"]
    if document["note"]:
        yield "note", document["note"]


def _cpus(document: dict[str, Any]) -> str:
    cpus = document["desired"]["cpus"]
    if not cpus:
        return "left as they are"
    if document["claim_of"] is None:
        return f"{cpus}, the shared pool"
    alone = "exclusive" if document["exclusive"] else "shared"
    return f"{cpus}, {alone}, by the claim of the {document['claim_of']}"


def _restriction(each: dict[str, Any]) -> str:
    held = each["holder"]
    return f"held by {held['class']} {holder(held)}" if held else str(each["why"])


def holder(claim: dict[str, Any]) -> str:
    """The pod that holds a claim, and the container if it is one container's."""
    return f"{claim['pod']} container {claim['container']}" if claim["container"] else str(claim["pod"])


def cpu_text(document: dict[str, Any]) -> str:
    """The explanation of a CPU as people read it."""
    parts = [output.fields(list(_about_cpu(document)))]
    if document["siblings"]:
        rows = [(str(each["cpu"]), each["answer"]) for each in document["siblings"]]
        parts.append(_table(("SIBLING", "WHO"), rows))
    if document["containers"]:
        header = ("POD", "CONTAINER", "CLASS", "DESIRED", "CPUS", "EFFECTIVE")
        parts.append(_table(header, [_row(each) for each in document["containers"]]))
    return "\n\n".join(parts)


def _about_cpu(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    marks = [name for name in ("online", "isolated", "reserved") if document[name]]
    yield "CPU", str(document["cpu"])
    yield "who", document["answer"]
    yield "state", ", ".join(marks if document["online"] else ["offline", *marks])
    for name in ("core", "cache", "node", "socket"):
        if document[name] is not None:
            yield name, str(document[name])
    if document["note"]:
        yield "note", document["note"]


def _row(container: dict[str, Any]) -> tuple[str, ...]:
    has = ("yes" if container[name] else "no" for name in ("desired", "observed", "effective"))
    return f"{container['namespace']}/{container['pod']}", container["container"], container["class"], *has


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that is not too long to read."""
    shown = output.table(header, rows[:_MOST_ROWS])
    more = len(rows) - _MOST_ROWS
    return f"{shown}\nand {more} more, which --output json has" if more > 0 else shown
