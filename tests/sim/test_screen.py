"""The CPU map, and where it is shown."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import subprocess
import sys

import pytest

from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.sim import display, display_live, frame, screen


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text, what="test")


def machine(nodes: int, cores: int, threads: int) -> topologies.Topology:
    """A machine whose CPUs are numbered core by core."""
    core_sets = [CpuSet(range(n * threads, (n + 1) * threads)) for n in range(nodes * cores)]
    blocks = [CpuSet(range(n * cores * threads, (n + 1) * cores * threads)) for n in range(nodes)]
    return topologies.Topology(
        online=CpuSet(range(nodes * cores * threads)),
        offline=CpuSet(),
        isolated=CpuSet(),
        nodes=tuple(
            topologies.Node(id=n, cpus=block, has_memory=True, distances={}) for n, block in enumerate(blocks)
        ),
        llcs=tuple(blocks),
        cores=tuple(core_sets),
        sockets=tuple(blocks),
    )


SMALL = machine(2, 2, 2)
DB = frame.Resident(name="db/x", letter="D", claim=cpus("2-3"), exclusive=True, cpus=cpus("2-3"))
LISTED = frame.Resident(name="log/x", letter="l", number=1, claim=cpus("4"), cpus=cpus("4"))
WEB = frame.Resident(name="web/x", cpus=cpus("0,4-6"))


def shown(*residents: frame.Resident) -> frame.Frame:
    return frame.Frame(topology=SMALL, residents=residents)


@pytest.mark.parametrize(
    ("cpu", "text", "style"),
    [
        pytest.param(2, "D", "claim-0", id="exclusive"),
        pytest.param(4, "l", "claim-1", id="listed-in-the-pool"),
        pytest.param(0, ".", "pool", id="pool"),
        pytest.param(7, "-", "nobody", id="nobody"),
    ],
)
def test_each_cpu_has_the_mark_of_its_owner(cpu: int, text: str, style: str) -> None:
    assert screen.mark(shown(WEB, DB, LISTED), cpu) == (text, style)


def test_someone_else_on_an_exclusive_cpu_is_marked() -> None:
    loose = frame.Resident(name="web/x", cpus=cpus("0-7"))
    assert screen.mark(shown(loose, DB), 3) == ("!", "wrong")
    assert [str(found) for found in shown(loose, DB).intrusions()] == [
        "web/x may run on CPU 2-3, which db/x holds exclusively"
    ]


def test_a_holder_that_lost_its_cpu_is_marked() -> None:
    lost = frame.Resident(name="db/x", letter="D", claim=cpus("2-3"), exclusive=True, cpus=cpus("3"))
    assert screen.mark(shown(WEB, lost), 2) == ("?", "wrong")
    assert screen.mark(shown(WEB, lost), 3) == ("D", "claim-0")


def test_others_on_a_listed_cpu_are_no_intrusion() -> None:
    assert list(shown(WEB, DB, LISTED).intrusions()) == []


def test_the_compact_map_is_a_line_for_each_thread_and_a_legend() -> None:
    lines = [screen.plain(line) for line in screen.compact(shown(WEB, DB, LISTED))]
    assert lines == [
        "    node 0   0.   2D         node 1   4l   6.",
        "             1-   3D                  5.   7-",
        "    D db/x 2-3   l log/x 4 (in the pool too)   . pool 0,4-6",
    ]


def test_the_roomy_map_names_sockets_and_owners() -> None:
    text = "\n".join(screen.plain(line) for line in screen.roomy(shown(WEB, DB, LISTED)))
    assert "socket 0, node 0" in text
    assert "2  D" in text
    assert "D  db/x" in text
    assert "shared pool          0,4-6" in text


@pytest.mark.parametrize("draw", [screen.compact, screen.roomy], ids=["compact", "roomy"])
@pytest.mark.parametrize(
    "topology", [machine(1, 2, 1), SMALL, machine(4, 4, 2), machine(8, 4, 4)], ids=["2", "8", "32", "128"]
)
def test_every_cpu_is_on_the_map_and_no_line_is_too_long(draw: object, topology: topologies.Topology) -> None:
    names = [f"a-rather-long-name-{n}/container" for n in range(12)]
    residents = [frame.Resident(name=name, cpus=topology.online) for name in names]
    residents.append(
        frame.Resident(name=names[0], letter="A", claim=cpus("1"), exclusive=True, cpus=cpus("1"))
    )
    assert callable(draw)
    lines = [screen.plain(line) for line in draw(frame.Frame(topology=topology, residents=tuple(residents)))]
    assert max(map(len, lines)) <= screen.WIDTH
    words = " ".join(lines).replace(".", " ").replace("!", " ").split()
    assert {str(cpu) for cpu in topology.online} <= set(words)


def test_a_log_has_a_new_map_only_where_it_changed() -> None:
    stream = io.StringIO()
    plain = display.Plain(stream)
    plain.draw(shown(WEB))
    once = stream.getvalue()
    plain.draw(shown(WEB))
    plain.follow(shown(WEB, DB))
    assert stream.getvalue() == once
    plain.draw(shown(WEB, DB))
    assert stream.getvalue().startswith(once)
    assert "D db/x 2-3" in stream.getvalue()


def test_a_stream_that_is_no_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert isinstance(display.choose(io.StringIO(), plain=False), display.Plain)


def everything(master: int) -> bytes:
    """What was written to a terminal that is closed now."""
    written = b""
    with contextlib.suppress(OSError):  # EIO: that was all (pty(7))
        while part := os.read(master, 1 << 16):
            written += part
    return written


@pytest.mark.parametrize(
    ("environment", "plain", "kind"),
    [
        pytest.param({"TERM": "xterm-256color"}, False, display_live.Live, id="terminal"),
        pytest.param({"TERM": "xterm-256color"}, True, display.Plain, id="plain-asked-for"),
        pytest.param({"TERM": "xterm-256color", "NO_COLOR": "1"}, False, display.Plain, id="no-color"),
        pytest.param({"TERM": "dumb"}, False, display.Plain, id="dumb-terminal"),
    ],
)
def test_a_terminal_gets_what_it_can_and_the_user_wants(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], plain: bool, kind: type
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    master, slave = os.openpty()
    try:
        with open(slave, "w", encoding="utf-8") as terminal:
            chosen = display.choose(terminal, plain=plain)
            chosen.draw(shown(WEB, DB))
            chosen.say([(screen.Span("a line", "good"),)])
            chosen.close()
            assert isinstance(chosen, kind)
        assert b"a line" in everything(master)
    finally:
        os.close(master)


def test_without_rich_a_terminal_gets_plain_lines() -> None:
    program = (
        "import sys; sys.modules['rich'] = None\n"
        "from reconciler.sim import display\n"
        "print(type(display.choose(sys.stdout, plain=False)).__name__)\n"
    )
    master, slave = os.openpty()
    try:
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=pathlib.Path(__file__).parents[2],
            env={**environment, "TERM": "xterm-256color"},
            stdout=slave,
            check=False,
        )
        assert ended.returncode == 0
        assert os.read(master, 1024).split() == [b"Plain"]
    finally:
        os.close(master)
        os.close(slave)
