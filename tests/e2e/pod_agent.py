"""The agent as a cluster has it: a pod by its manifest, which the runtime runs from the built image."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import yaml

from reconciler import errors
from reconciler.daemon import api, options
from reconciler.sim import runtime_pods
from tests.e2e import agent as agents
from tests.e2e import manifest, node, podspec, systemd

PAYLOAD = pathlib.Path("/opt/payload")
ARCHIVE = PAYLOAD / "image.tar"
IMAGE = "localhost/cpuset-reconciler:{}"
BUILT, REBUILT = IMAGE.format("built"), IMAGE.format("rebuilt")
NAME = "cpuset-reconciler"
_FOLDER = pathlib.Path("/run/e2e/pods")
_GRACE = 30
_PATIENCE = 120.0


class PodAgent(agents.Agent):
    """Drop-in for the agent as a service. `image` is what its next pod runs."""

    def __init__(
        self,
        machine: node.Node,
        its: manifest.Manifest,
        config: Mapping[str, object] | None = None,
        image: str = BUILT,
    ) -> None:
        sources = [word for word in its.container["args"] if word.startswith("--source=")]
        super().__init__(source=sources[0].removeprefix("--source=") if sources else "auto")
        self.image = image
        self.pod: node.Pod | None = None
        self._machine = machine
        text = yaml.safe_dump(dict(config or {}))
        configs = {name: {**files, "config.yaml": text} for name, files in its.configs.items()}
        self.manifest = its if config is None else dataclasses.replace(its, configs=configs)
        self._numbers = itertools.count(1)
        self._volumes: podspec.Volumes | None = None
        self._logs = _FOLDER / "logs"

    def forget(self) -> None:
        """As `Agent.forget`."""
        super().forget()
        shutil.rmtree(self._logs, ignore_errors=True)

    def launch(self) -> None:
        """The next attempt of its container, in a new pod where there is none."""
        _wait(self._launch)

    def stop(self) -> None:
        """Delete its pod."""
        if self.pod is not None:
            _wait(self._stop)

    def kill(self) -> None:
        """SIGKILL, and wait until the runtime has seen its end."""
        pod = self._there()
        _wait(lambda machine: machine.end(pod, self._container()))

    async def status(self) -> dict[str, Any]:
        """As `Agent.status`, over the socket in its volume."""
        if self._volumes is None:
            raise errors.Retryable("the agent has no pod")
        mounts = {its["mountPath"]: its["name"] for its in self.manifest.container["volumeMounts"]}
        folder = self._volumes.paths[mounts[os.path.dirname(options.API_SOCKET)]]
        return await api.ask(f"{folder}/{os.path.basename(options.API_SOCKET)}", {"request": "status"})

    async def execute(self, *command: str) -> tuple[int, str]:
        """Run a command in its container: exit code and output."""
        done = await self._machine.cri.execute(self._container(), list(command))
        return done.exit_code, (done.stdout + done.stderr).decode(errors="replace")

    async def probe(self, name: str) -> tuple[int, str]:
        """Do what a probe of the manifest does."""
        return await self.execute(*self.manifest.container[name]["exec"]["command"])

    async def run_to_end(self, its: manifest.Manifest) -> tuple[int, str]:
        """Run a pod with the init container of a manifest: its exit code and output."""
        other = PodAgent(self._machine, its.initial(), image=self.image)
        other._logs = _FOLDER / f"other-{uuid.uuid4()}"
        await asyncio.to_thread(other.launch)
        try:
            return await other._exit_code(), other.tail()
        finally:
            await asyncio.to_thread(other.stop)

    def process(self) -> int:
        """The host's pid of the agent."""
        (pid,) = self._machine.cgroup(self._there(), self._container()).pids()
        return pid

    def tail(self) -> str:
        """As `Agent.tail`."""
        return "\n".join(list(self._lines())[-12:])

    def keep_log(self, name: str) -> None:
        """As `Agent.keep_log`."""
        self.log.write_text("".join(f"{line}\n" for line in self._lines()))
        super().keep_log(name)

    def _records(self) -> Iterator[dict[str, Any]]:
        for line in self._lines():
            if line.startswith("{"):
                yield json.loads(line)

    def _lines(self) -> Iterator[str]:
        """What it printed, of all attempts: `TIME STREAM TAG TEXT` is the runtime's format."""
        for file in sorted(self._logs.glob("*.log"), key=lambda path: path.stat().st_mtime):
            for line in file.read_text().splitlines():
                yield line.split(" ", 3)[-1]

    async def _launch(self, machine: node.Node) -> None:
        number = next(self._numbers)
        if self.pod is not None and self.pod.spec.name not in self._machine.pods:
            self._gone()
        if self.pod is None:
            spec = runtime_pods.PodSpec(
                name=f"{NAME}-{uuid.uuid4().hex[:5]}",
                uid=str(uuid.uuid4()),
                namespace="kube-system",
                annotations=self.manifest.annotations,
            )
            self._logs.mkdir(parents=True, exist_ok=True)
            self._volumes = podspec.Volumes(self.manifest, _FOLDER / spec.uid)
            self.pod = await machine.run_pod(spec, podspec.sandbox(self.manifest, spec, self._logs))
            self._machine.pods[spec.name] = self.pod
        assert self._volumes is not None
        config = podspec.container(self.manifest, self.pod.spec, self.image, self._volumes, number)
        await machine.cri.start_container(await machine.create_as(self.pod, config))

    async def _stop(self, machine: node.Node) -> None:
        pod = self._there()
        if self._machine.pods.pop(pod.spec.name, None) is not None:
            await machine.cri.stop_container(self._container(), grace=_GRACE)
            machine.pods[pod.spec.name] = pod
            await machine.delete(pod.spec.name)
        self._gone()

    async def _exit_code(self) -> int:
        async with asyncio.timeout(_PATIENCE):
            while True:
                status = (await self._machine.cri.container_status(self._container())).status
                if status.finished_at:
                    return status.exit_code
                await asyncio.sleep(0.2)

    def _gone(self) -> None:
        self.pod = None
        if self._volumes is not None:
            self._volumes.remove()
            self._volumes = None

    def _there(self) -> node.Pod:
        assert self.pod is not None, "the agent has no pod"
        return self.pod

    def _container(self) -> str:
        return self._there().containers[self.manifest.container["name"]][-1]


def import_images() -> None:
    """Give the runtime both builds."""
    systemd.run("ctr", "-n", "k8s.io", "images", "import", str(ARCHIVE))


def _wait(action: Callable[[node.Node], Coroutine[Any, Any, None]]) -> None:
    """Do something with a node's runtime while the caller, who may be in an event loop, waits."""

    async def with_its_own() -> None:
        machine = node.Node()
        try:
            await action(machine)
        finally:
            machine.cri.close()

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, with_its_own()).result()
