"""The script of the demo: what happens on the simulated node, step by step, and what must come of it.

The CPU lists here and in `cast` are literal, so that they agree with the agent only where both are right.
I/O through the stage.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from reconciler.runtime.nri import nri_pb2
from reconciler.sim import cast, stage

_CPUS, _MEMS = "cpuset.cpus", "cpuset.mems"


async def shared_pods(on: stage.Stage) -> None:
    """Pods without whole CPUs run on the shared pool."""
    await on.step(
        "Two ordinary pods arrive",
        "web (two containers) and batch name no CPUs and have no whole CPU limit: they run on the shared "
        "pool, which is the whole machine.",
    )
    await on.arrive(cast.WEB)
    await on.arrive(cast.BATCH)
    await on.settle(pool="0-15")


async def integer_pod(on: stage.Stage) -> None:
    """A Guaranteed pod with a whole limit gets CPUs of its own."""
    await on.step(
        "db arrives: Guaranteed, with a limit of 2 CPUs",
        "A whole number of CPUs means CPUs of its own: a whole core, not the one with CPU 0. Everyone else "
        "leaves them before its first instruction.",
    )
    await on.arrive(cast.DB)
    await on.settle(pool="0,2-8,10-15")


async def annotated_exclusive_pod(on: stage.Stage) -> None:
    """An annotation with whole CPUs is an exclusive claim on the listed ones."""
    await on.step(
        "storage arrives: weka.io/cores-ids=4-5,12-13, with a limit of 4 CPUs",
        "It gets exactly the CPUs that it lists, for itself, and the memory of their node.",
    )
    await on.arrive(cast.STORAGE)
    await on.settle(pool="0,2-3,6-8,10-11,14-15")


async def annotated_shared_pod(on: stage.Stage) -> None:
    """An annotation without whole CPUs leaves the listed ones in the pool."""
    await on.step(
        "telemetry arrives: weka.io/cores-ids=2,10, without a whole limit",
        "It is held to the CPUs that it lists, and others may use them too.",
    )
    await on.arrive(cast.TELEMETRY)
    await on.settle()


async def larger_integer_pod(on: stage.Stage) -> None:
    """Whole cores of one node, where there is room."""
    await on.step(
        "upf arrives: Guaranteed, with a limit of 4 CPUs",
        "Two whole cores of one node are free for it, and on the other node it would need CPU 0.",
    )
    await on.arrive(cast.UPF)
    await on.settle(pool="0,2-3,8,10-11")


async def refused_pod(on: stage.Stage) -> None:
    """A conflict is refused with a sentence for the pod's owner."""
    await on.step(
        "greedy arrives: weka.io/cores-ids=3,5, with a limit of 2 CPUs",
        "CPU 5 is taken. The runtime passes the agent's sentence on to the pod's events, and nothing that "
        "runs is disturbed.",
    )
    await on.arrive_in_vain(cast.GREEDY, "CPU 5 by annotated-exclusive default/storage")
    await on.settle()


async def wrong_cpus(on: stage.Stage) -> None:
    """A foreign write is found by inotify and repaired."""
    await on.step(
        "Someone writes 0-15 into the cpuset.cpus of web/nginx",
        "Every exclusive CPU is open to it, until the agent has seen the write.",
    )
    await on.meddle({("web/nginx", _CPUS): cast.ALL})


async def wrong_mems(on: stage.Stage) -> None:
    """Memory nodes are repaired like CPUs."""
    await on.step(
        "Someone writes 0 into the cpuset.mems of storage/target",
        "Its memory would move to the far node.",
    )
    await on.meddle({("storage/target", _MEMS): "0"})


async def mass_write(on: stage.Stage) -> None:
    """What `systemctl daemon-reload` does to direct writes."""
    await on.step(
        "Something like `systemctl daemon-reload` rewrites every container",
        "The commonest drift on a real node: units get back their own AllowedCPUs, many files at once, "
        "exclusive containers among them.",
    )
    writes = {(name, _CPUS): cast.ALL for name in on.node.names()}
    await on.meddle(writes)


async def resize(on: stage.Stage) -> None:
    """The runtime's stale record does not come back."""
    await on.step(
        "web/nginx is resized in place: a new CPU quota",
        "The runtime's own record still has the pool from when nginx was created, and any update writes it "
        "back; the agent's answer to the update prevents that.",
    )
    quota = nri_pb2.LinuxCPU(quota=nri_pb2.OptionalInt64(value=150_000))
    await on.node.runtime.update_container(on.node.id("web/nginx"), quota)
    await on.settle()
    on.remark("kept", "web/nginx stays on 0,2-3,8,10-11")


async def runtime_restart(on: stage.Stage) -> None:
    """Claims outlive the connection, and drift is repaired without one."""
    await on.step(
        "The runtime restarts; meanwhile someone writes 1 into batch/worker",
        "Pods run on, claims hold and drift is repaired without the runtime; then the agent connects again, "
        "after a pause that spares a runtime in trouble.",
    )
    restarting = on.node.runtime
    adopted = len(on.events("node.adopted"))
    await restarting.stop()
    await on.meddle({("batch/worker", _CPUS): "1"})
    await restarting.start()
    await on.until(
        lambda: "" if len(on.events("node.adopted")) > adopted else "the agent has not connected again"
    )
    await on.settle()


async def integer_pod_ends(on: stage.Stage) -> None:
    """The pool grows when a claim ends."""
    await on.step("db ends", "Its CPUs return to the shared pool, and everyone on the pool gets them.")
    await on.leave(cast.DB)
    await on.settle(pool="0-3,8-11")


async def burstable_pod(on: stage.Stage) -> None:
    """A whole limit alone is not enough."""
    await on.step(
        "ingest arrives: Burstable, with a request of 1 and a limit of 2 CPUs",
        "A whole limit gives no CPUs of one's own where the pod is not Guaranteed: it runs on the pool.",
    )
    await on.arrive(cast.INGEST)
    await on.settle()


async def pod_that_others_make_room_for(on: stage.Stage) -> None:
    """An integer container moves out of the way of a list, while it runs."""
    await on.step(
        "raid arrives: weka.io/cores-ids=6-7, with a limit of 2 CPUs",
        "upf is there, but has not asked for these CPUs: it moves to two whole cores of the other node while "
        "it runs, and raid is created when it has.",
    )
    await on.arrive(cast.RAID, moves={"upf/dataplane": "1,3,9,11"})
    await on.settle(pool="0,2,8,10,14-15")


SCRIPT: tuple[Callable[[stage.Stage], Awaitable[None]], ...] = (
    shared_pods,
    integer_pod,
    annotated_exclusive_pod,
    annotated_shared_pod,
    larger_integer_pod,
    refused_pod,
    wrong_cpus,
    wrong_mems,
    mass_write,
    resize,
    runtime_restart,
    integer_pod_ends,
    burstable_pod,
    pod_that_others_make_room_for,
)
"""The steps in their order; each needs those before it."""

FINAL = {
    "web/nginx": "0,2,8,10,14-15",
    "web/log": "0,2,8,10,14-15",
    "batch/worker": "0,2,8,10,14-15",
    "storage/target": "4-5,12-13",
    "telemetry/agent": "2,10",
    "upf/dataplane": "1,3,9,11",
    "ingest/queue": "0,2,8,10,14-15",
    "raid/main": "6-7",
}
"""Who must be there at the end, and on which CPUs."""


async def play(on: stage.Stage) -> None:
    """All steps. Raises UnexpectedError at the first one that does not come out."""
    for act in SCRIPT:
        await act(on)
