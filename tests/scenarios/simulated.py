"""The simulated node: the agent as a process, NRI over a real socket, a directory for a machine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import yaml

from reconciler import errors, inventory
from reconciler.cpu import bandwidth
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import api
from reconciler.host import sysfs
from reconciler.runtime.nri import nri_pb2
from reconciler.sim import kernel, machine, runtime, runtime_plugins, runtime_pods, runtime_profile
from tests.scenarios import ground, model, specs

PATIENCE = 30.0
"""Seconds; a node that has not settled by then never will."""


class SimulatedGround:
    """A node in a directory. Use as `async with simulated.node(...)`."""

    source = "nri"
    """The door to the runtime."""

    def __init__(self, folder: pathlib.Path, scenario: model.Scenario) -> None:
        self._folder = folder
        self._root = str(folder / "host")
        machine.write(self._root, model.machine(scenario.machine))
        config = {"passIntervalSeconds": 0.2, **scenario.config}
        (folder / "config.yaml").write_text(yaml.dump(config))
        cgroups = os.path.join(self._root, "sys/fs/cgroup")
        self.tree = kernel.SimulatedCgroupfs(cgroups, sysfs.topology(self._root))
        profile = runtime_profile.PROFILES["containerd-2.1.9"]
        self.runtime = runtime.StandInRuntime(str(folder / "nri.sock"), profile, self.tree)
        self._api = str(folder / "api.sock")
        self.cri_socket = str(folder / "none.sock")
        self._agent: asyncio.subprocess.Process | None = None
        self._pods: dict[str, tuple[str, model.Pod]] = {}
        self._runs = itertools.count(1)
        self._attempts: dict[str, list[str]] = {}

    async def run_pod(self, pod: model.Pod) -> None:
        """As `Ground.run_pod`."""
        sandbox = await self.runtime.run_pod(specs.pod(pod, next(self._runs)))
        self._pods[pod.pod] = sandbox, pod
        if quota := specs.quota(pod):
            self.tree.write(self._path(f"{pod.pod}/{inventory.PAUSE}"), bandwidth.POD_FILE, quota)
        for name in pod.first:
            await self.create(f"{pod.pod}/{name}")

    async def create(self, key: str) -> None:
        """As `Ground.create`."""
        pod_name, name = key.split("/")
        sandbox, pod = self._pods[pod_name]
        try:
            id_ = await self.runtime.create_container(sandbox, specs.container(name, pod.containers[name]))
            self._attempts.setdefault(key, []).append(id_)
            await self.runtime.start_container(id_)
        except runtime_plugins.RequestFailedError as error:
            raise ground.RefusedError(str(error)) from error

    async def exit(self, key: str) -> None:
        """As `Ground.exit`."""
        await self.runtime.exit_container(self._attempts[key][-1])

    async def remove(self, key: str) -> None:
        """As `Ground.remove`."""
        await self.runtime.remove_container(self._attempts[key].pop(0))

    async def delete_pod(self, name: str) -> None:
        """As `Ground.delete_pod`."""
        sandbox, _ = self._pods.pop(name)
        await self.runtime.remove_pod(sandbox)

    async def write(self, key: str, file: str, text: str) -> None:
        """As `Ground.write`: by a shell, in one write as the kernel takes it. An agent that runs has found it
        when this returns."""
        before = None if self._agent is None else (await self.status())["drift"]["found"]
        path = pathlib.Path(self.tree.root, self._path(key), file)
        shell = await asyncio.create_subprocess_exec(
            "sh", "-c", 'printf "%s\\n" "$1" 1<> "$2"', "sh", text, str(path)
        )
        assert await shell.wait() == 0
        if before is not None:
            await self._until(lambda status: status["drift"]["found"] > before)

    async def update(self, key: str, quota: int) -> None:
        """As `Ground.update`."""
        cpu = nri_pb2.LinuxCPU(quota=nri_pb2.OptionalInt64(value=quota))
        await self.runtime.update_container(self._attempts[key][-1], cpu)

    async def resize(self, resize: model.Resize) -> None:
        """As `Ground.resize`."""
        pod_name, name = resize.container.split("/")
        sandbox, pod = self._pods[pod_name]
        manifest = pod.resized(name, resize.limit, resize.request)
        cpu = runtime_pods.cpu_message(specs.container(name, manifest.containers[name]))
        try:
            await self.runtime.update_container(self._attempts[resize.container][-1], cpu)
        except runtime_plugins.RequestFailedError as error:
            raise ground.RefusedError(str(error)) from error
        self._pods[pod_name] = sandbox, manifest

    async def stop_agent(self, *, kill: bool) -> None:
        """As `Ground.stop_agent`."""
        assert self._agent is not None
        self._agent.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        code = await self._agent.wait()
        self._agent = None
        assert code == (-signal.SIGKILL if kill else 0), self.log()

    async def start_agent(self) -> None:
        """As `Ground.start_agent`."""
        with open(self._folder / "agent.log", "ab") as log:
            self._agent = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "reconciler.cli.main", "run", "--simulated"),
                *("--source", self.source, "--log-format", "json"),
                *("--config", str(self._folder / "config.yaml"), "--host-root", self._root),
                *("--nri-socket", self.runtime.socket_path, "--cri-socket", self.cri_socket),
                *("--api-socket", self._api),
                *("--state-dir", str(self._folder / "state")),
                stderr=log,
            )
        await self.connected()

    async def connected(self) -> None:
        """Return when the agent hears of the runtime."""
        async with asyncio.timeout(PATIENCE):
            await self.runtime.plugins.wait_for(1)

    async def restart_runtime(self) -> None:
        """As `Ground.restart_runtime`."""
        await self.runtime.restart()
        await self.connected()

    async def switch(self, cpus: str, *, online: bool) -> None:
        """As `Ground.switch`."""
        which = CpuSet.parse(cpus, what="switch")
        before = sysfs.topology(self._root).online
        after = before | which if online else before - which
        machine.write(self._root, {topologies.ONLINE: f"{after}\n"})
        offline = str(sysfs.topology(self._root).offline)
        await self._until(lambda status: status["pools"]["offline"] == offline)

    async def settle(self) -> None:
        """As `Ground.settle`. A quota that the runtime writes is found some time after that."""
        await self._until(
            lambda status: status["converged"] and not any(map(self._lag, status["containers"]))
        )

    def _lag(self, entry: dict[str, Any]) -> str:
        record = self.runtime.containers.get(entry["id"])
        if record is None or record.cgroup is None:
            return ""
        folder = pathlib.Path(self.tree.root, record.cgroup)
        return ground.quota_lag(entry, lambda file: (folder / file).read_text())

    async def seen(self, key: str) -> ground.Seen:
        """As `Ground.seen`: with a shell's eyes. What a shell wrote is effective once it is worked out."""
        self.tree.refresh(self._path(key))
        folder = pathlib.Path(self.tree.root, self._path(key))
        texts = [
            (folder / file).read_text().strip()
            for file in ("cpuset.cpus", "cpuset.mems", "cpuset.cpus.effective", "cpu.max", "../cpu.max")
        ]
        return ground.Seen(
            cpus=texts[0], mems=texts[1], effective=texts[2], quota=texts[3], pod_quota=texts[4]
        )

    async def status(self) -> dict[str, Any]:
        """As `Ground.status`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await api.ask(self._api, {"request": "status"})
                except errors.Retryable:
                    assert self._agent is not None, "the agent is down"
                    assert self._agent.returncode is None, self.log()
                    await asyncio.sleep(0.02)

    async def _until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition(await self.status()):  # noqa: ASYNC110  another process is waited for
                await asyncio.sleep(0.02)

    def log(self) -> list[dict[str, Any]]:
        """What the agent has logged so far."""
        text = (self._folder / "agent.log").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def _path(self, key: str) -> str:
        pod_name, name = key.split("/")
        if name == inventory.PAUSE:
            path = runtime_pods.directory(self.runtime.pods[self._pods[pod_name][0]].message)
        else:
            path = self.runtime.containers[self._attempts[key][-1]].cgroup
        assert path is not None
        return path

    async def end(self) -> None:
        """Ends the agent, if it runs; it must end well."""
        if self._agent is not None:
            await self.stop_agent(kill=False)
        self.tree.close()


@contextlib.asynccontextmanager
async def node(folder: pathlib.Path, scenario: model.Scenario) -> AsyncIterator[SimulatedGround]:
    """A node with a running agent, below `folder`."""
    made = SimulatedGround(folder, scenario)
    async with made.runtime:
        await made.start_agent()
        async with ending(made):
            yield made


@contextlib.asynccontextmanager
async def ending(made: SimulatedGround) -> AsyncIterator[None]:
    """Ends a node, and shows the end of its agent's log where something failed."""
    try:
        yield
    except BaseException as error:
        error.add_note("the agent's log ends with:\n" + "\n".join(map(json.dumps, made.log()[-15:])))
        raise
    finally:
        await made.end()
