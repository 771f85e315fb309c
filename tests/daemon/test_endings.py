"""A claim whose container has ended for the runtime goes on until its last process has ended."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
from typing import Any

import pytest

from reconciler import errors, events
from reconciler.config import schema
from reconciler.policy import checkpoint, restoring
from tests.daemon import node, pods

# covers: PRD-6.8

WEB = pods.pod("web", pause=True)
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)
LARGE = pods.guaranteed("large", cores="0-7")
SLOW = schema.Config(pass_interval_seconds=600.0)
QUICK = schema.Config(pass_interval_seconds=1.0)
ENDINGS: list[events.Event] = [
    events.ContainerRemoved(pod=DB, container=INTEGER),
    events.PodStopped(sandbox=DB.sandbox),
    events.PodRemoved(sandbox=DB.sandbox),
    node.listed(),
]


def tell(made: node.Node, event: events.Event) -> None:
    match event:
        case events.ContainerStopped() | events.ContainerRemoved():
            made.agent.stopped(event)
        case events.PodStopped() | events.PodRemoved():
            made.agent.pod_stopped(event)
        case events.Synchronized():
            made.agent.synchronized(event)
        case _:
            raise AssertionError(event)


def entry(made: node.Node, name: str) -> dict[str, Any]:
    [its] = [its for its in made.status()["containers"] if its["pod"] == name]
    return dict(its)


async def lingering(made: node.Node, event: events.Event, pid: int = 4711) -> None:
    """The container was run, and ends, but for one process."""
    await made.run(DB, INTEGER)
    made.host.populate(str(INTEGER.cgroup), pid)
    tell(made, event)
    await made.quiet()


@pytest.mark.parametrize("event", ENDINGS, ids=lambda event: type(event).__name__)
async def test_it_is_told_once_and_shown_until_it_is_over(
    tmp_path: pathlib.Path, event: events.Event
) -> None:
    async with node.running(tmp_path, SLOW, watch=True) as made:
        await lingering(made, event)
        await node.until(lambda: bool(made.records("claim.lingers")))
        its = entry(made, "db")
        assert (its["state"], its["claim"], its["class"]) == ("in-sync", "2-3", "integer")
        sentence = "the runtime has no record of it any more, but a process of it is alive (pid 4711)"
        assert its["reason"].startswith(sentence)
        with pytest.raises(errors.Refused):
            await made.create(LARGE, pods.container(LARGE, whole=8))
        other = pods.guaranteed("other")
        assert (await made.create(other, pods.container(other, whole=2))).cpus == "4-5"
        made.host.populate(str(INTEGER.cgroup))
        await node.until(lambda: bool(made.records("claim.ended")))
        await made.quiet()
        assert made.status()["pools"]["exclusive"] == "4-5"
        assert [its["pod"] for its in made.status()["containers"]] == ["other"]
        assert INTEGER.id not in made.book.latest
    [told] = made.records("claim.lingers")
    assert (told["level"], told["pod"], told["cpus"], told["reason"]) == ("warning", "db", "2-3", sentence)
    [ended] = made.records("claim.ended")
    assert (ended["level"], ended["pod"], ended["cpus"]) == ("info", "db", "2-3")


async def test_an_end_whose_cgroup_is_gone_is_told_by_nobody(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=True) as made:
        await made.run(DB, INTEGER)
        made.host.remove(str(INTEGER.cgroup))
        made.agent.pod_stopped(events.PodStopped(sandbox=DB.sandbox))
        assert made.status()["pools"]["exclusive"] == ""
    assert made.records("claim.lingers", "claim.ended") == []


async def test_what_is_removed_under_it_is_seen(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, SLOW, watch=True) as made:
        await lingering(made, ENDINGS[1])
        made.host.remove(str(INTEGER.cgroup))
        await node.until(lambda: made.status()["pools"]["exclusive"] == "")


async def test_without_inotify_the_period_finds_it(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, QUICK) as made:
        await lingering(made, ENDINGS[1])
        made.host.populate(str(INTEGER.cgroup))
        await node.until(lambda: made.status()["pools"]["exclusive"] == "")


async def test_what_somebody_writes_to_it_is_drift_and_undone(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, SLOW, watch=True) as made:
        await lingering(made, ENDINGS[1])
        made.put(INTEGER, "0-7")
        await node.until(lambda: made.status()["drift"]["found"] == 1)
        assert made.cpus(INTEGER) == "2-3"


async def test_what_is_left_of_a_shared_container_is_kept_off_exclusive_cpus(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, SLOW, watch=True) as made:
        made.host.make(str(WEB.cgroup))
        made.agent.pod_started(events.PodStarted(pod=WEB))
        await made.run(WEB, SHARED)
        made.host.populate(str(SHARED.cgroup), 4711)
        made.host.remove(str(WEB.cgroup))
        made.agent.pod_stopped(events.PodStopped(sandbox=WEB.sandbox))
        await made.run(DB, INTEGER)
        await made.quiet()
        assert made.cpus(SHARED) == "0-1,4-7"
        assert [its["container"] for its in made.status()["containers"]] == ["main", "main"]
        made.host.populate(str(SHARED.cgroup))
        await node.until(lambda: [its["pod"] for its in made.status()["containers"]] == ["db"])
    assert made.records("claim.lingers", "claim.ended") == []


async def test_a_container_that_is_left_alone_is_not_kept(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, schema.convert({"unmanagedNamespaces": ["default"]})) as made:
        await lingering(made, ENDINGS[1])
        assert made.status()["containers"] == []


async def test_an_exit_of_which_a_process_is_left_lends_nothing_until_that_has_ended(
    tmp_path: pathlib.Path,
) -> None:
    init, main = pods.container(DB, "init", whole=6), pods.container(DB, whole=4)
    async with node.running(tmp_path, SLOW, watch=True) as made:
        await made.run(DB, init)
        made.host.populate(str(init.cgroup), 4711)
        made.agent.stopped(events.ContainerStopped(pod=DB, container=init))
        with pytest.raises(errors.Refused):
            await made.create(DB, main)
        assert "the runtime says that it has ended" in entry(made, "db")["reason"]
        made.host.populate(str(init.cgroup))
        await node.until(lambda: not made.agent.state.inventory.leftovers.lingering)
        assert (await made.create(DB, main)).cpus
    assert made.records("claim.lingers", "claim.ended") == []


async def test_the_next_attempt_has_the_claim_and_the_end_of_the_former_one_ends_nothing(
    tmp_path: pathlib.Path,
) -> None:
    again = pods.container(DB, whole=2, attempt=2)
    async with node.running(tmp_path, SLOW, watch=True) as made:
        await lingering(made, ENDINGS[0])
        await made.run(DB, again)
        assert (made.cpus(again), made.cpus(INTEGER)) == ("2-3", "2-3")
        made.host.populate(str(INTEGER.cgroup))
        await node.until(lambda: not made.agent.state.inventory.leftovers.lingering)
        assert made.status()["pools"]["exclusive"] == "2-3"


async def test_a_look_that_breaks_off_is_told_and_made_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node.running(tmp_path, QUICK) as made:
        faults = [RuntimeError("a mistake")]
        look = made.survivors.one_in

        def once(path: str) -> int | None:
            if faults:
                raise faults.pop()
            return look(path)

        monkeypatch.setattr(made.survivors, "one_in", once)
        await lingering(made, ENDINGS[1])
        await node.until(lambda: bool(made.records("claim.lingers")))
    [told] = made.records("agent.failed")
    assert (told["what"], told["error"]) == ("leftovers", "RuntimeError: a mistake")


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("listed", [True, False], ids=["its pod is listed", "its pod is gone"])
async def test_after_a_restart_it_is_found_again(tmp_path: pathlib.Path, alive: bool, listed: bool) -> None:
    async with node.running(tmp_path / "before", SLOW, watch=True) as made:
        await lingering(made, ENDINGS[1])
        document = b"".join(checkpoint.encode(made.agent.state, checkpoint.Origin()))
    saved = checkpoint.decode(document)
    async with node.running(tmp_path / "after", SLOW, watch=True, ready=False, saved=saved) as made:
        made.make(INTEGER, "2-3")
        made.host.populate(str(INTEGER.cgroup), *((4712,) if alive else ()))
        ledger, misfits = restoring.fit(saved.ledger, made.agent.state.terms)
        assert (ledger.claims, misfits) == (saved.ledger.claims, ())
        sandboxes = (DB,) if listed else ()
        made.agent.synchronized(events.Synchronized(pods=sandboxes, containers=()), node.PEER)
        await made.quiet()
        assert made.status()["pools"]["exclusive"] == ("2-3" if alive or listed else "")
        if alive:
            assert made.cpus(INTEGER) == "2-3"
            await node.until(lambda: "(pid 4712)" in entry(made, "db")["reason"])
            made.host.populate(str(INTEGER.cgroup))
            await node.until(lambda: made.status()["containers"] == [])
            assert made.status()["pools"]["exclusive"] == ("2-3" if listed else "")


async def test_a_thousand_ends_read_one_file_each_and_none_for_what_had_exited(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [pods.container(WEB, f"c{number}") for number in range(1000)]
    async with node.running(tmp_path) as made:
        made.agent.synchronized(node.listed(*((WEB, its) for its in others)), node.PEER)
        await made.quiet()
        asked: list[str] = []
        look = made.survivors.is_populated

        def asking(path: str) -> bool:
            asked.append(path)
            return look(path)

        monkeypatch.setattr(made.survivors, "is_populated", asking)
        for its in others[:500]:
            made.agent.stopped(events.ContainerStopped(pod=WEB, container=its))
        made.agent.pod_stopped(events.PodStopped(sandbox=WEB.sandbox))
        made.agent.pod_removed(events.PodRemoved(sandbox=WEB.sandbox))
        await asyncio.sleep(0)
        assert sorted(asked) == sorted([*(str(its.cgroup) for its in others), str(WEB.cgroup)])


async def test_one_without_a_cgroup_here_ends_at_once(tmp_path: pathlib.Path) -> None:
    kata = dataclasses.replace(INTEGER, cgroup=None)
    async with node.running(tmp_path) as made:
        await made.create(DB, kata)
        made.agent.pod_stopped(events.PodStopped(sandbox=DB.sandbox))
        assert made.status()["pools"]["exclusive"] == ""
