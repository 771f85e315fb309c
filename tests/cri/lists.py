"""Lists and statuses as a runtime gives them, in short."""

from __future__ import annotations

import json

from reconciler.runtime.cri import cri_pb2 as cri
from reconciler.runtime.cri import view

PARENT = "kubepods-pod1.slice"


def sandbox(
    id_: str, *, uid: str = "1", ready: bool = True, handler: str = "runc", **annotations: str
) -> cri.PodSandbox:
    """A listed sandbox; `annotations` are of `weka.io/`."""
    return cri.PodSandbox(
        id=id_,
        metadata=cri.PodSandboxMetadata(name="web", uid=uid, namespace="default"),
        state=cri.SANDBOX_READY if ready else cri.SANDBOX_NOTREADY,
        runtime_handler=handler,
        annotations={f"weka.io/{key.replace('_', '-')}": text for key, text in annotations.items()},
    )


def container(
    id_: str,
    sandbox_id: str = "s",
    state: cri.ContainerState = cri.CONTAINER_RUNNING,
    *,
    name: str = "main",
    age: int = 0,
) -> cri.Container:
    """A listed container."""
    return cri.Container(
        id=id_,
        pod_sandbox_id=sandbox_id,
        metadata=cri.ContainerMetadata(name=name),
        state=state,
        created_at=age,
    )


def pod_status(parent: str = PARENT, id_: str = "s") -> cri.PodSandboxStatusResponse:
    """A verbose status as containerd gives it."""
    spec = {"linux": {"cgroupsPath": f"{parent}:cri-containerd:{id_}"}}
    text = json.dumps({"pid": 7, "config": {"linux": {"cgroup_parent": parent}}, "runtimeSpec": spec})
    return cri.PodSandboxStatusResponse(info={"info": text})


def status(
    id_: str, *, shares: int = 2048, quota: int = 200_000, parent: str = PARENT, plain: bool = False
) -> cri.ContainerStatusResponse:
    """A status of a container with two CPUs: limits in `resources` if `plain`, else in the verbose info."""
    answer = cri.ContainerStatusResponse()
    cpu = {"shares": shares, "quota": quota, "period": 100_000}
    if plain:
        linux = cri.LinuxContainerResources(cpu_shares=shares, cpu_quota=quota, cpu_period=100_000)
        answer.status.resources.linux.CopyFrom(linux)
        cpu = {}
    linux_spec = {"cgroupsPath": f"{parent}:cri-containerd:{id_}", "resources": {"cpu": cpu}}
    answer.info["info"] = json.dumps({"pid": 8, "runtimeSpec": {"linux": linux_spec}})
    return answer


class Node:
    """A view that is shown lists, and answered whatever it wants."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.view = view.View(lambda error: self.complaints.append(str(error)))
        self.asked: list[str] = []
        self.statuses: dict[str, cri.ContainerStatusResponse] = {}

    def poll(
        self, sandboxes: list[cri.PodSandbox], containers: list[cri.Container], *hurried: str
    ) -> list[object]:
        """What has happened when these lists are seen."""
        wanted = self.view.look(containers, sandboxes, hurried)
        self.asked = [*wanted.sandboxes, *wanted.containers]
        for id_ in wanted.sandboxes:
            self.view.pod(id_, pod_status(id_=id_))
        for id_ in (*wanted.containers, *wanted.again):
            self.view.container(id_, self.statuses.get(id_) or status(id_))
        return list(self.view.news())
