"""The program meets the checkpoint of a version after it: nobody who is where it should be moves."""

from __future__ import annotations

import json
import pathlib
import tempfile

from reconciler import events
from reconciler.sim import runtime_pods
from tests.daemon import process

# covers: PRD-6.7
UID = "5b8a3f10-0000-4000-8000-00000000000"
TWO = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)


def pod(number: int) -> runtime_pods.PodSpec:
    """A Guaranteed pod."""
    return runtime_pods.PodSpec(name=f"db-{number}", uid=f"{UID}{number}", qos=events.Qos.GUARANTEED)


async def test_a_newer_checkpoint_is_set_aside_and_claims_come_from_where_containers_run() -> None:
    with tempfile.TemporaryDirectory(prefix="downgrade-") as folder:
        its = process.Machine(pathlib.Path(folder))
        its.kernel.make("kubepods.slice")
        agent = process.Agent(its)
        async with its.runtime, process.running(agent):
            await agent.status(lambda document: document["mode"] == "nri" and document["ready"])
            ids = []
            for number in (1, 2, 3):
                ids.append(await its.runtime.create_container(await its.runtime.run_pod(pod(number)), TWO))
                await its.runtime.start_container(ids[-1])
            # Not the CPUs that would be chosen anew.
            await its.runtime.remove_pod(next(iter(its.runtime.pods)))
            before = [its.cpus(id_) for id_ in ids[1:]]
            assert await agent.stop() == 0
            file = its.folder / "state/checkpoint.json"
            document = json.loads(file.read_text())
            newer = json.dumps({**document, "version": document["version"] + 1, "unheard": "of"})
            file.write_text(newer)
            await agent.start()
            after = await agent.status(lambda document: document["mode"] == "nri" and document["converged"])
            assert [its.cpus(id_) for id_ in ids[1:]] == before
            assert sorted(entry["claim"] for entry in after["containers"] if entry["claim"]) == sorted(before)
            assert after["drift"]["found"] == 0
            [told] = agent.records("checkpoint.set-aside")
            assert told["kept"] == f"{file}.newer"
            assert pathlib.Path(told["kept"]).read_text() == newer
            assert await agent.stop() == 0
        assert json.loads(file.read_text())["version"] == document["version"]
