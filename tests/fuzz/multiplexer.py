"""Target: bytes from a peer become NRI frames, or a FrameError, however they are cut."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from reconciler import errors
from reconciler.runtime.nri import framing, mux
from tests.fuzz import memory, pieces

HEADER = struct.Struct(">II")
_LIMIT = 32
_HELD = 4096
"""Bytes that a decoder with frames of at most 32 bytes may hold when it is given at most 255 at a time."""
_LONG = 24
"""How often a stream is repeated to be a message of more than one frame."""

Made = Callable[[], framing.Cutter]
Encode = Callable[[int, bytes], bytes]


def small() -> framing.Cutter:
    """A decoder whose limit small inputs reach."""
    return framing.Cutter("frame", HEADER, length_at=1, limit=_LIMIT)


def check(
    data: bytes, made: Made = mux.Decoder, encode: Encode = mux.encode, made_small: Made = small
) -> None:
    """Frames are as an independent reading says, in constant memory; what is encoded is decoded."""
    stream, chunks = pieces.chunks(data)
    for limit, make in ((mux.MAX_PAYLOAD, made), (_LIMIT, made_small)):
        expected = _by_hand(stream, limit)
        assert _taken(make(), [stream]) == expected
        assert _taken(make(), chunks) == expected
        late = make()
        for chunk in chunks:
            late.receive_data(chunk)
        assert _taken(late, [b""]) == expected
    assert memory.peak(lambda: _drained(made_small(), chunks)) <= _HELD
    for message in (stream, stream * _LONG):
        _check_encoded(message, made(), encode)


def _by_hand(stream: bytes, limit: int) -> tuple[list[tuple[int, bytes]], int | None, bool]:
    """The frames, the place of the fault, and whether something is left that is no frame yet."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while len(stream) - at >= 8:
        connection = int.from_bytes(stream[at : at + 4], "big")
        length = int.from_bytes(stream[at + 4 : at + 8], "big")
        if length > limit:
            return found, at, True
        if at + 8 + length > len(stream):
            break
        found.append((connection, stream[at + 8 : at + 8 + length]))
        at += 8 + length
    return found, None, at < len(stream)


def _taken(
    decoder: framing.Cutter, chunks: Iterable[bytes]
) -> tuple[list[tuple[int, bytes]], int | None, bool]:
    """What the decoder makes of the chunks, in the form of `_by_hand`."""
    found: list[tuple[int, bytes]] = []
    fault = None
    for chunk in chunks:
        decoder.receive_data(chunk)
        try:
            while (cut := decoder.next_frame()) is not None:
                found.append((cut[0][0], cut[1]))
        except errors.FrameError as error:
            assert error.position is not None
            assert fault in (None, error.position)
            fault = error.position
    return found, fault, decoder.partial


def _drained(decoder: framing.Cutter, chunks: Iterable[bytes]) -> None:
    """Take every frame and keep none, up to the fault."""
    for chunk in chunks:
        decoder.receive_data(chunk)
        try:
            while decoder.next_frame() is not None:
                pass
        except errors.FrameError:
            return


def _check_encoded(message: bytes, decoder: framing.Cutter, encode: Encode) -> None:
    try:
        sent = encode(mux.PLUGIN_SERVICE, message)
    except errors.FrameError:
        assert not message
        return
    frames, fault, left = _taken(decoder, [sent])
    assert (fault, left) == (None, False)
    assert {connection for connection, _ in frames} == {mux.PLUGIN_SERVICE}
    assert b"".join(payload for _, payload in frames) == message
    expected = [len(message)] if len(message) <= 4096 else [4096, len(message) - 4096]
    assert [len(payload) for _, payload in frames] == expected
