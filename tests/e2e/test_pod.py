"""The built image as a pod, by the manifest that is delivered: what it may, does, and leaves."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest

from tests.e2e import agent as agents
from tests.e2e import cgroups, kubelet, manifest, node, place, pod_agent, pods, settle
from tests.e2e import ground as real
from tests.scenarios import ground, model

# covers: PRD-10.7, PRD-13.7
MANIFESTS = pod_agent.PAYLOAD / "deploy/kustomize"
SCENARIOS = ("three-kinds-side-by-side", "a-list-moves-an-integer-pod", "wrong-writes-are-repaired")

pytestmark = pytest.mark.skipif(not pod_agent.ARCHIVE.exists(), reason="this node's payload has no image")


@pytest.fixture(scope="module")
def images() -> None:
    """Both builds, in the runtime."""
    pod_agent.import_images()


@pytest.fixture
async def in_pod(
    request: pytest.FixtureRequest, machine: node.Node, images: None
) -> AsyncIterator[pod_agent.PodAgent]:
    """A fresh agent in a pod of the base's manifest, connected and converged."""
    made = pod_agent.PodAgent(machine, manifest.read(MANIFESTS / "base"))
    async with agents.running(made, machine, request.node.name) as it:
        assert isinstance(it, pod_agent.PodAgent)
        yield it


def status_of(pid: int) -> dict[str, str]:
    """The fields of a process's status, proc_pid_status(5)."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def writable(pid: int) -> set[str]:
    """Where a process sees file systems that it may write, of those that its pod was given, and the root."""
    found = set()
    for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        if "rw" in fields[5].split(","):
            found.add(fields[4])
    return found


async def test_it_has_no_more_than_the_manifest_gives_and_no_capability(
    in_pod: pod_agent.PodAgent,
) -> None:
    pid = in_pod.process()
    status = status_of(pid)
    sets = {name: int(value, 16) for name, value in status.items() if name.startswith("Cap")}
    assert sets == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert set(status["Uid"].split()) == {"0"}
    given = in_pod.manifest.container["volumeMounts"]
    paths = {its["mountPath"].replace("/var/run/", "/run/"): its.get("readOnly", False) for its in given}
    may = writable(pid)
    assert {path for path in paths if path in may} == {path for path, ro in paths.items() if not ro}
    assert "/" not in may
    for place_ in ("/etc/x", "/usr/bin/cpuset-reconciler", "/opt/cpuset-reconciler/x"):
        code, said = await in_pod.execute("/bin/sh", "-c", f": >> {place_}")
        assert code != 0, said
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert (await in_pod.probe(name))[0] == 0, name


async def test_it_places_and_repairs_others_and_is_kept_off_their_cpus_itself(
    machine: node.Node, in_pod: pod_agent.PodAgent
) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    db = await machine.run_pod(pods.guaranteed("db"))
    stays = await machine.run(db, pods.WHOLE_TWO)
    status = await settle.settle(machine, in_pod)
    own = cgroups.cpus(machine.cgroup(db, stays).cpus)
    pool = str(cgroups.cpus("0-7") - own)
    assert len(own) == 2
    assert machine.cgroup(db, stays).allowed() == {str(own)}
    assert machine.cgroup(web, follows).allowed() == {pool}
    machine.cgroup(web, follows).write_as_shell("cpuset.cpus", "0-7")
    await settle.settle(machine, in_pod)
    assert machine.cgroup(web, follows).allowed() == {pool}
    # Its threads, and whatever else is run in its container, as its probes are.
    assert in_pod.pod is not None
    itself = machine.cgroup(in_pod.pod, in_pod.pod.containers["agent"][-1])
    assert (itself.effective, itself.allowed()) == (pool, {pool})
    code, said = await in_pod.execute("/bin/grep", "Cpus_allowed_list", "/proc/self/status")
    assert (code, said.split()[-1]) == (0, pool)
    assert {entry["state"] for entry in status["containers"]} == {"in-sync"}
    assert in_pod.records("drift.unrepairable") == []


async def test_killed_upgraded_and_uninstalled_it_disturbs_nobody_and_all_is_given_back(
    machine: node.Node, in_pod: pod_agent.PodAgent
) -> None:
    web = await machine.run_pod(pods.shared("web"))
    follows = await machine.run(web, pods.SHARED)
    db = await machine.run_pod(pods.guaranteed("db"))
    stays = await machine.run(db, pods.WHOLE_TWO)
    await settle.settle(machine, in_pod)

    def now() -> tuple[str, str]:
        return machine.cgroup(web, follows).cpus, machine.cgroup(db, stays).cpus

    before = now()
    in_pod.kill()
    await in_pod.start()
    await settle.settle(machine, in_pod)
    assert now() == before
    in_pod.stop()
    assert now() == before
    in_pod.image = pod_agent.REBUILT
    await in_pod.start()
    await settle.settle(machine, in_pod)
    assert now() == before
    in_pod.stop()
    assert now() == before
    code, said = await in_pod.run_to_end(manifest.read(MANIFESTS / "restore"))
    assert code == 0, said
    groups = [cgroup for cgroup in machine.cgroups().values() if cgroup.path.exists()]
    assert {cpus for cgroup in groups for cpus in cgroup.allowed()} == {"0-7"}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_node_does_as_the_scenario_says(name: str, images: None) -> None:
    scenario = model.load(model.FOLDER / f"{name}.yaml")
    kubelet.start()
    its = manifest.read(MANIFESTS / "base")
    played_on = real.RealGround(scenario, lambda config, machine: pod_agent.PodAgent(machine, its, config))
    try:
        await played_on.begin()
        await ground.play(scenario, played_on)
    finally:
        await played_on.end(f"pod-{name}")


@place.needs_nri
@pytest.mark.parametrize("overlay", ["nri", "cri-only"])
async def test_with_one_door_alone_it_serves(machine: node.Node, images: None, overlay: str) -> None:
    its = manifest.read(MANIFESTS / "overlays" / overlay)
    async with agents.running(pod_agent.PodAgent(machine, its), machine, f"pod-{overlay}") as it:
        db = await machine.run_pod(pods.guaranteed("db"))
        stays = await machine.run(db, pods.WHOLE_TWO)
        await settle.settle(machine, it)
        assert len(cgroups.cpus(machine.cgroup(db, stays).cpus)) == 2
