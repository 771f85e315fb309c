"""Frames and messages are cut right however their bytes arrive; nothing makes a decoder hang or crash."""

from __future__ import annotations

import itertools
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import errors
from reconciler.runtime.nri import channel, envelope, mux, ttrpc

PAYLOADS = st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=40)), max_size=8)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """The pieces of `data` between those places."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[first:last] for first, last in itertools.pairwise(places)]


def frames(decoder: mux.Decoder, pieces: list[bytes]) -> list[mux.Frame]:
    found = []
    for piece in pieces:
        decoder.receive_data(piece)
        while (frame := decoder.next_event()) is not None:
            found.append(frame)
    return found


def raw(connection: int, payload: bytes) -> bytes:
    return struct.pack(">II", connection, len(payload)) + payload


def message(stream: int, body: bytes, kind: int = 1) -> bytes:
    return struct.pack(">IIBB", len(body), stream, kind, 0) + body


@given(PAYLOADS, st.lists(st.integers(0, 400), max_size=10))
def test_frames_are_the_same_however_their_bytes_are_split(
    payloads: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(raw(connection, payload) for connection, payload in payloads)
    decoder = mux.Decoder()
    assert frames(decoder, split(data, cuts)) == [mux.Frame(*payload) for payload in payloads]
    assert not decoder.partial


@given(PAYLOADS, st.integers(0, 400))
def test_frames_may_be_taken_later_than_their_bytes_come(payloads: list[tuple[int, bytes]], cut: int) -> None:
    data = b"".join(raw(connection, payload) for connection, payload in payloads)
    decoder = mux.Decoder()
    for piece in split(data, [cut]):
        decoder.receive_data(piece)
    assert frames(decoder, [b""]) == [mux.Frame(*payload) for payload in payloads]


@given(st.binary(max_size=5000), st.sampled_from([1, 2]))
def test_what_is_sent_is_received(body: bytes, connection: int) -> None:
    decoder = mux.Decoder()
    sent = message(1, body)
    assert b"".join(f.payload for f in frames(decoder, [mux.encode(connection, sent)])) == sent


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        pytest.param(1, [1], id="one-byte"),
        pytest.param(4096, [4096], id="just-one-frame"),
        pytest.param(4097, [4096, 1], id="one-byte-more"),
        pytest.param(3 << 20, [4096, (3 << 20) - 4096], id="large"),
    ],
)
def test_a_message_is_sent_as_4096_bytes_and_then_all_the_rest(size: int, sizes: list[int]) -> None:
    cut = frames(mux.Decoder(), [mux.encode(1, bytes(size))])
    assert [len(frame.payload) for frame in cut] == sizes


@pytest.mark.parametrize("size", [0, mux.FIRST_PAYLOAD + mux.MAX_PAYLOAD + 1])
def test_a_message_that_cannot_be_sent_is_refused(size: int) -> None:
    with pytest.raises(errors.FrameError, match=f"a message of {size} bytes cannot be sent"):
        mux.encode(1, bytes(size))


def test_the_largest_frame_is_taken_and_one_byte_more_is_not() -> None:
    largest = struct.pack(">II", 1, mux.MAX_PAYLOAD)
    decoder = mux.Decoder()
    assert frames(decoder, [largest]) == []
    [frame] = frames(decoder, [bytes(mux.MAX_PAYLOAD)])
    assert len(frame.payload) == mux.MAX_PAYLOAD
    decoder.receive_data(raw(2, b"fine") + struct.pack(">II", 1, mux.MAX_PAYLOAD + 1))
    assert decoder.next_event() == mux.Frame(2, b"fine")
    place = 8 + mux.MAX_PAYLOAD + 12
    for _ in range(2):
        with pytest.raises(errors.FrameError, match=rf"^NRI frame at position {place}: \d+ bytes announced"):
            decoder.next_event()
        decoder.receive_data(b"more")


def test_a_ttrpc_message_over_the_limit_is_a_frame_error() -> None:
    for endpoint in (ttrpc.Server(), ttrpc.Client()):
        endpoint.receive_data(struct.pack(">IIBB", ttrpc.MAX_RECEIVED + 1, 1, 1, 0))
        with pytest.raises(
            errors.FrameError, match=r"^ttrpc message at position 0: 16777217 bytes announced"
        ):
            endpoint.next_event()


def test_a_large_frame_that_dribbles_in_costs_no_more_than_its_bytes() -> None:
    def seconds(size: int) -> float:
        decoder = mux.Decoder()
        begin = time.process_time()
        decoder.receive_data(struct.pack(">II", 1, size))
        for _ in range(size // 256):
            decoder.receive_data(bytes(256))
            decoder.next_event()
        return time.process_time() - begin

    # Eight times the bytes cost sixty-four times as much where every piece copies what came before.
    assert min(seconds(8 << 20) for _ in range(3)) < 32 * max(min(seconds(1 << 20) for _ in range(3)), 1e-3)


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([1, 1, 1, 2, 3]), st.sampled_from([0, 1, 2])), max_size=6
    ),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_calls_are_the_same_whether_they_come_whole_or_in_pieces(
    calls: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    """One whole call in one piece takes a shorter way through the channel."""

    def events(pieces: list[bytes]) -> list[object]:
        its_channel = channel.Channel()
        found: list[object] = []
        for piece in pieces:
            its_channel.receive_data(piece)
            while (event := its_channel.next_event()) is not None:
                found.append(event)
        assert not its_channel.partial
        return found

    whole = [
        raw(connection, message(stream, envelope.call("s", f"m{n}", b"p"), kind))
        for n, (stream, kind, connection) in enumerate(calls)
    ]
    assert events(whole) == events(split(b"".join(whole), cuts)) == events([b"".join(whole)])


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_is_survived_or_is_a_frame_error(pieces: list[bytes]) -> None:
    its_channel = channel.Channel()
    try:
        for piece in pieces:
            its_channel.receive_data(piece)
            while its_channel.next_event() is not None:
                pass
    except errors.FrameError:
        with pytest.raises(errors.FrameError):
            its_channel.next_event()


@given(st.binary(max_size=60))
def test_garbage_in_a_call_is_a_bad_request_or_a_call(body: bytes) -> None:
    its_channel = channel.Channel()
    its_channel.receive_data(mux.encode(mux.PLUGIN_SERVICE, message(1, body)))
    assert isinstance(its_channel.next_event(), ttrpc.BadRequest | envelope.Call)
    its_channel.receive_data(mux.encode(mux.PLUGIN_SERVICE, message(3, envelope.call("s", "m", b"p"))))
    assert its_channel.next_event() == envelope.Call(3, "s", "m", b"p", 0.0)


@pytest.mark.parametrize(
    ("streams", "bad"),
    [
        pytest.param([1, 3, 9], [], id="growing"),
        pytest.param([2], ["StreamID must be odd for client initiated streams"], id="even"),
        pytest.param([0], ["StreamID must be odd for client initiated streams"], id="zero"),
        pytest.param([1, 1], ["StreamID cannot be re-used and must increment"], id="used-again"),
        pytest.param([5, 3, 7], ["StreamID cannot be re-used and must increment"], id="going-back"),
    ],
)
def test_stream_ids_must_be_odd_and_grow(streams: list[int], bad: list[str]) -> None:
    server = ttrpc.Server()
    server.receive_data(b"".join(message(stream, b"") for stream in streams))
    found = []
    while (event := server.next_event()) is not None:
        found.append(event)
    assert len(found) == len(streams)
    assert [event.why for event in found if isinstance(event, ttrpc.BadRequest)] == bad


@pytest.mark.parametrize("kind", [2, 3, 4, 255])
def test_what_is_no_request_is_skipped(kind: int) -> None:
    server = ttrpc.Server()
    server.receive_data(message(1, b"x", kind) + message(1, b"y"))
    assert server.next_event() == ttrpc.Request(1, b"y")


def test_a_reply_to_no_open_call_is_skipped() -> None:
    client = ttrpc.Client()
    stream, _ = client.call(b"")
    client.receive_data(message(7, b"", 2) + message(stream, b"ours", 2) + message(stream, b"again", 2))
    assert client.next_event() == ttrpc.Response(stream, b"ours")
    assert client.next_event() is None


def test_frames_of_other_connections_are_dropped() -> None:
    its_channel = channel.Channel()
    call = message(1, envelope.call("s", "m", b""))
    its_channel.receive_data(
        raw(0, b"???") + raw(3, b"!") + raw(1, call[:5]) + raw(7, call) + raw(1, call[5:])
    )
    assert its_channel.next_event() == envelope.Call(1, "s", "m", b"", 0.0)
    assert its_channel.next_event() is None
    assert not its_channel.partial


@pytest.mark.parametrize("size", [ttrpc.MAX_SENT, ttrpc.MAX_SENT + 1])
def test_a_body_over_4_mib_is_not_sent(size: int) -> None:
    if size <= ttrpc.MAX_SENT:
        assert len(ttrpc.Server.reply(1, bytes(size))) == size + 10
        return
    with pytest.raises(errors.FrameError, match="a body of 4194305 bytes"):
        ttrpc.Server.reply(1, bytes(size))
    client = ttrpc.Client()
    with pytest.raises(errors.FrameError, match="a body of 4194305 bytes"):
        client.call(bytes(size))
    assert client.call(b"")[0] == 1


def test_a_status_is_one_line_of_at_most_700_characters() -> None:
    body = envelope.failure(envelope.Code.FAILED_PRECONDITION, "no\nroom\t" + "\ud800" + "x" * 1000)
    reply = envelope.parse_reply(1, body)
    assert reply.code == 9
    assert reply.text.startswith("no room ?xxx")
    assert len(reply.text) == 700
