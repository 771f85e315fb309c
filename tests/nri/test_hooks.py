"""The plugin and a stand-in runtime of every kind, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator

import pytest

from reconciler import errors, events
from reconciler.runtime.nri import envelope, levels, mux, nri_pb2, session, ttrpc
from reconciler.runtime.nri.handler import Adjustment
from reconciler.sim import runtime, runtime_plugins, runtime_pods, runtime_profile
from reconciler.sim.runtime_profile import PROFILES
from tests.nri import recorder

UID = "1edccc15-71c1-4a3e-8c5d-0123456789ab"
POD = runtime_pods.PodSpec(
    name="web",
    uid=UID,
    qos=events.Qos.GUARANTEED,
    annotations={"weka.io/cores-ids": "2-3", "kubernetes.io/config.source": "api"},
)
CONTAINER = runtime_pods.ContainerSpec(name="main", limit=2000, request=2000)
MODERN = PROFILES["containerd-2.1.9"]


@contextlib.asynccontextmanager
async def node(
    folder: pathlib.Path, heard: recorder.Recorder, profile: runtime_profile.Profile = MODERN
) -> AsyncIterator[tuple[runtime.StandInRuntime, recorder.Cgroups]]:
    """A stand-in runtime with a registered plugin."""
    cgroups = recorder.Cgroups()
    async with (
        runtime.StandInRuntime(str(folder / "nri.sock"), profile, cgroups) as stand_in,
        recorder.serving(stand_in, heard),
    ):
        yield stand_in, cgroups


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
async def test_a_container_lives_and_dies_under_every_runtime(
    tmp_path: pathlib.Path, profile: runtime_profile.Profile
) -> None:
    heard = recorder.Recorder()
    async with node(tmp_path, heard, profile) as (stand_in, cgroups):
        pod = await stand_in.run_pod(POD)
        container = await stand_in.create_container(pod, CONTAINER)
        await stand_in.start_container(container)
        path = stand_in.containers[container].cgroup
        assert path is not None
        assert cgroups.made[path] == ("2-3", "0")
        await stand_in.update_container(container, runtime_pods.cpu_message(CONTAINER))
        assert cgroups.made[path][0] == "4-5"
        await stand_in.stop_container(container)
        assert path not in cgroups.made
        await stand_in.remove_container(container)
        await stand_in.remove_pod(pod)
        assert stand_in.plugins.dropped == []
    assert heard.heard[:-1] == [
        "connected",
        "synchronized",
        "pod_started",
        "create",
        "start",
        "update",
        "stopped",
        "removed",
        "pod_stopped",
        "pod_removed",
    ]
    assert heard.peers[0].level == min(profile.nri, heard.peers[0].level)
    assert heard.peers[0].events == levels.EVENTS
    assert heard.notices == []


async def test_an_event_holds_what_a_decision_needs(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()
    async with node(tmp_path, heard) as (stand_in, _):
        pod_id = await stand_in.run_pod(POD)
        container_id = await stand_in.create_container(pod_id, CONTAINER)
    slice_ = f"kubepods-pod{UID.replace('-', '_')}.slice"
    pod = events.Pod(
        sandbox=events.SandboxId(pod_id),
        uid=events.PodUid(UID),
        namespace="default",
        name="web",
        annotations={"weka.io/cores-ids": "2-3"},
        qos=events.Qos.GUARANTEED,
        cgroup=f"kubepods.slice/{slice_}/cri-containerd-{pod_id}.scope",
    )
    container = events.Container(
        id=events.ContainerId(container_id),
        sandbox=events.SandboxId(pod_id),
        name="main",
        cgroup=f"kubepods.slice/{slice_}/cri-containerd-{container_id}.scope",
        limits=events.CpuLimits(shares=2048, quota=200_000, period=100_000),
        phase=events.Phase.CREATING,
    )
    assert heard.seen[1:] == [
        events.PodStarted(pod=pod),
        events.ContainerCreating(pod=pod, container=container),
    ]


async def test_a_refusal_reaches_the_owner_and_the_container_is_undone(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()

    def refuse(_: events.ContainerCreating) -> Adjustment:
        raise errors.Refused("CPU 2 is held\nby pod default/db")

    heard.on_create = refuse
    async with node(tmp_path, heard) as (stand_in, cgroups):
        pod = await stand_in.run_pod(POD)
        with pytest.raises(
            runtime_plugins.RequestFailedError,
            match="code = FailedPrecondition desc = CPU 2 is held by pod default/db",
        ):
            await stand_in.create_container(pod, CONTAINER)
        assert heard.heard[-3:] == ["create", "stopped", "removed"]
        assert len(cgroups.made) == 1
        heard.on_create = lambda _: Adjustment("1")
        await stand_in.create_container(pod, CONTAINER)
        assert stand_in.plugins.dropped == []


async def test_a_start_is_answered_when_it_is_decided_and_other_calls_are_not_held_up(
    tmp_path: pathlib.Path,
) -> None:
    heard = recorder.Recorder()
    gate = asyncio.get_running_loop().create_future()
    heard.on_start = lambda _: gate
    async with node(tmp_path, heard) as (stand_in, _):
        pod = await stand_in.run_pod(POD)
        container = await stand_in.create_container(pod, CONTAINER)
        starting = asyncio.create_task(stand_in.start_container(container))
        await recorder.until(lambda: heard.heard[-1] == "start")
        await asyncio.sleep(0.02)
        assert not starting.done()
        gate.set_result(None)
        await starting
        assert stand_in.containers[container].phase is events.Phase.RUNNING


async def test_a_refused_start_fails_and_the_container_is_gone(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()

    async def refuse() -> None:
        raise errors.Refused("CPU 2 could not be cleared")

    heard.on_start = lambda _: refuse()
    async with node(tmp_path, heard) as (stand_in, cgroups):
        pod = await stand_in.run_pod(POD)
        container = await stand_in.create_container(pod, CONTAINER)
        with pytest.raises(runtime_plugins.RequestFailedError, match="CPU 2 could not be cleared"):
            await stand_in.start_container(container)
        assert heard.heard[-1] == "stopped"
        assert len(cgroups.made) == 1


async def test_an_awaited_creation_is_answered(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()

    async def decide() -> Adjustment:
        await asyncio.sleep(0)
        return Adjustment("6")

    heard.on_create = lambda _: decide()
    async with node(tmp_path, heard) as (stand_in, _):
        container = await stand_in.create_container(await stand_in.run_pod(POD), CONTAINER)
        assert stand_in.containers[container].message.linux.resources.cpu.cpus == "6"


async def test_a_late_decision_is_guarded_before_the_runtime_gives_up(tmp_path: pathlib.Path) -> None:
    profile = runtime_profile.Profile(
        runtime="containerd", version="v2.1.9", nri=levels.Level(0, 8, 0), request_timeout=0.25
    )
    heard = recorder.Recorder()
    never = asyncio.get_running_loop().create_future()
    heard.on_create = lambda _: never
    async with node(tmp_path, heard, profile) as (stand_in, _):
        pod = await stand_in.run_pod(POD)
        container = await stand_in.create_container(pod, CONTAINER)
        assert stand_in.containers[container].message.linux.resources.cpu.cpus == "0"
        assert stand_in.plugins.dropped == []
        assert heard.heard[-1] == "guard"
        never.set_result(Adjustment("7"))
        await stand_in.stop_pod(pod)
        assert stand_in.plugins.dropped == []


async def test_a_plugin_without_a_guard_is_dropped_and_the_container_made_unadjusted(
    tmp_path: pathlib.Path,
) -> None:
    """The trap itself: fail-open."""
    profile = runtime_profile.Profile(
        runtime="containerd", version="v2.1.9", nri=levels.Level(0, 8, 0), request_timeout=0.05
    )
    heard = recorder.Recorder()
    heard.on_create = lambda _: asyncio.get_running_loop().create_future()

    def block(_: events.Event) -> Adjustment:
        # Holds up the whole loop, so that even the guard's answer comes too late.
        begin = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begin + 0.1:
            pass
        return Adjustment("0")

    heard.on_guard = block
    async with node(tmp_path, heard, profile) as (stand_in, _):
        container = await stand_in.create_container(await stand_in.run_pod(POD), CONTAINER)
        assert stand_in.containers[container].message.linux.resources.cpu.cpus == ""
        assert stand_in.plugins.active == []


@pytest.mark.parametrize("hook", ["create", "update", "stopped", "removed", "pod_started"])
async def test_a_fault_of_the_handler_is_an_answer_and_never_a_lost_connection(
    tmp_path: pathlib.Path, hook: str
) -> None:
    heard = recorder.Recorder()

    def fail(what: str) -> None:
        if what == hook:
            raise ZeroDivisionError("oops")

    heard.on_any = fail
    async with node(tmp_path, heard) as (stand_in, _):
        with contextlib.suppress(runtime_plugins.RequestFailedError):
            pod = await stand_in.run_pod(POD)
            container = await stand_in.create_container(pod, CONTAINER)
            await stand_in.start_container(container)
            with (
                pytest.raises(runtime_plugins.RequestFailedError)
                if hook == "update"
                else contextlib.nullcontext()
            ):
                await stand_in.update_container(container, runtime_pods.cpu_message(CONTAINER))
            await stand_in.remove_container(container)
        assert stand_in.plugins.dropped == []
    [notice] = heard.of("nri.handler-failed")
    assert notice.text.endswith(": ZeroDivisionError: oops")
    assert isinstance(notice.error, ZeroDivisionError)


@pytest.mark.parametrize("junk", [None, "2-3", 7], ids=repr)
async def test_an_answer_of_the_wrong_kind_is_a_fault_too(tmp_path: pathlib.Path, junk: object) -> None:
    heard = recorder.Recorder()
    heard.on_create = lambda _: junk  # type: ignore[assignment,return-value]
    async with node(tmp_path, heard) as (stand_in, _):
        with pytest.raises(
            runtime_plugins.RequestFailedError, match="code = Unknown desc = cpuset-reconciler failed"
        ):
            await stand_in.create_container(await stand_in.run_pod(POD), CONTAINER)
        assert stand_in.plugins.dropped == []


async def test_an_update_is_always_answered_and_heals_the_runtimes_record(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()
    async with node(tmp_path, heard) as (stand_in, cgroups):
        container = await stand_in.create_container(await stand_in.run_pod(POD), CONTAINER)
        await stand_in.start_container(container)
        await stand_in.update_container(container, nri_pb2.LinuxCPU(quota=nri_pb2.OptionalInt64(value=5000)))
        record = stand_in.containers[container]
        cpu = record.message.linux.resources.cpu
        assert (cpu.cpus, cpu.mems, cpu.quota.value, cpu.shares.value) == ("4-5", "0", 5000, 2048)
        assert cgroups.made[record.cgroup or ""] == ("4-5", "0")
    update = heard.seen[-1]
    assert isinstance(update, events.ContainerUpdating)
    assert update.limits == events.CpuLimits(quota=5000)
    assert update.cpus == ""
    assert update.container.limits.quota == 200_000


async def test_an_unanswered_update_writes_the_stale_cpuset_back(tmp_path: pathlib.Path) -> None:
    """The trap itself, with containerd; CRI-O leaves the cgroup alone."""
    heard = recorder.Recorder()
    heard.on_update = lambda _: Adjustment()
    for name, expected in (("containerd-2.1.9", "2-3"), ("cri-o-1.36", "")):
        async with node(tmp_path, heard, PROFILES[name]) as (stand_in, cgroups):
            container = await stand_in.create_container(await stand_in.run_pod(POD), CONTAINER)
            await stand_in.start_container(container)
            path = stand_in.containers[container].cgroup or ""
            cgroups.made[path] = ("6-7", "0")
            await stand_in.update_container(
                container, nri_pb2.LinuxCPU(quota=nri_pb2.OptionalInt64(value=5000))
            )
            assert cgroups.made[path][0] == expected


async def test_a_reply_over_4096_bytes_survives_the_go_reader(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()
    cpus = ",".join(str(cpu) for cpu in range(0, 8192, 2))
    heard.on_create = lambda _: Adjustment(cpus)
    async with node(tmp_path, heard) as (stand_in, _):
        pod = await stand_in.run_pod(POD)
        for _ in range(3):
            container = await stand_in.create_container(pod, CONTAINER)
            assert stand_in.containers[container].message.linux.resources.cpu.cpus == cpus
        assert stand_in.plugins.dropped == []


@pytest.mark.parametrize("size", [4096, 4097, 8192, 100_000, 1 << 20])
async def test_a_request_of_any_size_is_understood(tmp_path: pathlib.Path, size: int) -> None:
    spec = runtime_pods.PodSpec(name="big", uid=UID, annotations={"weka.io/note": "x" * size})
    heard = recorder.Recorder()
    async with node(tmp_path, heard) as (stand_in, _):
        await stand_in.create_container(await stand_in.run_pod(spec), CONTAINER)
    creating = heard.seen[-1]
    assert isinstance(creating, events.ContainerCreating)
    assert len(creating.pod.annotations["weka.io/note"]) == size


async def test_two_plugins_that_both_set_the_cpuset_fail_the_creation(tmp_path: pathlib.Path) -> None:
    first, second = recorder.Recorder(), recorder.Recorder()
    async with (
        node(tmp_path, first) as (stand_in, _),
        recorder.serving(stand_in, second, identity=session.Identity("test", "95")),
    ):
        pod = await stand_in.run_pod(POD)
        with pytest.raises(
            runtime_plugins.RequestFailedError, match='"95-test" and "90-test" both tried to set CPUSetCPUs'
        ):
            await stand_in.create_container(pod, CONTAINER)
        # A later plugin sees the earlier one's choice, and can step aside.
        second.on_create = lambda event: Adjustment() if event.container.cpus else Adjustment("0")
        container = await stand_in.create_container(pod, CONTAINER)
        assert stand_in.containers[container].message.linux.resources.cpu.cpus == "2-3"


@pytest.mark.parametrize(
    ("service", "method", "payload", "code"),
    [
        pytest.param("other.Service", "CreateContainer", b"", 12, id="unknown-service"),
        pytest.param(None, "AdoptContainer", b"", 12, id="unknown-method"),
        pytest.param(None, "PostStartContainer", b"", 12, id="method-not-served"),
        pytest.param(None, "CreateContainer", b"\xff\xff\xff", 3, id="undecodable"),
        pytest.param(None, "Synchronize", b"\xff\xff\xff", 3, id="undecodable-synchronize"),
        pytest.param(None, "Configure", b"\xff\xff\xff", 3, id="undecodable-configure"),
        pytest.param(None, "CreateContainer", b"", 3, id="no-container"),
        pytest.param(None, "StateChange", b"", 0, id="no-event"),
        pytest.param(None, "StateChange", b"\x08\x63", 0, id="unknown-event"),
        pytest.param(None, "StateChange", b"\x08\x02", 3, id="pod-event-without-pod"),
        pytest.param(None, "StopContainer", b"\xca\x3e\x01x\x12\x03\x0a\x01c", 0, id="unknown-field"),
    ],
)
async def test_an_odd_call_is_answered_and_the_next_one_too(
    tmp_path: pathlib.Path, service: str | None, method: str, payload: bytes, code: int
) -> None:
    heard = recorder.Recorder()
    async with node(tmp_path, heard) as (stand_in, _):
        wire = stand_in.plugins.active[0].wire
        if service is None:
            reply = await wire.call(method, payload, 1.0)
        else:
            reply = await wire.call(method, payload, 1.0, service=service)
        assert reply.code == code, reply.text
        await stand_in.create_container(await stand_in.run_pod(POD), CONTAINER)
        assert stand_in.plugins.dropped == []


async def test_a_call_that_is_no_request_and_a_reused_stream_are_answered_with_invalid_argument(
    tmp_path: pathlib.Path,
) -> None:
    heard = recorder.Recorder()
    async with node(tmp_path, heard) as (stand_in, _):
        wire = stand_in.plugins.active[0].wire
        client = ttrpc.Client()
        for _ in range(2):
            wire.send_raw(mux.encode(mux.PLUGIN_SERVICE, client.call(b"\xff\xff")[1]))
        _, reused = ttrpc.Client().call(envelope.call("s", "m", b""))
        wire.send_raw(mux.encode(mux.PLUGIN_SERVICE, reused))
        await recorder.until(lambda: len(heard.of("nri.malformed")) == 3)
        assert not wire.closed.is_set()


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\0\0\0\1\xff\xff\xff\xff", id="frame-too-long"),
        pytest.param(b"\0\0\0\1\0\0\0\x0a\xff\xff\xff\xff\0\0\0\1\1\0", id="message-too-long"),
    ],
)
async def test_a_broken_frame_costs_the_connection_and_nothing_else(
    tmp_path: pathlib.Path, garbage: bytes
) -> None:
    heard = recorder.Recorder()
    async with node(tmp_path, heard) as (stand_in, _):
        stand_in.plugins.active[0].wire.send_raw(garbage)
        await recorder.until(lambda: len(heard.heard) > 2)
        assert heard.heard[2].startswith("disconnected: ")
        assert "bytes announced, more than" in heard.heard[2]
        await stand_in.plugins.wait_for(1)


async def test_a_path_that_cannot_be_right_costs_only_itself(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()
    async with node(tmp_path, heard) as (stand_in, _):
        request = nri_pb2.CreateContainerRequest(
            pod=nri_pb2.PodSandbox(id="p", linux=nri_pb2.LinuxPodSandbox(cgroups_path="/../x")),
            container=nri_pb2.Container(id="c", linux=nri_pb2.LinuxContainer(cgroups_path="nonsense")),
        )
        wire = stand_in.plugins.active[0].wire
        reply = await wire.call("CreateContainer", request.SerializeToString(), 1.0)
        assert reply.code == 0
    creating = heard.seen[-1]
    assert isinstance(creating, events.ContainerCreating)
    assert (creating.pod.cgroup, creating.container.cgroup) == (None, None)
    assert creating.container.sandbox == "p"
    assert creating.pod.qos is events.Qos.BEST_EFFORT
    told = " ".join(notice.text for notice in heard.of("nri.malformed"))
    assert "'nonsense'" in told
    assert "'/../x'" in told


async def test_a_shutdown_is_answered_and_ends_the_connection(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()
    async with node(tmp_path, heard) as (stand_in, _):
        reply = await stand_in.plugins.active[0].wire.call("Shutdown", b"", 1.0)
        assert reply.code == 0
        await recorder.until(lambda: "disconnected: the runtime asked to shut down" in heard.heard)


async def test_kata_pods_have_no_cgroup_here(tmp_path: pathlib.Path) -> None:
    heard = recorder.Recorder()
    async with node(tmp_path, heard) as (stand_in, _):
        spec = runtime_pods.PodSpec(name="vm", uid=UID, handler="kata-qemu")
        await stand_in.create_container(await stand_in.run_pod(spec), CONTAINER)
    creating = heard.seen[-1]
    assert isinstance(creating, events.ContainerCreating)
    assert (creating.pod.cgroup, creating.container.cgroup) == (None, None)
