"""`drifts`: lists what has drifted, from the running agent or, where none answers, from its file. I/O."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler import errors, opponents
from reconciler.cli import output
from reconciler.daemon import api, archive, archived, options

HEADER = (
    *("FOUND", "POD", "CONTAINER", "FILE", "DESIRED", "OBSERVED"),
    *("BY", "LASTED", "DRIFTS", "RESULT", "WRITER"),
)
PAUSE_SECONDS = 1.0
"""Between two looks with `--follow`."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d{1,9}[smhd])+", re.ASCII)
_WRITER = [its.name for its in dataclasses.fields(opponents.Writer)]
_POD = re.compile(r"[^/\s]{1,63}/[^/\s]{1,253}")

Row = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `drifts`."""
    default = options.Options()
    parser.add_argument(
        "--since", metavar="DURATION", type=duration, help="for example 90s, 1h30m or 7d (default: all)"
    )
    parser.add_argument("--pod", metavar="NAMESPACE/NAME", type=_pod, help="only this pod's")
    parser.add_argument(
        "--follow", action="store_true", help="go on with what comes, and without --since begin with that"
    )
    parser.add_argument(
        "--api-socket", metavar="PATH", default=default.api_socket, help="default: %(default)s"
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        default=default.state_dir,
        help="read from here where no agent answers (default: %(default)s)",
    )
    output.add_output(parser)


def duration(text: str) -> float:
    """Seconds that a duration means: numbers with `s`, `m`, `h` or `d`, each after the other."""
    if _DURATION.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no duration such as 90s, 1h30m or 7d")
    return float(sum(int(piece[:-1]) * _SECONDS[piece[-1]] for piece in re.findall(r"\d+[smhd]", text)))


def _pod(text: str) -> str:
    if _POD.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not NAMESPACE/NAME")
    return text


def run(given: argparse.Namespace) -> int:
    """Print the drifts. Raises Retryable where no agent answers and no file can be read."""
    since = 0.0
    if given.since is not None:
        since = max(time.time() - given.since, 0.0)
    elif given.follow:
        since = time.time()
    asker = Asker(given.api_socket, options.drifts(given.state_dir), since, given.pod)
    if given.follow:
        return _follow(asker, given.output)
    rows = sorted(asker.news(), key=lambda row: (row["found"], row["rev"]))
    if given.output == "json":
        output.print_json({"drifts": rows})
    else:
        print(output.table(HEADER, [line for row in rows for line in lines(row)]) if rows else "no drifts")
    return 0


class Asker:
    """Asks for what is new since it asked before: of the agent, and of the file where no agent answers."""

    def __init__(self, socket: str, file: str, since: float, pod: str | None) -> None:
        self._socket = socket
        self._file = file
        self._since = since
        self._pod = pod
        self._after = 0
        self._note = ""

    def news(self) -> list[Row]:
        """Rows that are new or have changed, each once, as it is now. Raises Retryable and Unusable."""
        latest: dict[str, Row] = {}
        more = True
        while more:
            rows, more = self._page()
            for row in rows:
                latest[row["drift"]] = row
                self._after = max(self._after, row["rev"])
        return list(latest.values())

    def _page(self) -> tuple[Iterable[Row], bool]:
        asked: dict[str, object] = {"since": self._since, "after": self._after}
        if self._pod is not None:
            asked["pod"] = self._pod
        try:
            answer: Row = asyncio.run(api.ask(self._socket, {"request": "drifts", **asked}))
        except errors.Retryable as error:
            if not archive.is_there(self._file):
                raise
            self._say(f"{error}; this is from {self._file}")
        else:
            self._say(answer["note"] and f"not all is written: {answer['note']}")
            return answer["drifts"], answer["more"]
        page = archived.read(self._file, archived.Query(since=self._since, pod=self._pod, after=self._after))
        return page.rows, page.more

    def _say(self, note: str | None) -> None:
        """Say what is new about where the rows are from."""
        if note and note != self._note:
            print(f"note: {note}", file=sys.stderr)
        self._note = note or ""


def _follow(asker: Asker, form: str) -> int:
    """Until Ctrl-C: a line for each change of a drift, and for each drift in JSON."""
    if form == "text":
        print("  ".join(HEADER), flush=True)
    try:
        while True:
            for row in asker.news():
                if form == "json":
                    print(json.dumps(row, ensure_ascii=False))
                else:
                    for line in lines(row):
                        print("  ".join(line))
            sys.stdout.flush()
            time.sleep(PAUSE_SECONDS)
    except KeyboardInterrupt:
        return 0


def lines(row: Row) -> list[tuple[str, ...]]:
    """The cells of a drift: a line for each file."""
    about = (
        row["found_by"],
        f"{row['lasted_ms']:.1f} ms" if row["attempts"] else "-",
        str(row["drifts"]),
        row["result"],
        _writer(row),
    )
    return [
        (
            datetime.fromtimestamp(row["found"], UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            f"{row.get('namespace', '-')}/{row.get('pod', '-')}",
            row.get("container", row.get("id", "-")),
            its["file"],
            its["desired"] or "-",
            its["observed"] or "-",
            *about,
        )
        for its in row["files"]
    ]


def _writer(row: Row) -> str:
    """Who wrote, or in a conflict whom the values point to."""
    if writer := row["writer"]:
        return str(opponents.Writer(**{name: its for name, its in writer.items() if name in _WRITER}))
    return f"{row['opponent']}?" if row["opponent"] else "-"
