"""What metrics and probes of a node without a socket are read from."""

from __future__ import annotations

import pathlib

from reconciler.daemon import checkpoint, exposition, metrics, probes, saving
from tests.daemon import node


def sources(made: node.Node, folder: pathlib.Path, *, dry: bool = False) -> metrics.Sources:
    """Those of this node's agent. Its checkpoint is written when its saver is told to, and counted."""
    counts = made.tell.counters
    saver = saving.Saver(
        str(folder / "checkpoint.json"),
        checkpoint.origin(made.root),
        lambda: made.agent.settled,
        made.tell,
        write=counts.checkpointing(checkpoint.write, lambda: 12.5),
    )
    return metrics.Sources(
        agent=made.agent,
        book=made.book,
        counters=counts,
        saver=saver,
        watching=made.watching,
        probes=probes.Probes(made.agent, made.passes, made.book, dry=dry),
        opposition=made.opposition,
    )


def read(its: metrics.Sources) -> dict[str, float]:
    """Every sample by its name and labels, as the text has it: `mode{mode="nri"}`, without the prefix."""
    text = exposition.render(metrics.families(metrics.moment(its), its)).decode()
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix(metrics.PREFIX): float(value) for name, value in samples}
