"""Where descriptors are few the agent does with those that are left; what it cannot do costs nothing else."""

# covers: PRD-11.1

from __future__ import annotations

import contextlib
import errno
import io
import json
import pathlib
import socket

import pytest

from reconciler import errors
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import logs, renewal
from reconciler.host import processes
from reconciler.runtime.nri import dial
from reconciler.sim import machine, runtime_plugins
from tests.daemon import process
from tests.faults import descriptors, ground
from tests.host import groups

NAMES = [f"pod{number}/c.scope" for number in range(60)]


@pytest.fixture
def root(tmp_path: pathlib.Path) -> str:
    for number, name in enumerate(NAMES):
        groups.make(str(tmp_path), name, cpus=str(number % 8))
    return str(tmp_path)


def test_half_of_the_descriptors_are_left_to_others(root: str) -> None:
    descriptors.alone(lambda: _half_of_the_descriptors_are_left_to_others(root))


def _half_of_the_descriptors_are_left_to_others(root: str) -> None:
    before = groups.descriptors()
    with groups.opened(root) as tree:
        with descriptors.limited(before + 40):
            for _ in range(3):
                for number, name in enumerate(NAMES):
                    assert groups.cpus_of(tree.look(name)) == str(number % 8)
            kept = groups.descriptors() - before
        assert kept == (before + 40) // 2


def test_groups_keep_their_descriptors_from_pass_to_pass_though_there_are_more_of_them(root: str) -> None:
    descriptors.alone(lambda: _descriptors_are_kept_from_pass_to_pass(root))


def _descriptors_are_kept_from_pass_to_pass(root: str) -> None:
    with groups.opened(root) as tree, descriptors.limited(80):
        for name in NAMES:
            tree.look(name)
        first = {name: tree._open[name].descriptor for name in NAMES[:39]}
        for name in NAMES:
            tree.look(name)
        assert {name: tree._open[name].descriptor for name in NAMES[:39]} == first


def test_descriptors_are_given_up_where_others_have_taken_the_rest(root: str) -> None:
    descriptors.alone(lambda: _descriptors_are_given_up_where_others_have_taken_the_rest(root))


def _descriptors_are_given_up_where_others_have_taken_the_rest(root: str) -> None:
    with groups.opened(root) as tree, descriptors.limited(200):
        for name in NAMES[:50]:
            tree.look(name)
        with descriptors.taken(left=0):
            assert groups.cpus_of(tree.look(NAMES[55])) == "7"
            tree.write(NAMES[56], "cpuset.cpus", "5")
            for name in NAMES:
                assert groups.cpus_of(tree.look(name)) != ""
            assert 0 < len(tree._open) < 50
        for name in NAMES:
            tree.look(name)
        assert len(tree._open) == len(NAMES)
    assert groups.text(root, f"{NAMES[56]}/cpuset.cpus") == "5\n"


def test_two_descriptors_are_enough_for_any_number_of_groups(root: str) -> None:
    with groups.opened(root) as tree, descriptors.limited(200), descriptors.taken(left=2):
        for number, name in enumerate(NAMES):
            tree.write(name, "cpuset.cpus", f"{number % 3}")
        assert {groups.cpus_of(tree.look(name)) for name in NAMES} == {"0", "1", "2"}


async def test_a_connection_that_finds_no_descriptor_is_tried_again(tmp_path: pathlib.Path) -> None:
    with (
        descriptors.limited(200),
        descriptors.taken(left=0),
        pytest.raises(errors.Retryable, match="Too many open files"),
    ):
        await dial.UnixDial(str(tmp_path / "nri.sock")).connect()


def test_threads_that_cannot_be_listed_are_an_error_and_no_fault() -> None:
    with descriptors.limited(200), descriptors.taken(left=0), pytest.raises(errors.HostFileError) as caught:
        processes.confine_self(CpuSet([0]))
    assert caught.value.errno == errno.EMFILE


def test_a_configuration_that_found_no_descriptor_comes_into_force_later(tmp_path: pathlib.Path) -> None:
    machine.write(str(tmp_path), machine.vm())
    file, log = tmp_path / "config.yaml", io.StringIO()
    file.write_text("minSharedCpus: 2\n")
    in_force = renewal.Renewal(str(file), str(tmp_path), logs.configure("json", log))
    file.write_text("minSharedCpus: 30\n")
    with descriptors.limited(200), descriptors.taken(left=0):
        for _ in range(3):
            assert not in_force.look()
    assert in_force.config.min_shared_cpus == 2
    assert in_force.look()
    assert in_force.config.min_shared_cpus == 30
    told = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert told == ["config.rejected", "topology.unreadable", "config.reloaded"]


DESCRIPTORS = 40
"""What the agent may have: some twenty of its own, and half of them for cgroups."""


async def test_an_agent_with_few_descriptors_serves_more_containers_than_that() -> None:
    before = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")
    async with ground.machine() as its:
        agent = ground.Agent(its, before=before)
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            pod = await its.runtime.run_pod(ground.WEB)
            shared = []
            for _ in range(DESCRIPTORS + 10):
                shared.append(await its.runtime.create_container(pod, ground.SHARED))
                await its.runtime.start_container(shared[-1])
            own = await ground.run(its, ground.DB)
            await agent.status(lambda status: status["converged"])
            assert {its.cpus(id_) for id_ in shared} == {"0-1,4-7"}
            assert its.cpus(own) == "2-3"
            assert its.runtime.plugins.dropped == []
            assert await agent.stop() == 0
        assert agent.records("drift.unrepairable", "checkpoint.failed") == []
        # Cgroups are not made at once here, as the kernel makes them: a placement in between may fail.
        failed = [record["reason"] for record in agent.records("placement.failed")]
        assert [reason for reason in failed if f"(errno {errno.EMFILE})" in reason] == []


async def test_where_callers_take_all_descriptors_nobody_starts_on_cpus_that_could_not_be_seen() -> None:
    before = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")
    async with ground.machine() as its:
        agent = ground.Agent(its, before=before)
        async with process.running(agent):
            await its.runtime.plugins.wait_for(1)
            shared = await ground.run(its, ground.WEB, ground.SHARED)
            await agent.status(lambda status: status["converged"])
            with contextlib.ExitStack() as callers:
                for _ in range(DESCRIPTORS):
                    callers.enter_context(socket.socket(socket.AF_UNIX)).connect(agent.api)
                await process.until(lambda: "out of system resource" in agent.said())
                with pytest.raises(runtime_plugins.RequestFailedError, match="raise the limit of open files"):
                    await ground.run(its, ground.DB)
                assert its.cpus(shared) == "0-7"
            own = await ground.until_started(its)
            assert (its.cpus(own), its.cpus(shared)) == ("2-3", "0-1,4-7")
            document = await agent.status(lambda status: status["converged"])
            assert {entry["state"] for entry in document["containers"]} == {"in-sync"}
            assert its.runtime.plugins.dropped == []
            await agent.status(lambda status: status["checkpoint"]["saved"])
            assert await agent.stop() == 0
        assert any("out of system" in told["reason"] for told in agent.records("library.said"))
