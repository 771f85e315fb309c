"""The CPU map: which CPU is whose, drawn from a frame as lines of styled text. Pure.

`display` puts lines on a terminal. A style is a name; what colour it has, if any, is the display's matter, so
every mark has to be readable without colour:

    D  an exclusive claim, by its letter     t  a claim that leaves its CPUs in the pool
    .  the shared pool                       -  nobody may run here
    !  someone else may run on an exclusive CPU   ?  the holder itself may not run there
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from reconciler import inventory
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.sim import frame as frames

WIDTH = 100
"""Columns that no line exceeds."""

POOL, NOBODY, INTRUDED, ABSENT = ".", "-", "!", "?"
_GAP = 4
_INDENT = "    "
_PAUSE = f"/{inventory.PAUSE}"


class Span(NamedTuple):
    """Some text in one style: `text`, `dim`, `strong`, `good`, `bad`, `pool`, `nobody`, `wrong`, and
    `claim-0` upwards for the holders of claims."""

    text: str
    style: str = "text"


Line = tuple[Span, ...]


def plain(line: Line) -> str:
    """The line without its styles."""
    return "".join(span.text for span in line).rstrip()


def mark(frame: frames.Frame, cpu: int) -> Span:
    """One CPU's mark. The claims of a frame do not overlap, so the first that has the CPU is the one."""
    in_pool = cpu in frame.pool
    for holder in frame.claimants():
        style = f"claim-{holder.number}"
        if cpu not in holder.claim:
            continue
        if not holder.exclusive:
            return Span(holder.letter, style)
        if any(other is not holder and cpu in other.cpus for other in frame.residents):
            return Span(INTRUDED, "wrong")
        return Span(holder.letter, style) if cpu in holder.cpus else Span(ABSENT, "wrong")
    return Span(POOL, "pool") if in_pool else Span(NOBODY, "nobody")


def compact(frame: frames.Frame) -> list[Line]:
    """The map in few lines, for a log: a line for each thread of the cores, and the legend wrapped."""
    cells = {cpu: _small(frame, cpu) for cpu in frame.topology.online}
    entries = [*map(_claim_in_short, frame.claimants()), f"{POOL} pool {frame.pool or 'empty'}"]
    return [*_map(frame.topology, cells, head=False), *_wrapped(entries)]


def roomy(frame: frames.Frame) -> list[Line]:
    """The map for a terminal that is drawn anew: cores as blocks, and a line for each holder of CPUs."""
    cells = {cpu: _large(frame, cpu) for cpu in frame.topology.online}
    return [*_map(frame.topology, cells, head=True), (), *_legend(frame)]


def _small(frame: frames.Frame, cpu: int) -> Line:
    found = mark(frame, cpu)
    return Span(f"{cpu:>3}", "dim"), found, Span(" ")


def _large(frame: frames.Frame, cpu: int) -> Line:
    found = mark(frame, cpu)
    shown = "·" if found.text == POOL else found.text
    return Span(f"{cpu:>3}  {shown}  ", found.style), Span(" ")


def _map(topology: topologies.Topology, cells: dict[int, Line], *, head: bool) -> Iterator[Line]:
    """The nodes' blocks, as many beside each other as there is room for."""
    beside: list[list[Line]] = []
    for node in topology.nodes:
        block = list(_block(topology, node, cells, head=head))
        if beside and sum(map(_width, [*beside, block])) + _GAP * len(beside) > WIDTH - 4:
            yield from _side_by_side(beside)
            beside = []
        beside.append(block)
    yield from _side_by_side(beside)


def _block(
    topology: topologies.Topology, node: topologies.Node, cells: dict[int, Line], *, head: bool
) -> Iterator[Line]:
    """One node: a column for each core, a row for each of its threads."""
    cores = [core for core in topology.cores if not core.isdisjoint(node.cpus)]
    if head:
        yield (Span(" " + _title(topology, node), "dim"),)
    label = "" if head else f"{_INDENT}node {node.id} "
    for thread in range(max(map(len, cores), default=0)):
        spans = [Span((label if thread == 0 else " " * len(label)), "dim")]
        for core in cores:
            cpus = list(core)
            spans += cells[cpus[thread]] if thread < len(cpus) else _blank(cells[cpus[0]])
        yield tuple(spans)


def _title(topology: topologies.Topology, node: topologies.Node) -> str:
    sockets = [str(n) for n, cpus in enumerate(topology.sockets) if not cpus.isdisjoint(node.cpus)]
    return f"socket {','.join(sockets)}, node {node.id}" if sockets else f"node {node.id}, memory only"


def _blank(cell: Line) -> Line:
    return (Span(" " * len("".join(span.text for span in cell))),)


def _width(block: Sequence[Line]) -> int:
    return max((sum(len(span.text) for span in line) for line in block), default=0)


def _side_by_side(blocks: Sequence[Sequence[Line]]) -> Iterator[Line]:
    widths = [_width(block) for block in blocks]
    for row in range(max(map(len, blocks), default=0)):
        spans: list[Span] = []
        for block, width in zip(blocks, widths, strict=True):
            line = block[row] if row < len(block) else ()
            used = sum(len(span.text) for span in line)
            spans += [*line, Span(" " * (width - used + _GAP))]
        yield tuple(spans[:-1])


def _claim_in_short(holder: frames.Resident) -> str:
    also = "" if holder.exclusive else " (in the pool too)"
    return f"{holder.letter} {holder.name} {holder.cpus or 'all'}{also}"


def _wrapped(entries: Iterable[str]) -> Iterator[Line]:
    text = _INDENT
    for entry in entries:
        if len(text) + len(entry) + 3 > WIDTH:
            yield (Span(text, "dim"),)
            text = _INDENT
        text += f"{entry}   "
    yield (Span(text, "dim"),)


def _legend(frame: frames.Frame) -> Iterator[Line]:
    for holder in frame.claimants():
        memory = f", memory of node {holder.mems}" if holder.mems else ""
        kind = "exclusive" if holder.exclusive else "listed, in the pool too"
        yield (
            Span(f" {holder.letter} ", f"claim-{holder.number}"),
            Span(f" {holder.name:<20.20} "),
            Span(f"{holder.cpus or CpuSet()!s:<22} ", "strong"),
            Span(f"{kind}{memory}", "dim"),
        )
    free = [resident for resident in frame.residents if not resident.letter]
    names = [resident.name for resident in free if not resident.name.endswith(_PAUSE)]
    pauses = len(free) - len(names)
    text = " ".join(names) + (f" and {pauses} pause" if pauses else "")
    room = WIDTH - 4 - 48
    yield (
        Span(" · ", "pool"),
        Span(f" {'shared pool':<20} "),
        Span(f"{frame.pool!s:<22} ", "strong"),
        Span(text if len(text) <= room else text[: room - 1] + "…", "dim"),
    )
