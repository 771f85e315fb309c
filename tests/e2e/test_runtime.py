"""The harness itself: without the agent, containers are where the runtime puts them."""

from __future__ import annotations

import pathlib

from reconciler import events
from reconciler.sim import runtime_pods
from tests.e2e import kubelet, node
from tests.scenarios import model

WHOLE = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


def test_the_node_is_the_machine_that_scenarios_are_written_for() -> None:
    wanted = {path: text for path, text in model.machine("vm").items() if "/cache/" not in path}
    assert {path: pathlib.Path("/", path).read_text() for path in wanted} == wanted


async def test_a_guaranteed_pod_runs_directly_under_kubepods(machine: node.Node) -> None:
    spec = runtime_pods.PodSpec(
        name="plain", uid="0b3c5a1e-0000-4000-8000-000000000001", qos=events.Qos.GUARANTEED
    )
    pod = await machine.run_pod(spec)
    id_ = await machine.run(pod, WHOLE)
    cgroup = machine.cgroup(pod, id_)
    assert cgroup.path.parent.parent == kubelet.KUBEPODS
    assert (cgroup.cpus, cgroup.effective) == ("", "0-7")
    assert cgroup.read("cpu.max") == "200000 100000"
    assert cgroup.allowed() == {"0-7"}


async def test_an_update_through_the_runtime_reaches_the_kernel(machine: node.Node) -> None:
    spec = runtime_pods.PodSpec(name="plain", uid="0b3c5a1e-0000-4000-8000-000000000002")
    pod = await machine.run_pod(spec)
    id_ = await machine.run(pod, runtime_pods.ContainerSpec(name="main"))
    await machine.update(id_, cpuset_cpus="2-3")
    assert machine.cgroup(pod, id_).effective == "2-3"


async def test_a_container_that_ends_leaves_no_cgroup(machine: node.Node) -> None:
    spec = runtime_pods.PodSpec(name="plain", uid="0b3c5a1e-0000-4000-8000-000000000003")
    pod = await machine.run_pod(spec)
    id_ = await machine.run(pod, runtime_pods.ContainerSpec(name="main"))
    assert id_ in await machine.alive()
    await machine.end(pod, id_)
    assert not machine.cgroup(pod, id_).path.exists()
    assert id_ not in await machine.alive()
