"""`whatif`: asks the running agent what the creation of a pod would bring; nothing is changed. I/O."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from typing import Any

from reconciler import errors
from reconciler.cli import choice, output
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import api, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `whatif`."""
    parser.add_argument(
        "--cpus",
        metavar="N",
        type=_count,
        help="a Guaranteed pod with a whole CPU limit of N: integer semantics",
    )
    parser.add_argument(
        "--cores-ids",
        metavar="LIST",
        help="a pod with weka.io/cores-ids=LIST: exclusive with --cpus, else shared",
    )
    parser.add_argument("--forbid-core-ids", metavar="LIST", help="a pod with weka.io/forbid-core-ids=LIST")
    parser.add_argument(
        "--namespace", metavar="NAME", type=_namespace, default="default", help="default: %(default)s"
    )
    parser.add_argument(
        "--api-socket", metavar="PATH", default=options.API_SOCKET, help="default: %(default)s"
    )
    output.add_output(parser)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= CpuSet.LIMIT):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 1 to {CpuSet.LIMIT}")
    return int(text)


def _namespace(text: str) -> str:
    if not 1 <= len(text) <= 63:
        raise argparse.ArgumentTypeError("a namespace has 1 to 63 characters")
    return text


def run(given: argparse.Namespace) -> int:
    """Print what would happen; 1 where the pod would be refused. Raises Retryable where no agent answers."""
    wish = {
        "cpus": given.cpus,
        "cores_ids": given.cores_ids,
        "forbid_core_ids": given.forbid_core_ids,
    }
    asked = {name: value for name, value in wish.items() if value is not None}
    if not asked:
        raise errors.Usage("name at least one of --cpus, --cores-ids and --forbid-core-ids")
    request = {"request": "whatif", "namespace": given.namespace, **asked}
    document: dict[str, Any] = asyncio.run(api.ask(given.api_socket, request))
    if given.output == "json":
        output.print_json(document)
    else:
        print(text(document))
    return 0 if document["admitted"] else 1


def text(document: dict[str, Any]) -> str:
    """The answer as people read it."""
    parts = [output.fields(list(_fields(document)))]
    if document["moves"]:
        rows = [(each["pod"], each["container"], each["from"], each["to"]) for each in document["moves"]]
        parts.append(output.table(("MOVED POD", "CONTAINER", "FROM", "TO"), rows))
    if document["choice"]:
        parts.append(choice.text(document["choice"]))
    return "\n\n".join(parts)


def _fields(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "admitted", "yes" if document["admitted"] else "no"
    yield "class", f"{document['class']}: {document['why']}"
    if document["warning"]:
        yield "warning", document["warning"]
    if not document["admitted"]:
        yield "reason", document["reason"]
    elif document["cpus"] is not None:
        yield "cpus", f"{document['cpus']}, {'exclusive' if document['exclusive'] else 'shared'}"
        yield "memory", document["memory"]
    yield "pool", _pool(document)
    if document["note"]:
        yield "note", document["note"]


def _pool(document: dict[str, Any]) -> str:
    before, after = document["pool"]["before"], document["pool"]["after"]
    if before == after:
        return f"{before or '-'}, unchanged"
    return f"{before or '-'} -> {after or '-'}; shared containers that follow: {document['follow']}"
