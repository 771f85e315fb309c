"""Every fuzz target notices a parser that is broken: it fails on inputs that the sound one passes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import NoReturn

import pytest
import yaml

from reconciler import errors, events
from reconciler.config import schema
from reconciler.cpu import idset
from reconciler.policy import checkpoint
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.cri import info, view
from reconciler.runtime.nri import channel, dispatch, envelope, framing, mux
from tests.fuzz import calls, checkpoints, configuration, cpu_lists, cri_lists, multiplexer, pieces, seeds

Check = Callable[[bytes], None]


def notices(name: str, check: Check) -> bool:
    """Whether the check fails on some input by hand, all of which hold where nothing is broken."""
    for data in seeds.SEEDS[name]:
        try:
            check(data)
        except (AssertionError, RecursionError, ValueError, LookupError, TypeError, yaml.YAMLError):
            return True
        except errors.Malformed:
            return True
    return False


class Unlimited(framing.Cutter):
    """Takes frames of any length."""

    def __init__(self) -> None:
        super().__init__("NRI frame", multiplexer.HEADER, length_at=1, limit=1 << 32)


class Forgetful(mux.Decoder):
    """Loses what is not a whole frame yet."""

    __slots__ = ()

    def receive_data(self, data: bytes) -> None:
        self._source, self._at = data, 0


class Misplacing(mux.Decoder):
    """Gives the place of a fault in the last chunk instead of in the stream."""

    __slots__ = ()

    def receive_data(self, data: bytes) -> None:
        super().receive_data(data)
        self._taken = 0


class Hoarding(framing.Cutter):
    """Keeps all that it has seen."""

    def __init__(self) -> None:
        super().__init__("frame", multiplexer.HEADER, length_at=1, limit=32)
        self._seen: list[bytearray] = []

    def receive_data(self, data: bytes) -> None:
        self._seen.append(bytearray(data))
        super().receive_data(data)


def in_one_frame(connection: int, message: bytes) -> bytes:
    if not message:
        raise errors.FrameError("NRI frame", "empty")
    return multiplexer.HEADER.pack(connection, len(message)) + message


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(lambda data: multiplexer.check(data, made=Unlimited), id="no limit"),
        pytest.param(lambda data: multiplexer.check(data, made=Forgetful), id="split frames lost"),
        pytest.param(lambda data: multiplexer.check(data, made=Misplacing), id="fault misplaced"),
        pytest.param(lambda data: multiplexer.check(data, encode=in_one_frame), id="sent in one frame"),
    ],
)
def test_a_broken_multiplexer_is_noticed(check: Check) -> None:
    assert notices("multiplexer", check)


def test_a_decoder_that_keeps_what_it_has_seen_is_noticed() -> None:
    data = pieces.streamed((multiplexer.HEADER.pack(1, 30) + bytes(30)) * 300)
    multiplexer.check(data)
    with pytest.raises(AssertionError):
        multiplexer.check(data, made_small=Hoarding)


class Hasty(channel.Channel):
    """Begins anew with every piece that comes."""

    def receive_data(self, data: bytes) -> None:
        self._mux = mux.Decoder()
        super().receive_data(data)


class Silent(dispatch.Dispatcher):
    """Does not say why a call fails."""

    def failure(self, _: str, __: BaseException) -> bytes:
        return envelope.failure(envelope.Code.INVALID_ARGUMENT, "")


class Confused(dispatch.Dispatcher):
    """Takes what a peer does wrong for a fault of its own."""

    def failure(self, method: str, error: BaseException) -> bytes:
        return super().failure(method, RuntimeError(str(error)))


class Raising(dispatch.Dispatcher):
    """Leaves a call without an answer."""

    def failure(self, _: str, error: BaseException) -> NoReturn:
        raise error


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(lambda data: calls.check(data, made=Hasty), id="split calls"),
        *(
            pytest.param(lambda data, its=its: calls.check(data, dispatcher=its), id=its.__name__)
            for its in (Silent, Confused, Raising)
        ),
    ],
)
def test_a_broken_channel_or_dispatcher_is_noticed(check: Check) -> None:
    assert notices("ttrpc", check)


class Repeating(view.View):
    """Tells of everything anew at every poll."""

    def news(self) -> list[events.Event]:
        self._synchronized = False
        return super().news()


class Climbing(view.View):
    """Takes cgroups outside of the tree."""

    def container(self, id_: str, response: cri.ContainerStatusResponse) -> None:
        super().container(id_, response)
        for known in self._containers.values():
            known.value = dataclasses.replace(known.value, cgroup="../etc")


class Boundless(view.View):
    """Takes limits that no checkpoint holds."""

    def container(self, id_: str, response: cri.ContainerStatusResponse) -> None:
        super().container(id_, response)
        for known in self._containers.values():
            known.value = dataclasses.replace(known.value, limits=events.CpuLimits(shares=1 << 63))


class Credulous(view.View):
    """Does not survive info that is none."""

    def _parsed(self, texts: Mapping[str, str]) -> info.Info:
        return info.parse(texts)


@pytest.mark.parametrize("made", [Repeating, Climbing, Boundless, Credulous])
def test_a_broken_view_of_a_runtime_is_noticed(made: type[view.View]) -> None:
    assert notices("cri", lambda data: cri_lists.check(data, made=made))


def lenient(text: str) -> idset.CpuSet:
    """Skips entries that are empty."""
    return cpu_lists.parse(",".join(entry for entry in text.split(",") if entry.strip()))


def misplacing(text: str) -> idset.CpuSet:
    """Counts the position from the first character that is no space."""
    return cpu_lists.parse(text.lstrip(" \t\n"))


def any_digits(text: str) -> idset.CpuSet:
    """Takes the digits of any script."""
    return cpu_lists.parse(re.sub(r"\d", lambda found: str(int(found[0])), text))


def off_by_one(text: str) -> idset.CpuSet:
    """Loses the last CPU of long lists."""
    found = cpu_lists.parse(text)
    return idset.CpuSet(list(found)[:-1]) if len(found) > 4 else found


def listing(text: str) -> idset.CpuSet:
    """Has a string for every entry."""
    entries = [str(entry) + " " for entry in text.split(",")]
    return cpu_lists.parse(text) if entries else idset.CpuSet()


@pytest.mark.parametrize("parse", [lenient, misplacing, any_digits, off_by_one, listing])
def test_a_broken_parser_of_cpu_lists_is_noticed(parse: cpu_lists.Parse) -> None:
    assert notices("cpu-lists", lambda data: cpu_lists.check(data, parse=parse))


def unguarded(data: bytes) -> checkpoint.Saved:
    """Lets the error of a list out as it is."""
    try:
        return checkpoint.decode(data)
    except checkpoint.Unusable as error:
        raise errors.Malformed(error.what, error.why) from error


def growing(data: bytes) -> checkpoint.Saved:
    """Adds to what it has read."""
    saved = checkpoint.decode(data)
    return dataclasses.replace(saved, origin=dataclasses.replace(saved.origin, boot=saved.origin.boot + "x"))


def without_unions(data: bytes) -> checkpoint.Saved:
    """Does not add up who holds what."""
    saved = checkpoint.decode(data)
    return dataclasses.replace(saved, ledger=dataclasses.replace(saved.ledger, exclusive=idset.CpuSet()))


@pytest.mark.parametrize("decode", [unguarded, growing, without_unions])
def test_a_broken_decoder_of_checkpoints_is_noticed(decode: checkpoints.Decode) -> None:
    assert notices("checkpoint", lambda data: checkpoints.check(data, decode=decode))


def untold(data: bytes) -> schema.Config:
    """Lets PyYAML's errors out."""
    return schema.convert(yaml.load(data, Loader=yaml.CSafeLoader))


def unbounded(data: bytes) -> schema.Config:
    """Does not look at the bounds."""
    configuration.read(data)
    return schema.Config(min_shared_cpus=0)


def expanding(data: bytes) -> schema.Config:
    """Walks through everything as often as it is referred to."""

    def visit(node: object) -> None:
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            visit(inner)

    visit(yaml.load(data, Loader=yaml.CSafeLoader))
    return schema.Config()


@pytest.mark.parametrize("read", [untold, unbounded, expanding])
def test_a_broken_reader_of_configurations_is_noticed(read: configuration.Read) -> None:
    assert notices("configuration", lambda data: configuration.check(data, read=read))


def test_a_reader_whose_work_grows_faster_than_the_file_is_noticed() -> None:
    bomb = next(data for data in seeds.SEEDS["configuration"] if data.startswith(b"a: &a [x, x]"))
    configuration.check(bomb)
    with pytest.raises(AssertionError, match="too many calls"):
        configuration.check(bomb, read=expanding)
