"""NRI's messages become events, and what is missing or wrong in them costs only itself."""

from __future__ import annotations

import pytest

from reconciler import errors, events
from reconciler.runtime import conversion
from reconciler.runtime.nri import nri_pb2

ID = "0123456789abcdef" * 4


def told() -> tuple[list[str], conversion.Complain]:
    texts: list[str] = []
    return texts, lambda error: texts.append(str(error))


def test_an_empty_pod_is_a_pod() -> None:
    texts, complain = told()
    assert conversion.pod(nri_pb2.PodSandbox(), complain) == events.Pod(
        sandbox=events.SandboxId(""),
        uid=events.PodUid(""),
        namespace="",
        name="",
        annotations={},
        qos=events.Qos.BEST_EFFORT,
        cgroup=None,
    )
    assert texts == ["cgroup_parent: '' is not a pod's place under kubepods"]


def test_only_the_annotations_of_our_domain_are_kept() -> None:
    annotations = {"weka.io/cores-ids": "0", "weka.io.other": "1", "x/weka.io/": "2", "weka.io/new": ""}
    pod = conversion.pod(nri_pb2.PodSandbox(annotations=annotations), lambda _: None)
    assert pod.annotations == {"weka.io/cores-ids": "0", "weka.io/new": ""}


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (nri_pb2.CONTAINER_UNKNOWN, events.Phase.RUNNING),
        (nri_pb2.CONTAINER_CREATED, events.Phase.CREATED),
        (nri_pb2.CONTAINER_PAUSED, events.Phase.RUNNING),
        (nri_pb2.CONTAINER_RUNNING, events.Phase.RUNNING),
        (nri_pb2.CONTAINER_STOPPED, events.Phase.STOPPED),
        (99, events.Phase.RUNNING),
    ],
)
def test_a_state_that_is_not_known_counts_as_running(
    state: nri_pb2.ContainerState, phase: events.Phase
) -> None:
    message = nri_pb2.Container(id="c")
    message.state = state
    assert conversion.phase(message.state) is phase


@pytest.mark.parametrize(
    ("cpu", "limits"),
    [
        pytest.param(nri_pb2.LinuxCPU(), events.CpuLimits(), id="nothing"),
        pytest.param(
            nri_pb2.LinuxCPU(
                shares=nri_pb2.OptionalUInt64(value=2048),
                quota=nri_pb2.OptionalInt64(value=-1),
                period=nri_pb2.OptionalUInt64(value=100_000),
            ),
            events.CpuLimits(shares=2048, quota=-1, period=100_000),
            id="all",
        ),
        pytest.param(
            nri_pb2.LinuxCPU(quota=nri_pb2.OptionalInt64(), shares=nri_pb2.OptionalUInt64()),
            events.CpuLimits(),
            id="zero-is-nothing",
        ),
        pytest.param(
            nri_pb2.LinuxCPU(
                shares=nri_pb2.OptionalUInt64(value=1 << 63),
                period=nri_pb2.OptionalUInt64(value=(1 << 63) - 1),
            ),
            events.CpuLimits(period=(1 << 63) - 1),
            id="what-no-kernel-holds-is-nothing",
        ),
    ],
)
def test_limits(cpu: nri_pb2.LinuxCPU, limits: events.CpuLimits) -> None:
    assert conversion.limits(cpu) == limits


@pytest.mark.parametrize("handler", ["kata", "kata-qemu", "runsc", "gvisor"])
def test_a_sandboxed_runtime_has_no_cgroup_here(handler: str) -> None:
    texts, complain = told()
    message = nri_pb2.Container(id="c", linux=nri_pb2.LinuxContainer(cgroups_path=f"a.slice:b:{ID}"))
    assert conversion.container(message, events.Phase.RUNNING, handler, complain).cgroup is None
    found = conversion.container(message, events.Phase.RUNNING, "runc", complain)
    assert found.cgroup == f"a.slice/b-{ID}.scope"
    assert texts == []


def test_pod_and_container_lend_each_other_the_sandboxs_id() -> None:
    no_pod, bare = nri_pb2.PodSandbox(), nri_pb2.Container(id="c", pod_sandbox_id="s")
    pod, container = conversion.pair(no_pod, bare, events.Phase.CREATED, lambda _: None)
    assert (pod.sandbox, container.sandbox) == ("s", "s")
    pod, container = conversion.pair(
        nri_pb2.PodSandbox(id="s"), nri_pb2.Container(id="c"), events.Phase.CREATED, lambda _: None
    )
    assert (pod.sandbox, container.sandbox) == ("s", "s")


def test_a_container_belongs_to_the_pod_that_it_is_told_of_with() -> None:
    pod, container = conversion.pair(
        nri_pb2.PodSandbox(id="s"),
        nri_pb2.Container(id="c", pod_sandbox_id="other"),
        events.Phase.CREATED,
        lambda _: None,
    )
    assert (pod.sandbox, container.sandbox) == ("s", "s")


def test_a_container_without_an_id_cannot_be_told_of() -> None:
    with pytest.raises(errors.Malformed, match="'main' has no id"):
        conversion.pair(
            nri_pb2.PodSandbox(), nri_pb2.Container(name="main"), events.Phase.CREATED, lambda _: None
        )


def test_what_has_no_id_is_left_out_of_the_list_and_the_rest_is_not() -> None:
    texts, complain = told()
    seen = conversion.synchronized(
        [nri_pb2.PodSandbox(id="s", runtime_handler="kata"), nri_pb2.PodSandbox(name="lost")],
        [
            nri_pb2.Container(
                id="c", pod_sandbox_id="s", linux=nri_pb2.LinuxContainer(cgroups_path=f"a.slice:b:{ID}")
            ),
            nri_pb2.Container(name="stray"),
            nri_pb2.Container(id="d", pod_sandbox_id="elsewhere"),
        ],
        complain,
    )
    assert [pod.sandbox for pod in seen.pods] == ["s"]
    assert [(container.id, container.cgroup) for container in seen.containers] == [("c", None), ("d", None)]
    assert texts[:2] == ["Synchronize: pod 'lost' has no id", "Synchronize: container 'stray' has no id"]
