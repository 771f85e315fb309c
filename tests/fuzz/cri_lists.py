"""Target: the lists, statuses and verbose info of a CRI runtime become events, whatever is in them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from google.protobuf import message

from reconciler import errors, events
from reconciler.runtime import conversion
from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.cri import view
from tests.cri import lists
from tests.fuzz import converted, pieces

COMPACT = b"\0"
"""What an input begins with whose lists are not in protobuf; no message begins so."""
_STATES = (cri.CONTAINER_CREATED, cri.CONTAINER_RUNNING, cri.CONTAINER_EXITED, cri.CONTAINER_UNKNOWN)
_PARTS = 5
_SETTLED = 3
"""Polls after which the same lists have nothing new, if all containers are asked for again in each: of more
than 64 new ones a second poll asks for the rest, and a container that is listed under another sandbox is
forgotten before it is seen anew."""
_TURNS = view.NEW_AT_ONCE // view.AGAIN_AT_ONCE
_RUNTIMES = ("containerd", "cri-o")

Made = Callable[[conversion.Complain, str], view.View]


def polled(
    sandboxes: bytes, containers: bytes, pod: bytes = b"", container: bytes = b"", info: bytes = b""
) -> bytes:
    """One poll of an input: two lists, the status that every sandbox and every container gets, and the
    verbose info that takes the place of what these say if it is not empty."""
    return pieces.joined(sandboxes, containers, pod, container, info)


def compact(
    sandboxes: bytes, containers: bytes, parent: bytes = b"", limits: bytes = b"", info: bytes = b""
) -> bytes:
    """One poll of an input that begins with a zero: a byte a sandbox, two a container, the cgroup parent that
    statuses say, shares and quota of eight bytes each, the verbose info that takes the place of all this."""
    return pieces.joined(sandboxes, containers, parent, limits, info)


def check(data: bytes, made: Made = view.View) -> None:
    """Every poll gives events that are well-formed, and the same lists again soon give none."""
    its = made(_complaint, _RUNTIMES[len(data) % 2])
    taken = converted.Taken()
    read = _compact if data.startswith(COMPACT) else _decoded
    parts = pieces.parts(data.removeprefix(COMPACT))
    for number, at in enumerate(range(0, len(parts), _PARTS)):
        try:
            poll = read([*parts[at : at + _PARTS], *[b""] * _PARTS])
        except (message.DecodeError, UnicodeError):
            return  # the client makes a failed call of it
        for again in range(_SETTLED + len(poll.containers) // view.NEW_AT_ONCE * _TURNS):
            news = poll.shown(its, hurried=again > 0)
            _check_order(news, first=number == again == 0)
            for event in news:
                taken.take(event)
        assert poll.shown(its, hurried=True) == []
        assert not any(path.startswith("/") for path in its.directories())
    taken.check_saved()


@dataclass(frozen=True, slots=True)
class _Poll:
    """What the runtime says in one poll."""

    sandboxes: list[cri.PodSandbox]
    containers: list[cri.Container]
    pod: cri.PodSandboxStatusResponse
    container: cri.ContainerStatusResponse

    def shown(self, its: view.View, *, hurried: bool) -> list[events.Event]:
        """What the view makes of it, where maybe every container may have been resized."""
        ids = [its.id for its in self.containers] if hurried else []
        wanted = its.look(self.containers, self.sandboxes, ids)
        _check_wanted(wanted, {its.id for its in self.sandboxes}, {its.id for its in self.containers})
        for id_ in wanted.sandboxes:
            its.pod(id_, self.pod)
        for id_ in (*wanted.containers, *wanted.again):
            its.container(id_, self.container)
        return list(its.news())


def _decoded(parts: list[bytes]) -> _Poll:
    """The messages in the parts."""
    return _with_info(
        _Poll(
            list(cri.ListPodSandboxResponse.FromString(parts[0]).items),
            list(cri.ListContainersResponse.FromString(parts[1]).containers),
            cri.PodSandboxStatusResponse.FromString(parts[2]),
            cri.ContainerStatusResponse.FromString(parts[3]),
        ),
        parts[4],
    )


def _compact(parts: list[bytes]) -> _Poll:
    """Messages made of few bytes: every change of an input is another list."""
    parent = parts[2].decode()
    shares, quota = struct.unpack("<qq", parts[3][:16].ljust(16, b"\0"))
    return _with_info(
        _Poll(
            [
                lists.sandbox(f"s{one & 3}", ready=bool(one & 4), handler="kata" if one & 8 else "runc")
                for one in parts[0]
            ],
            [
                lists.container(
                    f"{'s' if one & 8 else 'c'}{one & 7}",
                    f"s{two & 3}",
                    _STATES[two >> 2 & 3],
                    name=f"n{two >> 4 & 1}",
                    age=one >> 4,
                )
                for one, two in zip(parts[1][::2], parts[1][1::2], strict=False)
            ],
            lists.pod_status(parent),
            lists.status("c", shares=shares, quota=quota, parent=parent, plain=bool(shares & 1)),
        ),
        parts[4],
    )


def _with_info(poll: _Poll, text: bytes) -> _Poll:
    """The poll with this verbose info in both statuses, if it is any."""
    if text:
        poll.pod.info["info"] = poll.container.info["info"] = text.decode()
    return poll


def _complaint(error: errors.Malformed) -> None:
    assert str(error)
    assert len(str(error)) < 1000


def _check_wanted(wanted: view.Wanted, sandboxes: set[str], containers: set[str]) -> None:
    assert set(wanted.sandboxes) <= sandboxes - {""}
    assert {*wanted.containers, *wanted.again} <= containers - {""}
    assert not set(wanted.containers) & set(wanted.again)
    assert wanted.plain <= set(wanted.again)


def _check_order(news: Iterable[events.Event], *, first: bool) -> None:
    """Everything at once the first time, single events later, and a pod's end after its containers'."""
    kinds = [isinstance(event, events.Synchronized) for event in news]
    assert kinds == [True] if first else not any(kinds)
    ended: set[str] = set()
    for event in itertools.chain(news):
        if isinstance(event, events.PodStopped | events.PodRemoved):
            ended.add(event.sandbox)
        elif isinstance(event, events.ContainerStopped | events.ContainerStarting):
            assert event.container.sandbox not in ended
