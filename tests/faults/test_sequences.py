"""Events twice, out of order, too few or too many: the next full list puts all in order."""

# covers: PRD-11.6

from __future__ import annotations

import asyncio
import pathlib
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import events
from reconciler.cpu.idset import CpuSet
from reconciler.policy import state
from reconciler.runtime.nri import dispatch, handler
from tests.daemon import node, pods
from tests.faults import lives

THOROUGH = settings(deadline=None, max_examples=30, print_blob=True)

ENDED = (lives.LIFE.index("stop") + 1, lives.LIFE.index("remove") + 1)
FAR = [far for far in range(len(lives.LIFE) + 1) if far != lives.LIFE.index("create") + 1]
"""But for a container that is never started: it has no cgroup that could be as it should."""
REACHED = st.fixed_dictionaries({name: st.sampled_from(FAR) for name in lives.MEMBERS})
PARTS = st.sets(st.sampled_from(sorted(lives.MEMBERS)))


@st.composite
def disorder(draw: st.DrawFn) -> tuple[dict[str, int], list[lives.Told], list[events.Synchronized]]:
    """How far the pods have come, what was told of it in which order, and the lists among that."""
    reached = draw(REACHED)
    told = lives.orderly(reached)
    if told:
        told += draw(st.lists(st.sampled_from(told), max_size=6))
        told = [its for its in told if draw(st.integers(0, 9))]
    told += [("list", "")] * draw(st.integers(0, 2))
    told = list(draw(st.permutations(told)))
    lists = [
        lives.full_list({name: reached[name] if name in part else 0 for name in reached})
        for part in draw(st.lists(PARTS, min_size=2, max_size=2))
    ]
    return reached, told, lists


def claims(now: state.State) -> dict[str, tuple[int, bool]]:
    """Of each pod that holds a claim: how many CPUs, and whether exclusively."""
    return {claim.pod: (len(claim.cpus), claim.exclusive) for claim in now.ledger.claims.values()}


def expected(reached: lives.Reached) -> dict[str, tuple[int, bool]]:
    """The claims of those that are there."""
    its = {pod.name: lives.MEMBERS[pod.name] for pod, _ in lives.there(reached)}
    return {
        f"default/{name}": (member.size or 1, bool(member.size))
        for name, member in its.items()
        if member.size or member.cpus
    }


def check(made: node.Node, reached: lives.Reached) -> None:
    """Everyone has what it is entitled to, in the ledger and in the kernel's files; nobody else has it.

    A container that has ended keeps its claim where the agent knew it: its next attempt is to have it.
    """
    now = made.agent.state
    document = made.status()
    assert document["converged"], document
    ended = {f"default/{name}" for name, its in reached.items() if its in ENDED}
    assert {pod: its for pod, its in claims(now).items() if pod not in ended} == expected(reached)
    taken = CpuSet()
    for claim in now.ledger.claims.values():
        assert claim.cpus.isdisjoint(taken)
        taken |= claim.cpus
        if cpus := lives.MEMBERS[claim.pod.partition("/")[2]].cpus:
            assert str(claim.cpus) == cpus
    assert set(now.inventory.pods) == {pod.sandbox for pod in lives.sandboxes(reached)}
    for pod, container in lives.there(reached):
        if container.phase is events.Phase.RUNNING:
            has = CpuSet.parse(made.cpus(container), what="cpuset.cpus")
            member = lives.MEMBERS[pod.name]
            want = (member.size or 1) if member.size or member.cpus else len(now.pool)
            assert len(has) == want, (pod.name, str(has))
            assert member.size or has.isdisjoint(now.ledger.exclusive)


async def play(
    folder: pathlib.Path,
    reached: lives.Reached,
    told: list[lives.Told],
    lists: list[events.Synchronized],
) -> None:
    async with node.running(folder) as made:
        for _, container in lives.there(reached):
            if container.phase is events.Phase.RUNNING:
                made.make(container)
        await lives.deliver(made, told, lists)
        made.agent.disconnected("the runtime restarts")
        made.agent.connected(node.PEER)
        made.agent.synchronized(lives.full_list(reached), node.PEER)
        await made.quiet()
        check(made, reached)
        assert made.records("agent.failed") == []


@given(disorder())
@THOROUGH
def test_after_any_disorder_a_full_list_puts_all_in_order(
    drawn: tuple[dict[str, int], list[lives.Told], list[events.Synchronized]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(pathlib.Path(folder), *drawn))


@pytest.mark.parametrize("kind", [*lives.LIFE, "list"])
async def test_an_event_that_comes_twice_changes_nothing_the_second_time(
    tmp_path: pathlib.Path, kind: str
) -> None:
    reached = dict.fromkeys(lives.MEMBERS, lives.LIFE.index("update") + 1)
    before = lives.orderly(reached)
    if kind in lives.LIFE[: reached["web"]]:
        before = [told for told in before if lives.LIFE.index(told[0]) < lives.LIFE.index(kind)]
    async with node.running(tmp_path) as made:
        for its in lives.MEMBERS.values():
            made.make(its.container)
        await lives.deliver(made, before)
        again = [(kind, name) for name in lives.MEMBERS] if kind in lives.LIFE else [(kind, "")]
        lists = [lives.full_list(reached)] * 2
        await lives.deliver(made, again, lists[:1])
        await made.quiet()
        once, files = (
            made.agent.state,
            {name: made.cpus(its.container) for name, its in lives.MEMBERS.items()},
        )
        told = len(made.records("drift.found", "agent.failed"))
        await lives.deliver(made, again, lists[1:])
        await made.quiet()
        twice = made.agent.state
        assert twice.ledger.claims == once.ledger.claims
        assert dict(twice.ledger.intents) == dict(once.ledger.intents)
        assert dict(twice.inventory.containers) == dict(once.inventory.containers)
        assert dict(twice.inventory.pods) == dict(once.inventory.pods)
        assert {name: made.cpus(its.container) for name, its in lives.MEMBERS.items()} == files
        assert len(made.records("drift.found", "agent.failed")) == told


async def test_after_an_empty_list_the_next_full_one_finds_everyone_where_they_ran(
    tmp_path: pathlib.Path,
) -> None:
    reached = dict.fromkeys(lives.MEMBERS, lives.LIFE.index("start") + 1)
    async with node.running(tmp_path) as made:
        for its in lives.MEMBERS.values():
            made.make(its.container)
        await lives.deliver(made, lives.orderly(reached))
        await made.quiet()
        before = dict(made.agent.state.ledger.claims)
        made.agent.synchronized(events.Synchronized(pods=(), containers=()), node.PEER)
        await made.quiet()
        files = [made.cpus(its.container) for its in lives.MEMBERS.values() if its.size]
        made.agent.synchronized(lives.full_list(reached), node.PEER)
        await made.quiet()
        assert {key: claim.cpus for key, claim in made.agent.state.ledger.claims.items()} == {
            key: claim.cpus for key, claim in before.items()
        }
        assert files == [made.cpus(its.container) for its in lives.MEMBERS.values() if its.size]
        check(made, reached)


@pytest.mark.parametrize("event", [0, *range(12, 40), 2**31 - 1])
async def test_events_that_came_after_us_are_answered_and_change_nothing(
    tmp_path: pathlib.Path, event: int
) -> None:
    async with node.running(tmp_path) as made:
        await made.run(pods.pod("web"), pods.container(pods.pod("web")))
        before, notices = made.agent.state, list[handler.Notice]()
        its = dispatch.Dispatcher(made.agent, notices.append)
        number = event
        payload = b"\x08"
        while number > 127:
            payload += bytes([number & 127 | 128])
            number >>= 7
        assert its.answer("StateChange", payload + bytes([number])) == dispatch.EMPTY
        assert (made.agent.state, notices) == (before, [])
