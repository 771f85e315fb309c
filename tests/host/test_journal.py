"""Records to the journal, or to syslog, of which none is waited for."""

from __future__ import annotations

import io
import json
import pathlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from reconciler.daemon import logs
from reconciler.host import journal

PATIENCE = 10.0
"""Seconds after which a datagram does not come any more."""
MANY = 900
"""More than any system lets wait in a socket, and less than the writer has room for."""


class Listener:
    """Listens where a journal would."""

    def __init__(self, path: pathlib.Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE)
        self.taken: list[bytes] = []

    def take(self) -> bytes:
        """The next datagram."""
        self.taken.append(self._socket.recv(1 << 17))
        return self.taken[-1]

    def take_all(self, count: int) -> None:
        """So many datagrams."""
        while len(self.taken) < count:
            self.take()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


Listen = Callable[[str], Listener]


@pytest.fixture
def listen(tmp_path: pathlib.Path) -> Iterator[Listen]:
    """Makes a listener of that name in the test's folder."""
    made: list[Listener] = []

    def make(name: str) -> Listener:
        made.append(Listener(tmp_path / name))
        return made[-1]

    yield make
    for listener in made:
        listener.close()


@pytest.fixture
def writer(tmp_path: pathlib.Path) -> Iterator[journal.Journal]:
    """A writer to `journal`, else to `log`, in the test's folder."""
    made = journal.Journal("agent", journal=str(tmp_path / "journal"), syslog=str(tmp_path / "log"))
    yield made
    made.close()


def text(datagram: bytes) -> str:
    """The message of a record in systemd's protocol; everything must be where it has to be."""
    fields, _, rest = datagram.partition(b"MESSAGE\n")
    assert fields.endswith(b"\nSYSLOG_IDENTIFIER=agent\n")
    (length,) = struct.unpack_from("<Q", rest)
    assert len(rest) == 8 + length + 1
    assert rest[-1:] == b"\n"
    return rest[8:-1].decode()


def test_a_record_has_its_priority_and_its_text_whole(listen: Listen, writer: journal.Journal) -> None:
    listener = listen("journal")
    for level, priority in (("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)):
        getattr(writer, level)("two\nlines: ü")
        datagram = listener.take()
        assert datagram.startswith(b"PRIORITY=%d\n" % priority)
        assert text(datagram) == "two\nlines: ü"


def test_where_no_journal_listens_syslog_has_it(listen: Listen, writer: journal.Journal) -> None:
    listener = listen("log")
    writer.warning("{}")
    taken = listener.take()
    assert taken.startswith(b"<28>agent[")
    assert taken.endswith(b"]: {}")


def test_what_nobody_takes_waits_until_somebody_does(listen: Listen, writer: journal.Journal) -> None:
    writer.info("early")
    writer.info("later")
    listener = listen("journal")
    writer.info("now")
    assert [text(listener.take()) for _ in range(3)] == ["early", "later", "now"]


def test_what_there_is_no_room_for_is_counted_and_the_count_takes_its_place(
    listen: Listen, writer: journal.Journal
) -> None:
    for number in range(journal.ROOM + 7):
        writer.info(str(number))
    listener = listen("journal")
    taken: list[str] = []
    while len(taken) <= journal.ROOM:
        writer.info("again")
        taken.append(text(listener.take()))
    lost = json.loads(taken.pop())
    assert taken == [str(number) for number in range(journal.ROOM)]
    assert (lost["event"], lost["level"]) == ("log.lost", "warning")
    assert lost["records"] == 7


def test_a_journal_that_does_not_read_holds_nobody_up_and_misses_nothing(
    listen: Listen, writer: journal.Journal
) -> None:
    listener = listen("journal")
    for number in range(MANY):
        writer.info(str(number))
    taken: list[str] = []
    while len(taken) < MANY:
        taken.append(text(listener.take()))
        writer.info("again")
    assert taken == [str(number) for number in range(MANY)]


def test_the_end_waits_for_the_last_records(listen: Listen, writer: journal.Journal) -> None:
    listener = listen("journal")
    for number in range(MANY):
        writer.info(str(number))
    reader = threading.Thread(target=listener.take_all, args=(MANY,))
    reader.start()
    writer.close()
    reader.join()
    assert text(listener.taken[-1]) == str(MANY - 1)


def test_the_end_does_not_wait_for_a_journal_that_is_not_there(writer: journal.Journal) -> None:
    writer.info("lost")
    writer.close()


def test_a_record_that_is_too_large_is_lost_and_the_next_is_not(
    listen: Listen, writer: journal.Journal
) -> None:
    listener = listen("journal")
    writer.info("x" * (32 << 20))
    writer.info("seen")
    assert json.loads(text(listener.take()))["records"] == 1
    assert text(listener.take()) == "seen"


def test_the_log_goes_there_with_its_levels(listen: Listen, writer: journal.Journal) -> None:
    listener = listen("journal")
    try:
        logs.configure("json", writer).error("agent.ended", reason="ü")
        datagram = listener.take()
    finally:
        logs.configure("json", io.StringIO())
    assert datagram.startswith(b"PRIORITY=3\n")
    record = json.loads(text(datagram))
    assert (record["event"], record["reason"], record["level"]) == ("agent.ended", "ü", "error")
