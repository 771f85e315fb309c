"""A kubelet whose CPU manager writes too: how it is recognised, and what is told of it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from reconciler import errors
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import opposition
from reconciler.runtime.podresources import client as podresources
from tests.daemon import node, pods

# covers: PRD-7.13

WEB = pods.pod("web")
SHARED = pods.container(WEB)
DB = pods.guaranteed("db")
INTEGER = pods.container(DB, whole=2)


class Kubelet:
    """One whose state is a file, and who answers on a socket."""

    def __init__(self, made: node.Node) -> None:
        self._root = pathlib.Path(made.root)
        self.folder = self._root / "var/lib/kubelet"
        self.folder.mkdir(parents=True)
        self.owned: podresources.Owned | None = None
        self.asked: list[str] = []
        self.seconds = 100.0
        self.opposition = opposition.Opposition(
            made.root,
            lambda: made.agent.state,
            made.book,
            made.tell,
            ask=self._ask,
            clock=lambda: self.seconds,
        )

    async def _ask(self, socket: str) -> podresources.Owned:
        self.asked.append(socket)
        if self.owned is None:
            raise errors.Retryable("nobody answers")
        return self.owned

    def listen(self) -> None:
        """Have a socket."""
        (self.folder / "pod-resources").mkdir()
        (self.folder / "pod-resources/kubelet.sock").write_text("")

    def put(self, text: str) -> None:
        """Replace the file, as kubelet does."""
        made = self.folder / "new"
        made.write_text(text)
        made.rename(self.folder / "cpu_manager_state")

    def assign(self, policy: str, default: str = "", **entries: dict[str, str]) -> None:
        """Replace the file by one that says this."""
        self.put(
            json.dumps({"policyName": policy, "defaultCpuSet": default, "entries": entries, "checksum": 1})
        )

    async def look(self) -> None:
        """Two seconds later."""
        self.seconds += 2
        await self.opposition.look()

    @property
    def document(self) -> list[dict[str, Any]]:
        """What the status says."""
        return self.opposition.document()


def told(made: node.Node) -> list[str]:
    """The opponents' records, by what they tell."""
    return [record["event"] for record in made.records() if record["event"].startswith("opponent.")]


async def test_no_kubelet_is_no_opponent(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        await its.look()
        assert (its.document, told(made), its.asked) == ([], [], [])


async def test_one_that_writes_no_cpusets_is_none_either(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        its.put('{"policyName":"none","defaultCpuSet":"","checksum":1353318690}')
        await its.look()
        assert (its.document, told(made)) == ([], [])
        assert not its.opposition.is_static


async def test_a_static_one_is_named_once_and_goes_when_its_policy_changes(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        its.assign("static", "0-7")
        for _ in range(3):
            await its.look()
        assert its.document == [
            {
                "kind": "kubelet",
                "name": "kubelet's static CPU manager",
                "evidence": "/var/lib/kubelet/cpu_manager_state says so",
                "since_seconds": 4.0,
                "conflicts": 0,
                "contradictions": [],
            }
        ]
        assert told(made) == ["opponent.found"]
        its.assign("none")
        await its.look()
        assert (its.document, told(made)) == ([], ["opponent.found", "opponent.gone"])
        its.assign("static")
        await its.look()
        assert its.opposition.found == 2


async def test_a_file_that_is_removed_takes_the_opponent_with_it(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        its.assign("static")
        await its.look()
        (its.folder / "cpu_manager_state").unlink()
        await its.look()
        assert told(made) == ["opponent.found", "opponent.gone"]


async def test_where_it_contradicts_the_claims_it_is_told_which(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        its.assign("static", "0-7", **{DB.uid: {INTEGER.name: "2-3"}, "someone-else": {"main": "0"}})
        await its.look()
        assert its.document[0]["contradictions"] == []
        its.assign("static", "0,2-7", **{DB.uid: {INTEGER.name: "1,5"}, WEB.uid: {SHARED.name: "6"}})
        for _ in range(3):
            await its.look()
        assert its.document[0]["contradictions"] == [
            "default/db container main: 1,5 of its own after kubelet, 2-3 after the claims",
            "default/web container main: 6 of its own after kubelet, none after the claims",
        ]
        assert told(made) == ["opponent.found", "opponent.contradicts"]


async def test_garbage_is_told_once_and_changes_nothing(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        its.assign("static")
        await its.look()
        its.put("{")
        for _ in range(3):
            await its.look()
        assert told(made) == ["opponent.found", "opponent.unreadable"]
        [record] = made.records("opponent.unreadable")
        assert "cpu_manager_state: it is no JSON" in record["reason"]
        assert its.opposition.is_static


async def test_where_there_is_no_file_kubelet_is_asked_every_ten_seconds(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        its.listen()
        await made.run(DB, INTEGER)
        its.owned = {("default", "db", INTEGER.name): CpuSet((1, 5)), ("gone", "gone", "gone"): CpuSet((7,))}
        for _ in range(10):
            await its.look()
        assert its.asked == [str(its.folder / "pod-resources/kubelet.sock")] * 2
        [entry] = its.document
        assert entry["evidence"] == "its PodResources API says so"
        assert entry["contradictions"] == [
            "default/db container main: 1,5 of its own after kubelet, 2-3 after the claims"
        ]
        assert told(made) == ["opponent.found", "opponent.contradicts"]


async def test_a_kubelet_that_gives_nobody_cpus_of_their_own_is_no_opponent(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        its.listen()
        its.owned = {}
        await its.look()
        assert its.document == []


async def test_a_kubelet_that_does_not_answer_is_what_it_was(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        its.listen()
        its.owned = {("default", "db", "main"): CpuSet((1,))}
        await its.look()
        its.owned = None
        for _ in range(20):
            await its.look()
        assert told(made) == ["opponent.found"]


async def test_a_file_that_is_there_is_asked_before_kubelet(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = Kubelet(made)
        its.listen()
        its.assign("none")
        for _ in range(10):
            await its.look()
        assert its.asked == []


async def test_who_a_conflict_points_to_is_an_opponent_too(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=True) as made:
        its = Kubelet(made)
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        for text in ("5", "6"):
            made.put(SHARED, text)
            await node.until(lambda: made.cpus(SHARED) == "0-1,4-7")
            await made.quiet()
        [entry] = its.document
        assert (entry["kind"], entry["name"], entry["conflicts"]) == ("agent", "a second agent", 1)
        [found] = [each for each in made.status()["containers"] if each["pod"] == "web"]
        assert (found["conflict"]["opponent"], found["conflict"]["times"]) == ("a second agent", 2)
        assert (found["state"], made.status()["converged"]) == ("in-sync", True)


async def test_a_value_that_kubelet_has_for_it_points_to_kubelet(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, watch=True) as made:
        its = Kubelet(made)
        await made.run(WEB, SHARED)
        await made.run(DB, INTEGER)
        its.assign("static", "0-3,6-7", **{DB.uid: {INTEGER.name: "4-5"}})
        await made.opposition.look()
        for _ in range(2):
            made.put(INTEGER, "4-5")
            await node.until(lambda: made.cpus(INTEGER) == "2-3")
            await made.quiet()
            made.put(SHARED, "0-3,6-7")
            await node.until(lambda: made.cpus(SHARED) == "0-1,4-7")
            await made.quiet()
        raised = made.records("conflict.raised")
        assert [(record["pod"], record["opponent"]) for record in raised] == [
            ("db", "kubelet's static CPU manager"),
            ("web", "kubelet's static CPU manager"),
        ]
        [entry] = made.opposition.document()
        assert (entry["kind"], entry["conflicts"]) == ("kubelet", 2)
