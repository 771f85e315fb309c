"""The first pod after a boot: the agent started by the runtime, and by systemd before kubelet."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from hack.vm import patience
from reconciler.runtime.nri import levels
from tests.e2e import agent as agents
from tests.e2e import cgroups, launched, node, place, pods, settle, systemd

# covers: PRD-8.12
PAYLOAD = pathlib.Path("/opt/payload")
PLUGIN = pathlib.Path("/opt/nri/plugins/90-cpuset-reconciler")
PROGRAM = f"""#!{sys.executable}
import sys
sys.path[:0] = ["{PAYLOAD}", "{PAYLOAD}/site"]
from reconciler.cli import main
sys.exit(main.main())
"""
CONTAINERD = pathlib.Path("/etc/containerd/config.toml")
UNITS = pathlib.Path("/run/systemd/system")
AT_KUBELETS_START = pathlib.Path("/run/e2e/at-kubelets-start")


@pytest.fixture
async def installed(machine: node.Node) -> AsyncIterator[launched.Launched]:
    """The agent in the runtime's plugin directory; the runtime has not been restarted yet."""
    version = await machine.cri.version()
    level = levels.infer(version.runtime_name, version.runtime_version, "")
    if place.DOOR != "nri" or level <= levels.ZOMBIES_UP_TO:
        pytest.skip(f"NRI {level} of this node's runtime does not synchronize the plugins that it starts")
    made = launched.Launched()
    made.forget()
    before = CONTAINERD.read_text()
    PLUGIN.parent.mkdir(parents=True, exist_ok=True)
    try:
        CONTAINERD.write_text(patience.patient(before))
        PLUGIN.write_text(PROGRAM)
        PLUGIN.chmod(0o755)
        yield made
        await machine.clear()
    finally:
        PLUGIN.unlink(missing_ok=True)
        CONTAINERD.write_text(before)
        systemd.systemctl("restart", "containerd.service")
        await machine.until_answered()


async def test_the_runtime_starts_it_and_a_service_beside_it_takes_over(
    machine: node.Node, installed: launched.Launched
) -> None:
    installed.start_runtime()
    await machine.until_answered()
    db = await machine.run_pod(pods.guaranteed("db"))
    first = await machine.run(db, pods.WHOLE_TWO)
    own = cgroups.cpus(machine.cgroup(db, first).cpus)
    assert len(own) == 2
    assert machine.cgroup(db, first).allowed() == {str(own)}
    print(f"registered {installed.seconds_to_register():.1f} s after the start of its process")
    assert (await settle.settle(machine, installed))["mode"] == "nri"
    service = agents.Agent()
    service.log.write_text("")
    service.launch()
    try:
        await service.until_logged("instance.waits")
        web = await machine.run_pod(pods.shared("web"))
        follows = await machine.run(web, pods.SHARED)
        assert machine.cgroup(web, follows).allowed() == {str(cgroups.cpus("0-7") - own)}
        assert service.records("agent.started") == []
        systemd.systemctl("stop", "containerd.service")
        await service.until_logged("agent.started")
        systemd.systemctl("start", "containerd.service")
        await machine.until_answered()
        await installed.until_logged("agent.ended")
        # The next attempt to connect may be a minute away by now.
        await settle.settle(machine, service, patience=180)
        assert machine.cgroup(db, first).allowed() == {str(own)}
        assert machine.cgroup(web, follows).allowed() == {str(cgroups.cpus("0-7") - own)}
        await machine.clear()
    finally:
        service.stop()


@pytest.fixture
def unit() -> Iterator[pathlib.Path]:
    """The unit as it is delivered; gives the folder of what a node changes of it."""
    folder = UNITS / f"{agents.UNIT}.d"
    folder.mkdir(parents=True)
    AT_KUBELETS_START.parent.mkdir(exist_ok=True)
    (UNITS / agents.UNIT).write_text((PAYLOAD / "deploy/systemd" / agents.UNIT).read_text())
    try:
        yield folder
    finally:
        stop = ["systemctl", "stop", "kubelet.service", agents.UNIT]
        subprocess.run(stop, check=False, capture_output=True)
        subprocess.run(["systemctl", "reset-failed", agents.UNIT], check=False, capture_output=True)
        systemd.systemctl("disable", "--runtime", agents.UNIT)
        for file in (UNITS / agents.UNIT, UNITS / "kubelet.service", *folder.iterdir()):
            file.unlink(missing_ok=True)
        folder.rmdir()
        systemd.systemctl("daemon-reload")


def install(folder: pathlib.Path, kubelet: str, timeout: int, *options: str) -> None:
    """Let the unit run the agent of this node with these options, and kubelet a command."""
    program = f"{sys.executable} -m reconciler.cli.main run {' '.join(options)}"
    lines = ["[Service]", "ExecStart=", f"ExecStart={program}", f"TimeoutStartSec={timeout}"]
    lines.append(f"Environment=PYTHONPATH={PAYLOAD}:{PAYLOAD}/site")
    (folder / "node.conf").write_text("\n".join(lines) + "\n")
    lines = ["[Service]", "Type=oneshot", "RemainAfterExit=yes", f"ExecStart={kubelet}"]
    (UNITS / "kubelet.service").write_text("\n".join(lines) + "\n")
    systemd.systemctl("daemon-reload")
    systemd.systemctl("enable", "--runtime", agents.UNIT)


async def test_the_unit_is_right_and_kubelet_starts_when_all_is_placed(
    machine: node.Node, unit: pathlib.Path
) -> None:
    web, db = await machine.run_pod(pods.shared("web")), await machine.run_pod(pods.guaranteed("db"))
    follows, stays = await machine.run(web, pods.SHARED), await machine.run(db, pods.WHOLE_TWO)
    agent = agents.Agent()
    agent.forget()
    seen = machine.cgroup(web, follows).path / "cpuset.cpus"
    install(unit, f"/bin/cp {seen} {AT_KUBELETS_START}", 600, "--config", "/run/e2e/config.yaml")
    systemd.run("systemd-analyze", "verify", agents.UNIT)
    systemd.systemctl("start", "kubelet.service")
    own = cgroups.cpus(machine.cgroup(db, stays).cpus)
    assert len(own) == 2
    assert cgroups.cpus(AT_KUBELETS_START.read_text().strip()) == cgroups.cpus("0-7") - own
    shown = systemd.run("systemctl", "show", "--property=ActiveState,StatusText", agents.UNIT)
    assert "ActiveState=active" in shown
    assert "StatusText=serving by " in shown
    await settle.settle(machine, agent)
    machine.cgroup(db, stays).write_as_shell("cpuset.cpus", "0-7")
    await settle.settle(machine, agent)
    assert machine.cgroup(db, stays).allowed() == {str(own)}


async def test_an_agent_that_does_not_get_ready_does_not_keep_kubelet_from_starting(
    machine: node.Node, unit: pathlib.Path
) -> None:
    AT_KUBELETS_START.unlink(missing_ok=True)
    options = ["--source", "nri", "--nri-socket", "/run/e2e/nowhere"]
    install(unit, f"/bin/touch {AT_KUBELETS_START}", 10, *options)
    began = time.monotonic()
    systemd.systemctl("start", "kubelet.service")
    assert AT_KUBELETS_START.exists()
    print(f"kubelet started after {time.monotonic() - began:.0f} s")
