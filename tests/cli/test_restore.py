"""`restore`: after the agent has gone, containers have again what the runtime has on record of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from reconciler import errors, events
from reconciler.cli import main
from reconciler.host import sysfs
from reconciler.host import systemd as systemds
from reconciler.sim import kernel, runtime_cri, runtime_pods
from tests.cli import program
from tests.daemon import process
from tests.systemd import stand_in

# covers: PRD-10.8

EXCLUSIVE = "../../cpuset.cpus.exclusive"
FILES = ("cpuset.cpus", "cpuset.mems", "cpu.max", "../cpu.max", "cpuset.cpus.partition", EXCLUSIVE)
UID = "5b8a3f10-0000-4000-8000-00000000000"
WEB = runtime_pods.PodSpec(name="web", uid=f"{UID}1")
DB = runtime_pods.PodSpec(name="db", uid=f"{UID}2", qos=events.Qos.GUARANTEED)
TARGET = runtime_pods.PodSpec(
    name="target", uid=f"{UID}3", qos=events.Qos.GUARANTEED, annotations={"weka.io/cores-ids": "6-7"}
)
SHARED = runtime_pods.ContainerSpec(name="main", request=100)
TWO = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


class Node:
    """A machine with a runtime that is asked over CRI, and the arguments with which `restore` finds it."""

    def __init__(self, its: process.Machine, cri: str) -> None:
        self.its = its
        self.cri = cri
        self.arguments = [
            *("restore", "--simulated", "--host-root", its.root, "--cri-socket", cri),
            *("--state-dir", str(its.folder / "state")),
        ]

    async def run(self, pod: runtime_pods.PodSpec, spec: runtime_pods.ContainerSpec) -> str:
        """Run a pod with one container; the container's id."""
        id_ = await self.its.runtime.create_container(await self.its.runtime.run_pod(pod), spec)
        await self.its.runtime.start_container(id_)
        return id_

    def files(self) -> dict[tuple[str, str], str]:
        """What the files of every container and pod say."""
        found = {}
        for id_, record in self.its.runtime.containers.items():
            for file in FILES:
                found[id_, file] = self.text(str(record.cgroup), file)
        return found

    def limit_pods(self, text: str) -> None:
        """Write that to the `cpu.max` of each Guaranteed pod, as kubelet does."""
        for record in self.its.runtime.containers.values():
            if record.pod.spec.qos is events.Qos.GUARANTEED:
                self.its.kernel.write(os.path.dirname(str(record.cgroup)), "cpu.max", text)

    def text(self, path: str, file: str) -> str:
        """What one file says."""
        return pathlib.Path(self.its.cgroups, path, file).read_text().strip()

    async def restore(self, *options: str) -> tuple[int, str, str]:
        """Run the command as a process of its own: exit code, output, errors."""
        done = await asyncio.to_thread(program.run, *self.arguments, *options)
        return done.returncode, done.stdout, done.stderr

    @contextlib.asynccontextmanager
    async def placed(self, config: str = "") -> AsyncIterator[process.Agent]:
        """An agent over CRI that has converged; it ends as it is told to, with the block."""
        self.its.config.write_text(f"passIntervalSeconds: 0.5\n{config}")
        agent = process.Agent(self.its, "--source", "cri", "--cri-socket", self.cri)
        async with process.running(agent):
            count = len(self.its.runtime.containers)
            await agent.status(lambda its: its["converged"] and len(its["containers"]) >= count)
            yield agent
            assert await agent.stop(signal.SIGTERM) == 0


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """A node that nobody has placed anyone on."""
    with tempfile.TemporaryDirectory(prefix="restore-") as folder:
        its = process.Machine(pathlib.Path(folder))
        os.makedirs(its.folder / "state")
        path = str(its.folder / "cri.sock")
        async with runtime_cri.serving(path, its.runtime):
            yield Node(its, path)


def written(said: str) -> list[dict[str, Any]]:
    """The writes of a JSON document."""
    document: dict[str, Any] = json.loads(said)
    writes: list[dict[str, Any]] = document["writes"]
    return writes


@pytest.mark.parametrize(
    ("config", "more"),
    [
        pytest.param("integerMemory: pin\n", set(), id="cpusets"),
        pytest.param("cfsQuota: lift\n", {"cpu.max", "../cpu.max"}, id="quotas"),
        pytest.param("isolation: partition\n", {"cpuset.cpus.partition", EXCLUSIVE}, id="partitions"),
        pytest.param("isolation: isolated\n", {"cpuset.cpus.partition", EXCLUSIVE}, id="isolated"),
    ],
)
async def test_what_was_there_before_the_agent_is_back_after_it(
    node: Node, config: str, more: set[str]
) -> None:
    await node.run(WEB, SHARED)
    for pod in (DB, TARGET):
        await node.run(pod, TWO)
    node.limit_pods("200000 100000")
    before = node.files()
    async with node.placed(config):
        pass
    placed = node.files()
    changed = {file for (id_, file), text in before.items() if placed[id_, file] != text}
    assert changed == {"cpuset.cpus", "cpuset.mems", *more}
    code, said, wrong = await node.restore()
    assert (code, wrong) == (0, "")
    assert node.files() == before
    assert "written" in said
    again = await node.restore()
    assert again == (0, "nothing to restore: 6 containers are as recorded\n", "")


async def test_what_the_runtime_has_on_record_counts(node: Node) -> None:
    id_ = await node.run(DB, dataclasses.replace(TWO, cpus="0-3"))
    async with node.placed():
        assert node.its.cpus(id_) != "0-3"
    assert (await node.restore())[0] == 0
    assert node.its.cpus(id_) == "0-3"
    assert (await node.restore("--cpus", "all"))[0] == 0
    assert node.its.cpus(id_) == ""


async def test_who_was_created_under_nri_has_the_agents_choice_on_record(node: Node) -> None:
    agent = process.Agent(node.its)
    node.its.kernel.make("kubepods.slice")
    async with node.its.runtime, process.running(agent):
        await agent.status(lambda its: its["mode"] == "nri" and its["ready"])
        db, web = await node.run(DB, TWO), await node.run(WEB, SHARED)
        assert await agent.stop() == 0
    assert (node.its.cpus(db), node.its.cpus(web)) == ("2-3", "0-1,4-7")
    assert (await node.restore())[0] == 0
    assert (node.its.cpus(db), node.its.cpus(web)) == ("2-3", "0-1,4-7")
    assert (await node.restore("--cpus", "all"))[0] == 0
    assert (node.its.cpus(db), node.its.cpus(web)) == ("", "")


async def test_memory_nodes_on_record_are_given_back(node: Node) -> None:
    id_ = await node.run(DB, TWO)
    node.its.runtime.containers[id_].message.linux.resources.cpu.mems = "1"
    code, said, _ = await node.restore("--output", "json")
    assert code == 0
    assert [(write["file"], write["text"]) for write in written(said)] == [("cpuset.mems", "1")]
    assert node.text(str(node.its.runtime.containers[id_].cgroup), "cpuset.mems") == "1"


async def test_a_dry_run_says_what_it_would_write_and_writes_nothing(node: Node) -> None:
    await node.run(WEB, SHARED)
    await node.run(DB, TWO)
    async with node.placed("isolation: partition\ncfsQuota: lift\n"):
        pass
    placed = node.files()
    code, said, wrong = await node.restore("--dry-run", "--output", "json")
    assert (code, wrong, node.files()) == (0, "", placed)
    would = {(write.get("pod"), write["file"]) for write in written(said)}
    assert {("db", "cpuset.cpus"), ("db", "cpu.max"), ("web", "cpuset.cpus")} <= would
    assert "would be written" in (await node.restore("--dry-run"))[1]


async def test_while_an_agent_runs_it_is_refused_and_writes_nothing(node: Node) -> None:
    await node.run(WEB, SHARED)
    await node.run(DB, TWO)
    async with node.placed() as agent:
        placed = node.files()
        code, said, wrong = await node.restore()
        assert (code, said) == (1, "")
        assert program.is_one_sentence(wrong), wrong
        assert "stop it first" in wrong
        assert node.files() == placed
        assert (await agent.status(lambda its: its["converged"]))["drift"]["found"] == 0


async def test_whom_the_agent_left_alone_is_left_alone(node: Node) -> None:
    id_ = await node.run(dataclasses.replace(WEB, namespace="infra"), SHARED)
    node.its.put(id_, "5")
    node.its.config.write_text("unmanagedNamespaces: [infra]\n")
    assert (await node.restore("--config", str(node.its.config)))[0] == 0
    assert node.its.cpus(id_) == "5"
    assert (await node.restore())[0] == 0
    assert node.its.cpus(id_) == ""


async def test_a_quota_that_somebody_has_set_since_is_left(node: Node) -> None:
    id_ = await node.run(DB, TWO)
    path = str(node.its.runtime.containers[id_].cgroup)
    before = "50000 100000", "60000 100000"
    for group, text in zip((path, os.path.dirname(path)), before, strict=True):
        node.its.kernel.write(group, "cpu.max", text)
    assert (await node.restore())[0] == 0
    assert (node.text(path, "cpu.max"), node.text(path, "../cpu.max")) == before
    node.its.kernel.write(path, "cpu.max", "max")
    assert (await node.restore())[0] == 0
    assert (node.text(path, "cpu.max"), node.text(path, "../cpu.max")) == ("200000 100000", before[1])


async def test_a_runtime_that_does_not_answer_is_told_in_one_sentence(node: Node) -> None:
    code, said, wrong = await node.restore("--cri-socket", str(node.its.folder / "nobody.sock"))
    assert (code, said) == (1, "")
    assert program.is_one_sentence(wrong), wrong
    assert "nobody.sock" in wrong


async def test_a_record_that_makes_no_sense_leaves_its_container_as_it_is(node: Node) -> None:
    bad, good = await node.run(WEB, SHARED), await node.run(DB, TWO)
    async with node.placed():
        pass
    placed = node.its.cpus(bad)
    node.its.runtime.containers[bad].message.linux.resources.cpu.cpus = "3-1"
    code, _, wrong = await node.restore()
    assert (code, wrong.startswith("left as it is: ")) == (0, True)
    assert (node.its.cpus(bad), node.its.cpus(good)) == (placed, "")


class Kernel(kernel.SimulatedCgroupfs):
    """One that answers some writes with an error."""

    refuses: Callable[[str, str, str], int] = staticmethod(lambda *_: 0)

    def write(self, path: str, file: str, text: str) -> None:
        """As `Cgroupfs.write`."""
        if number := self.refuses(path, file, text):
            raise errors.HostFileError(f"{path}/{file}", "write", number, os.strerror(number))
        super().write(path, file, text)


@pytest.fixture
def refusing(node: Node, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The tree that `restore` works on, in this process."""
    tree = Kernel(node.its.cgroups, sysfs.topology(node.its.root))
    monkeypatch.setattr("reconciler.cli.run.tree", lambda _: tree)
    return tree


async def test_where_the_kernel_clears_nothing_all_that_is_online_is_written(
    node: Node, refusing: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    # Up to Linux 6.12 the list of a group with processes cannot be cleared.
    refusing.refuses = lambda _, __, text: 0 if text else errno.ENOSPC
    await node.run(WEB, SHARED)
    id_ = await node.run(DB, TWO)
    async with node.placed("integerMemory: pin\n"):
        pass
    assert await asyncio.to_thread(main.main, node.arguments) == 0
    path = str(node.its.runtime.containers[id_].cgroup)
    assert (node.its.cpus(id_), node.text(path, "cpuset.mems")) == ("0-7", "0-1")
    capsys.readouterr()
    assert await asyncio.to_thread(main.main, node.arguments) == 0
    assert capsys.readouterr().out.startswith("nothing to restore")


async def test_a_write_that_fails_costs_the_others_nothing_and_is_told(
    node: Node, refusing: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    web, db = await node.run(WEB, SHARED), await node.run(DB, TWO)
    stuck = str(node.its.runtime.containers[web].cgroup)
    async with node.placed():
        pass
    placed = node.its.cpus(web)
    refusing.refuses = lambda path, *_: errno.EBUSY if path == stuck else 0
    assert await asyncio.to_thread(main.main, node.arguments) == 1
    captured = capsys.readouterr()
    assert program.is_one_sentence(captured.err), captured.err
    assert "writes failed" in captured.err
    assert "failed" in captured.out
    assert (node.its.cpus(web), node.its.cpus(db)) == (placed, "")


async def test_a_container_that_vanishes_meanwhile_is_no_failure(
    node: Node, refusing: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    id_ = await node.run(WEB, SHARED)
    node.its.put(id_, "5")
    path = str(node.its.runtime.containers[id_].cgroup)

    def vanish(*_: str) -> int:
        node.its.kernel.remove(path)
        return 0

    refusing.refuses = vanish
    assert await asyncio.to_thread(main.main, node.arguments) == 0
    assert capsys.readouterr().err == ""


async def test_slices_of_the_host_have_all_cpus_again(node: Node) -> None:
    await node.run(DB, TWO)
    node.its.kernel.make("system.slice")
    async with node.placed("hostSlices: [system.slice]\n"):
        pass
    assert node.text("system.slice", "cpuset.cpus") == "0-1,4-7"
    code, said, wrong = await node.restore()
    assert (code, wrong, node.text("system.slice", "cpuset.cpus")) == (0, "", "")
    assert "system.slice" in said
    # Somebody's own decision, from now on.
    node.its.kernel.write("system.slice", "cpuset.cpus", "0-3")
    assert (await node.restore())[1].startswith("nothing to restore")
    assert node.text("system.slice", "cpuset.cpus") == "0-3"


async def test_what_systemd_was_told_of_units_is_taken_back(node: Node) -> None:
    id_ = await node.run(DB, dataclasses.replace(TWO, cpus="0-3"))
    other = await node.run(WEB, SHARED)
    group, unlike = (str(node.its.runtime.containers[its].cgroup) for its in (id_, other))
    node.its.kernel.make("system.slice")
    async with stand_in.serving(node.its.root, node.its.kernel) as systemd:
        for path in (group, unlike, "system.slice"):
            systemd.units[os.path.basename(path)] = stand_in.Unit(path)
        async with node.placed("hostSlices: [system.slice]\n"):
            async with asyncio.timeout(process.PATIENCE):
                while str(systemd.units["system.slice"].cpus) != "0-1,4-7":  # noqa: ASYNC110  another process
                    await asyncio.sleep(0.02)
        systemd.set_property(os.path.basename(group), "2-3")
        before = list(systemd.log)
        assert (await node.restore("--dry-run"))[0] == 0
        assert {call for call, _ in systemd.log[len(before) :]} == {"GetUnit"}
        code, said, wrong = await node.restore("--output", "json")
        assert (code, wrong) == (0, "")
        told = {write["cgroup"]: write["text"] for write in written(said) if write["file"] == "AllowedCPUs"}
        assert told == {os.path.basename(group): "0-3", "system.slice": ""}
        systemd.daemon_reload()
    assert node.its.cpus(id_) == "0-3"
    assert (node.its.cpus(other), node.text("system.slice", "cpuset.cpus")) == ("", "")


async def test_a_systemd_that_refuses_costs_its_part_and_is_told(node: Node) -> None:
    id_ = await node.run(DB, TWO)
    node.its.put(id_, "2-3")
    path = str(node.its.runtime.containers[id_].cgroup)
    async with stand_in.serving(node.its.root, node.its.kernel) as systemd:
        systemd.units[os.path.basename(path)] = stand_in.Unit(path)
        systemd.error = "Access denied"
        code, _, wrong = await node.restore()
    assert (code, node.its.cpus(id_)) == (1, "")
    assert "writes failed" in wrong
    assert "Access denied" in wrong


async def test_a_bus_at_which_nobody_listens_costs_its_part_and_is_told(node: Node) -> None:
    id_ = await node.run(DB, TWO)
    node.its.put(id_, "2-3")
    path = pathlib.Path(node.its.root, systemds.SOCKET)
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(path))
        code, _, wrong = await node.restore()
    assert (code, node.its.cpus(id_)) == (1, "")
    assert program.is_one_sentence(wrong), wrong
    assert "systemd: " in wrong


async def test_the_lock_is_free_again_afterwards(node: Node) -> None:
    assert (await node.restore())[0] == 0
    with open(node.its.folder / "state/instance.lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
