"""A fault of the agent's own costs the event in which it happened, and no poll."""

from __future__ import annotations

import asyncio
import io
import json
import pathlib
import tempfile

from reconciler import events
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import agent, births, logs, polling, telling, watching
from reconciler.policy import state
from reconciler.runtime.nri import handler
from reconciler.sim import runtime, runtime_cri, runtime_cri_messages, runtime_pods
from tests.daemon import node as nodes

_NO_CPUS = topologies.Topology(
    online=CpuSet(), offline=CpuSet(), isolated=CpuSet(), nodes=(), sockets=(), llcs=(), cores=()
)


class Stumbling(agent.Agent):
    """One that cannot take in pods."""

    def __init__(self, tell: telling.Teller) -> None:
        config = schema.Config()
        super().__init__(
            state.terms(_NO_CPUS, config), config, watching.Watching(None, complain=tell.complain), tell
        )
        self.seen: list[str] = []

    def synchronized(self, event: events.Synchronized, peer: handler.Peer | None = None) -> None:  # noqa: ARG002
        self.seen.append("synchronized")

    def pod_started(self, event: events.PodStarted) -> None:
        raise RuntimeError(event.pod.name)

    async def appeared(self, event: events.ContainerCreating | events.ContainerStarting) -> None:
        self.seen.append(event.container.name)


async def test_a_fault_of_ours_costs_one_event() -> None:
    log = io.StringIO()
    tell = telling.Teller(logs.configure("json", log))
    its_agent = Stumbling(tell)
    its = runtime.StandInRuntime("", runtime_cri_messages.PROFILES["containerd-2.1"])
    with tempfile.TemporaryDirectory(prefix="cri-") as folder:
        path = str(pathlib.Path(folder, "cri.sock"))
        async with runtime_cri.serving(path, its):
            polls = polling.Polling(
                polling.Runtime(socket=path, period=0.01),
                its_agent,
                its_agent.set_mode,
                births.Births(None, complain=tell.complain),
                tell,
            )
            task = polls.start()
            await nodes.until(lambda: its_agent.mode == "cri")
            pod = await its.run_pod(runtime_pods.PodSpec(name="web", uid="1"))
            await its.start_container(
                await its.create_container(pod, runtime_pods.ContainerSpec(name="main", request=100))
            )
            await nodes.until(lambda: its_agent.seen == ["synchronized", "main"])
            assert its_agent.mode == "cri"
            polls.stop()
            await asyncio.wait([task])
    failed = [json.loads(line) for line in log.getvalue().splitlines() if "agent.failed" in line]
    assert [(record["what"], record["error"]) for record in failed] == [
        ("PodStarted over CRI", "RuntimeError: web")
    ]
