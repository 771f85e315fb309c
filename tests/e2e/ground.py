"""The real node as a ground of scenarios: containerd, systemd, the kernel, and the agent as a service."""

from __future__ import annotations

import asyncio
import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any

from reconciler import errors, inventory
from reconciler.cpu.idset import CpuSet
from reconciler.sim import runtime_pods
from tests.e2e import agent as agents
from tests.e2e import cgroups, kubelet, node, systemd
from tests.e2e import settle as settling
from tests.scenarios import ground, model, specs

_PATIENCE = 10.0
_CPUS = pathlib.Path("/sys/devices/system/cpu")

_Install = Callable[[dict[str, object], node.Node], agents.Agent]
"""How the node comes by an agent with a configuration."""


def _as_a_service(config: dict[str, object], _: node.Node) -> agents.Agent:
    return agents.Agent(config)


class RealGround:
    """A `ground.Ground`. `begin` before the first step, `end` after the last one."""

    def __init__(self, scenario: model.Scenario, install: _Install = _as_a_service) -> None:
        self._node = node.Node()
        self._agent = install(dict(scenario.config), self._node)
        self._manifests: dict[str, model.Pod] = {}
        self._runs = itertools.count(1)

    async def begin(self) -> None:
        """A fresh agent."""
        self._agent.forget()
        await self._agent.start()

    async def end(self, name: str) -> None:
        """No pods, no agent, all CPUs; the agent's log is in the results under `name`."""
        await self.switch("1-7", online=True)
        try:
            await self._node.clear()
        finally:
            self._agent.stop()
            self._node.cri.close()
            self._agent.keep_log(name)

    async def run_pod(self, pod: model.Pod) -> None:
        """As `Ground.run_pod`."""
        self._manifests[pod.pod] = pod
        run = await self._node.run_pod(specs.pod(pod, next(self._runs)))
        if quota := specs.quota(pod):
            kubelet.limit(run.parent, quota)
        for name in pod.first:
            await self.create(f"{pod.pod}/{name}")

    async def create(self, key: str) -> None:
        """As `Ground.create`."""
        pod, name = key.split("/")
        spec = specs.container(name, self._manifests[pod].containers[name])
        try:
            await self._node.run(self._node.pods[pod], spec)
        except errors.Refused as refused:
            raise ground.RefusedError(str(refused)) from refused

    async def exit(self, key: str) -> None:
        """As `Ground.exit`."""
        pod, name = self._find(key)
        await self._node.end(pod, pod.containers[name][-1])

    async def remove(self, key: str) -> None:
        """As `Ground.remove`."""
        pod, name = self._find(key)
        await self._node.remove(pod, name)

    async def delete_pod(self, name: str) -> None:
        """As `Ground.delete_pod`."""
        await self._node.delete(name)

    async def write(self, key: str, file: str, text: str) -> None:
        """As `Ground.write`."""
        self._cgroup(key).write_as_shell(file, text)

    async def update(self, key: str, quota: int) -> None:
        """As `Ground.update`."""
        pod, name = self._find(key)
        await self._node.update(pod.containers[name][-1], cpu_quota=quota)

    async def resize(self, resize: model.Resize) -> None:
        """As `Ground.resize`."""
        pod, name = self._find(resize.container)
        manifest = self._manifests[pod.spec.name].resized(name, resize.limit, resize.request)
        cpu = runtime_pods.cpu_message(specs.container(name, manifest.containers[name]))
        try:
            await self._node.update(
                pod.containers[name][-1],
                cpu_shares=cpu.shares.value,
                cpu_quota=cpu.quota.value,
                cpu_period=cpu.period.value,
            )
        except errors.Refused as refused:
            raise ground.RefusedError(str(refused)) from refused
        self._manifests[pod.spec.name] = manifest

    async def stop_agent(self, *, kill: bool) -> None:
        """As `Ground.stop_agent`."""
        if kill:
            self._agent.kill()
        else:
            self._agent.stop()

    async def start_agent(self) -> None:
        """As `Ground.start_agent`."""
        await self._agent.start()

    async def restart_runtime(self) -> None:
        """As `Ground.restart_runtime`."""
        systemd.systemctl("restart", "containerd.service")
        await self._node.until_answered()

    async def switch(self, cpus: str, *, online: bool) -> None:
        """As `Ground.switch`."""
        state = "1" if online else "0"
        for cpu in CpuSet.parse(cpus, what="switch"):
            file = _CPUS / f"cpu{cpu}/online"
            if file.read_text().strip() != state:
                file.write_text(state)

    async def settle(self) -> None:
        """As `Ground.settle`."""
        await settling.settle(self._node, self._agent)

    async def seen(self, key: str) -> ground.Seen:
        """As `Ground.seen`."""
        cgroup = self._cgroup(key)
        # The kernel's two answers, of the cgroup and of the threads in it, must be one. It moves threads
        # some time after a CPU went or came.
        until = time.monotonic() + _PATIENCE
        while (allowed := cgroup.allowed()) != {cgroup.effective}:
            assert time.monotonic() < until, f"{key}: {allowed} and {cgroup.effective}"
            await asyncio.sleep(0.05)
        return ground.Seen(
            cpus=cgroup.cpus,
            mems=cgroup.mems,
            effective=cgroup.effective,
            quota=cgroup.read("cpu.max"),
            pod_quota=cgroup.read("../cpu.max"),
        )

    async def status(self) -> dict[str, Any]:
        """As `Ground.status`."""
        return await self._agent.status()

    def _find(self, key: str) -> tuple[node.Pod, str]:
        pod, name = key.split("/")
        return self._node.pods[pod], name

    def _cgroup(self, key: str) -> cgroups.Cgroup:
        pod, name = self._find(key)
        return self._node.cgroup(pod, pod.sandbox if name == inventory.PAUSE else pod.containers[name][-1])
