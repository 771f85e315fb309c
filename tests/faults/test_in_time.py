"""A hook is answered in time, and safely, while the kernel holds up a write or a look at what runs."""

# covers: PRD-11.7

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from reconciler import events
from reconciler.daemon import guard
from reconciler.runtime.nri import envelope, nri_pb2
from reconciler.sim import runtime_pods, runtime_profile
from tests.daemon import node
from tests.faults import wire

GRANTED = 0.3
"""Seconds that the runtime gives each answer here."""
NAMING = runtime_profile.PROFILES["containerd-2.1.9"].naming
CORES = "weka.io/cores-ids"


@dataclass(frozen=True, slots=True)
class Member:
    """A pod with its container, as the runtime shows them."""

    pod: nri_pb2.PodSandbox
    container: nri_pb2.Container

    @property
    def directory(self) -> str:
        """The container's cgroup."""
        return runtime_pods.directory(self.container) or ""


def member(name: str, cpus: int = 0, cores: str = "") -> Member:
    """One that has whole CPUs, if any, and names them, if `cores` does."""
    qos = events.Qos.GUARANTEED if cpus else events.Qos.BURSTABLE
    annotations = {CORES: cores} if cores else {}
    spec = runtime_pods.PodSpec(name=name, uid=f"uid-{name}", qos=qos, annotations=annotations)
    limit = 1000 * cpus or None
    container = runtime_pods.ContainerSpec(name="main", limit=limit, request=limit or 100)
    pod = runtime_pods.pod_message(spec, f"sandbox-{name}", NAMING)
    return Member(pod, runtime_pods.container_message(container, pod, f"container-{name}", NAMING))


WEB, DB = member("web"), member("db", 2)
"""They run, and DB has the CPUs 2-3."""
BORN, OWN = member("born"), member("own", 2)
"""They are created, and not started."""
NEW, WHOLE, PINNED = member("new"), member("whole", 1), member("pinned", 2, cores="2-3")
"""They are not there yet; PINNED is to have what DB has."""
LATE = member("late")
"""It runs, and the agent was not told."""
BIGGER = nri_pb2.LinuxCPU(
    shares=nri_pb2.OptionalUInt64(value=3072), quota=nri_pb2.OptionalInt64(value=300_000)
)


class Ground:
    """An agent at the end of a line; calls are made in order."""

    def __init__(self, made: node.Node) -> None:
        self.node = made
        self.line = wire.Line(made.agent, made.tell.notice)

    def call(self, method: str, its: Member, cpu: nri_pb2.LinuxCPU | None = None) -> None:
        """One call about a container and its pod."""
        message: nri_pb2.CreateContainerRequest | nri_pb2.UpdateContainerRequest | nri_pb2.Lifecycle
        match method:
            case "CreateContainer":
                message = nri_pb2.CreateContainerRequest(pod=its.pod, container=its.container)
            case "UpdateContainer":
                resources = nri_pb2.LinuxResources(cpu=cpu or nri_pb2.LinuxCPU())
                message = nri_pb2.UpdateContainerRequest(
                    pod=its.pod, container=its.container, linux_resources=resources
                )
            case _:
                message = nri_pb2.Lifecycle(pod=its.pod, container=its.container)
        self.line.receive(self.line.runtime.call(method, message.SerializeToString(), GRANTED))

    async def reply(self, count: int) -> envelope.Reply:
        """The latest reply, once there are so many."""
        await node.until(lambda: len(self.line.replies) >= count)
        return self.line.replies[-1][1]

    async def birth(self, its: Member, *, start: bool = True) -> None:
        """Create a container, and start it if it is to run."""
        self.call("CreateContainer", its)
        reply = self.line.replies[-1][1]
        cpus = nri_pb2.CreateContainerResponse.FromString(reply.payload).adjust.linux.resources.cpu.cpus
        self.node.host.make(its.directory, cpus)
        if start:
            count = len(self.line.replies)
            self.call("StartContainer", its)
            assert (await self.reply(count + 1)).code == envelope.Code.OK

    def claims(self) -> dict[str, str]:
        """The CPUs of each claim, by the pod's name."""
        ledger = self.node.agent.state.ledger
        return {claim.pod.partition("/")[2]: str(claim.cpus) for claim in ledger.claims.values()}

    def guarded(self) -> dict[tuple[str, str], int]:
        """How often the guard has answered, as it is counted."""
        return dict(self.node.tell.counters.guarded)


@contextlib.asynccontextmanager
async def ground(folder: pathlib.Path) -> AsyncIterator[Ground]:
    """A node with two containers that run and two that are about to."""
    async with node.running(folder, ready=False) as made:
        its = Ground(made)
        its.line.configured()
        await made.quiet()
        for running in (WEB, DB):
            await its.birth(running)
        for created in (BORN, OWN):
            await its.birth(created, start=False)
        await made.quiet()
        yield its
        made.kernel.release()
        await made.quiet()
        its.line.connection.close("the test ends")
        await its.line.connection.lost


def cpus(reply: envelope.Reply) -> str:
    """The CPUs that a creation or an update was answered with."""
    response = nri_pb2.CreateContainerResponse.FromString(reply.payload)
    if adjusted := response.adjust.linux.resources.cpu.cpus:
        return adjusted
    updates = nri_pb2.UpdateContainerResponse.FromString(reply.payload).update
    return updates[0].linux.resources.cpu.cpus if updates else ""


@pytest.mark.parametrize(
    ("method", "its", "expected"),
    [
        pytest.param("CreateContainer", NEW, "0-1,6-7", id="create shared"),
        pytest.param("CreateContainer", WHOLE, "1", id="create exclusive"),
        pytest.param("UpdateContainer", WEB, "0-1,6-7", id="update shared"),
        pytest.param("UpdateContainer", DB, "2-3", id="update exclusive"),
        pytest.param("StopContainer", DB, "", id="stop"),
        pytest.param("RemoveContainer", DB, "", id="remove"),
        pytest.param("RunPodSandbox", NEW, "", id="run pod"),
        pytest.param("StopPodSandbox", DB, "", id="stop pod"),
        pytest.param("RemovePodSandbox", DB, "", id="remove pod"),
    ],
)
async def test_what_needs_no_write_is_answered_at_once_though_the_kernel_holds_one_up(
    tmp_path: pathlib.Path, method: str, its: Member, expected: str
) -> None:
    async with ground(tmp_path) as made:
        made.node.kernel.hold()
        made.node.passes.everything()
        before = len(made.line.replies)
        made.call(method, its)
        assert len(made.line.replies) == before + 1
        reply = made.line.replies[-1][1]
        assert (reply.code, cpus(reply) if expected else "") == (envelope.Code.OK, expected)
        assert made.guarded() == {}


@pytest.mark.parametrize(
    ("method", "its", "cpu", "answer"),
    [
        pytest.param("StartContainer", BORN, None, ("start", "admitted"), id="start shared"),
        pytest.param("StartContainer", OWN, None, ("start", "refused"), id="start exclusive"),
        pytest.param("CreateContainer", PINNED, None, ("create", "refused"), id="create with a move"),
        pytest.param("UpdateContainer", DB, BIGGER, ("update", "refused"), id="resize"),
    ],
)
async def test_what_needs_a_write_that_the_kernel_holds_up_is_answered_by_the_guard(
    tmp_path: pathlib.Path,
    method: str,
    its: Member,
    cpu: nri_pb2.LinuxCPU | None,
    answer: tuple[str, str],
) -> None:
    async with ground(tmp_path) as made:
        claims = made.claims()
        made.node.kernel.hold()
        made.node.passes.everything()
        before = len(made.line.replies)
        made.call(method, its, cpu)
        assert made.line.replies[before:] == []
        reply = await made.reply(before + 1)
        assert made.guarded() == {answer: 1}
        if answer[1] == "refused":
            assert (reply.code, reply.text) == (envelope.Code.FAILED_PRECONDITION, guard.TOO_LATE)
        else:
            assert reply.code == envelope.Code.OK
        assert [told["reason"] for told in made.node.records("nri.guarded")] == [
            f"{method} was not decided in time, the guard answers"
        ]
        made.node.kernel.release()
        await made.node.quiet()
        assert made.claims() == claims
        assert len(made.line.replies) == before + 1


@pytest.mark.parametrize(
    ("method", "its", "answer", "expected"),
    [
        pytest.param("CreateContainer", NEW, ("create", "admitted"), "0-1,6-7", id="create shared"),
        pytest.param("CreateContainer", WHOLE, ("create", "refused"), "", id="create exclusive"),
        pytest.param("StartContainer", WEB, ("start", "admitted"), "", id="start shared"),
        pytest.param("StartContainer", DB, ("start", "refused"), "", id="start exclusive"),
        pytest.param("UpdateContainer", DB, ("update", "in-place"), "2-3", id="update exclusive"),
    ],
)
async def test_while_what_runs_is_looked_at_the_guard_answers(
    tmp_path: pathlib.Path, method: str, its: Member, answer: tuple[str, str], expected: str
) -> None:
    async with ground(tmp_path) as made:
        claims = made.claims()
        made.node.host.make(LATE.directory)
        made.node.kernel.hold()
        everyone = nri_pb2.SynchronizeRequest(
            pods=[one.pod for one in (WEB, DB, BORN, OWN, LATE)],
            containers=[one.container for one in (WEB, DB, BORN, OWN, LATE)],
        )
        made.line.receive(made.line.runtime.call("Synchronize", everyone.SerializeToString()))
        before = len(made.line.replies)
        for ending in ("StopContainer", "RemoveContainer"):
            made.call(ending, NEW)
        assert len(made.line.replies) == before + 2
        made.call(method, its)
        reply = await made.reply(before + 3)
        assert made.guarded() == {answer: 1}
        assert (reply.code == envelope.Code.OK) == (answer[1] != "refused")
        assert cpus(reply) == expected
        made.node.kernel.release()
        await made.node.quiet()
        assert made.claims() == claims
