"""The stand-in for a cluster as a program: each call plays those before it again. I/O: files, the standard
streams.

`python -m tests.cluster.journal` with kubectl's arguments; what was called before is in the folder $STANDIN.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys

from tests.cluster import standin

_CHANGES = ("create", "delete", "wait", "sh")
"""Words of calls that change something."""


def main() -> None:
    """Answer one call."""
    file = pathlib.Path(os.environ["STANDIN"]) / "journal"
    before = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    arguments, text = sys.argv[1:], "" if sys.stdin.isatty() else sys.stdin.read()
    node = standin.Standin()
    for call in before:
        node(*call)
    if any(word in _CHANGES for word in arguments):
        with file.open("a") as journal:
            journal.write(json.dumps([arguments, text]) + "\n")
    done = node(arguments, text)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
