"""A connection that ends at any byte of a session: what was whole was heard and answered, and no more."""

# covers: PRD-11.6

from __future__ import annotations

import pytest

from tests.faults import wire
from tests.nri import recorder

SESSION = wire.whole_session()
DATA = b"".join(message for message, _ in SESSION)


def before(cut: int) -> tuple[list[str], int]:
    """What is heard of the first `cut` bytes, and how many calls are in them."""
    heard, calls, end = [], 0, 0
    for message, says in SESSION:
        end += len(message)
        if end > cut:
            break
        heard += [says] if says else []
        calls += message != wire.Runtime.registered()
    return heard, calls


@pytest.mark.parametrize("pieces", [1, 3], ids=["in one piece", "in three pieces"])
async def test_a_session_that_is_cut_at_any_byte_is_heard_up_to_there_and_answered(pieces: int) -> None:
    for cut in range(len(DATA) + 1):
        heard = recorder.Recorder()
        line = wire.Line(heard, heard.notices.append)
        for piece in range(pieces):
            line.receive(DATA[cut * piece // pieces : cut * (piece + 1) // pieces])
        line.connection.connection_lost(None)
        expected, calls = before(cut)
        assert (cut, len(line.replies)) == (cut, calls)
        expected += ["disconnected: the runtime closed the connection"] if expected else []
        assert (cut, heard.heard) == (cut, expected)
        lost = line.connection.lost.result()
        assert lost.reason == "the runtime closed the connection"
        assert heard.notices == []


async def test_a_message_whose_rest_comes_late_is_heard_once() -> None:
    heard = recorder.Recorder()
    line = wire.Line(heard, heard.notices.append)
    line.receive(DATA[:-30])
    so_far = list(heard.heard)
    line.receive(DATA[-30:])
    assert heard.heard[: len(so_far)] == so_far
    assert heard.heard == before(len(DATA))[0]
    line.connection.close("the test ends")
    await line.connection.lost
