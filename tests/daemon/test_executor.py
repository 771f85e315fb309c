"""What comes of a plan where some of its writes fail."""

# covers: PRD-4.7

from __future__ import annotations

import errno
import pathlib
from collections.abc import Iterator

import pytest

from reconciler import events, inventory, plan, report
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import executor
from reconciler.host import sysfs
from reconciler.policy import state
from reconciler.sim import machine
from tests.daemon import kernels, pods

POD = pods.pod("web")
A, B, C = (pods.container(POD, name) for name in "abc")


class Ground:
    """Cgroups for three containers, and the state that knows them."""

    def __init__(self, folder: pathlib.Path) -> None:
        machine.write(str(folder), machine.vm())
        topology = sysfs.topology(str(folder))
        (folder / "sys/fs/cgroup").mkdir(parents=True)
        self.kernel = kernels.Kernel(str(folder / "sys/fs/cgroup"), topology)
        self.now = state.State(terms=state.terms(topology, schema.Config()))
        for container in (A, B, C):
            self.kernel.make(str(container.cgroup), "0-7")
            event = events.ContainerStarting(pod=POD, container=container)
            self.now = state.State(
                terms=self.now.terms, inventory=inventory.reduce(self.now.inventory, event)
            )
        self.kernel.attempts.clear()

    def text(self, container: events.Container) -> str:
        """What the container's file says."""
        return pathlib.Path(self.kernel.root, str(container.cgroup), "cpuset.cpus").read_text().strip()

    def texts(self) -> list[str]:
        """What each container's file says."""
        return [self.text(container) for container in (A, B, C)]

    def execute(self, *steps: plan.Write) -> tuple[report.Result, ...]:
        """Carry them out."""
        return executor.execute(steps, self.now, self.kernel)


@pytest.fixture
def ground(tmp_path: pathlib.Path) -> Iterator[Ground]:
    """Three containers on every CPU."""
    made = Ground(tmp_path)
    yield made
    made.kernel.close()


def step(container: events.Container, text: str, *, needs: str = "", vacates: str = "") -> plan.Write:
    """A write to the container's `cpuset.cpus`."""
    return plan.Write(
        container=container.id,
        file="cpuset.cpus",
        text=text,
        phase=plan.Phase.LEAVE if vacates else plan.Phase.ADMIT,
        needs=CpuSet.parse(needs, what="needs"),
        vacates=CpuSet.parse(vacates, what="vacates"),
    )


def test_every_write_is_made_in_its_order(ground: Ground) -> None:
    results = ground.execute(step(A, "0-5", vacates="6-7"), step(B, "6-7", needs="6-7"))
    assert not any(result.failed for result in results)
    assert ground.texts() == ["0-5", "6-7", "0-7"]
    assert [path for path, _, _ in ground.kernel.attempts] == [A.cgroup, B.cgroup]


def test_a_write_that_failed_holds_up_only_those_that_need_its_cpus(ground: Ground) -> None:
    ground.kernel.refuses[str(A.cgroup)] = errno.EBUSY
    results = ground.execute(
        step(A, "0-5", vacates="6-7"), step(B, "7", needs="7"), step(C, "4-5", needs="4-5")
    )
    assert ground.texts() == ["0-7", "0-7", "4-5"]
    assert [(result.failed, result.blocked) for result in results] == [
        (True, False),
        (True, True),
        (False, False),
    ]
    assert results[0].error is not None
    assert (results[0].error.errno, results[0].error.path) == (errno.EBUSY, f"{A.cgroup}/cpuset.cpus")


def test_a_write_that_waits_holds_up_those_that_need_its_cpus_in_turn(ground: Ground) -> None:
    ground.kernel.refuses[str(A.cgroup)] = errno.EBUSY
    results = ground.execute(
        step(A, "0-5", vacates="6-7"),
        step(B, "6-7", needs="6-7", vacates="2-3"),
        step(C, "2-3", needs="2-3"),
    )
    assert [result.blocked for result in results] == [False, True, True]
    assert ground.texts() == ["0-7", "0-7", "0-7"]


@pytest.mark.parametrize("known", [True, False], ids=["its cgroup is gone", "the container is unknown"])
def test_who_is_gone_holds_up_nobody(ground: Ground, known: bool) -> None:
    leaving = A if known else pods.container(POD, "unknown")
    ground.kernel.remove(str(A.cgroup))
    results = ground.execute(step(leaving, "0-5", vacates="6-7"), step(B, "6-7", needs="6-7"))
    assert [(result.gone, result.failed) for result in results] == [(True, False), (False, False)]
    assert ground.text(B) == "6-7"
