"""The values of the chart, with their defaults and what they mean. `hack/chart.py` writes them down."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from reconciler.daemon import options

_PATH = r"^/[^\x00-\x1f ]*$"
Path = Annotated[str, msgspec.Meta(pattern=_PATH)]
Labels = dict[str, str]
_RESOURCES = {"requests": {"cpu": "100m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}}


def says(text: str) -> msgspec.Meta:
    """What a value means."""
    return msgspec.Meta(description=text)


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A table of values."""


class Image(Struct, frozen=True):
    """Where the image is."""

    repository: Annotated[str, says("registry and name of the image; there is no public one")] = (
        "cpuset-reconciler"
    )
    tag: Annotated[str, says("its tag; empty: the version of the chart")] = ""
    digest: Annotated[
        str, msgspec.Meta(pattern=r"^(|sha256:[0-9a-f]{64})$"), says("its digest, which then counts alone")
    ] = ""
    pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"], says("when the node asks the registry")
    ] = "IfNotPresent"


class Probe(Struct, frozen=True):
    """One probe."""

    enabled: Annotated[
        bool,
        says(
            "whether an agent that does not serve ten minutes after its start, or has not answered for as "
            "long, is started again, and an update goes on as soon as a node is served; switch it off where "
            "another instance may serve the host, for this one waits for it in silence"
        ),
    ] = True


class Budget(Struct, frozen=True):
    """The disruption budget."""

    enabled: Annotated[
        bool,
        says(
            "whether a PodDisruptionBudget refuses evictions of the agent; alerts on budgets that are not "
            "met then fire"
        ),
    ] = False


class Bus(Struct, frozen=True):
    """The host's D-Bus."""

    enabled: Annotated[
        bool,
        says(
            "whether the agent can speak to the host's systemd, which after repeated drift it then tells the "
            "CPUs of a unit; who can do that can do to the node what root can"
        ),
    ] = False


class Restore(Struct, frozen=True):
    """What an uninstallation leaves."""

    enabled: Annotated[
        bool,
        says(
            "whether `helm uninstall` leaves a DaemonSet that gives containers back their CPUs; it needs "
            "CRI's socket"
        ),
    ] = True
    cpus: Annotated[
        Literal["recorded", "all"],
        says("which: all, or those of the runtime's record, which under NRI are the agent's choice"),
    ] = "all"


class Admission(Struct, frozen=True):
    """The admission policy."""

    enabled: Annotated[
        bool,
        says(
            "whether the API server refuses bad annotations: Kubernetes 1.30 or newer; one release a cluster"
        ),
    ] = False


class Values(Struct, frozen=True):
    """All values of the chart, but what is below `config`."""

    image: Image = Image()
    image_pull_secrets: Annotated[
        list[dict[str, str]], says("names of secrets with which the image is pulled: `[{name: …}]`")
    ] = []
    config: Annotated[dict[str, Any], says("the configuration of the agent; empty: all defaults")] = {}
    source: Annotated[
        options.Source, says("door to the runtime; a socket that is not needed is not mounted")
    ] = "auto"
    nri_socket: Annotated[Path, says("the runtime's socket for NRI; its directory is mounted")] = (
        options.NRI_SOCKET
    )
    cri_socket: Annotated[Path, says("the runtime's socket for CRI; its directory is mounted")] = (
        options.CRI_SOCKET
    )
    log_format: Annotated[Literal["json", "text"], says("how the log is written")] = "json"
    dry_run: Annotated[bool, says("plan, log the plan, and write nothing")] = False
    state_dir: Annotated[
        Path, says("directory of the host for claims, drifts and the lock; shared by all instances of a host")
    ] = options.STATE_DIR
    kubelet_dir: Annotated[Path, says("kubelet's root directory")] = "/var/lib/kubelet"
    machine_id: Annotated[
        str,
        msgspec.Meta(pattern=rf"^$|{_PATH}"),
        says("file of the host with its machine-id; empty where it has none"),
    ] = "/etc/machine-id"
    resources: Annotated[
        dict[str, Any], says("requests and limits; a CPU limit would throttle the answers to the runtime")
    ] = msgspec.field(default_factory=lambda: {**_RESOURCES})
    priority_class_name: Annotated[str, says("priority class of the pods; empty: none")] = (
        "system-node-critical"
    )
    node_selector: Annotated[Labels, says("labels of the nodes that get an agent")] = msgspec.field(
        default_factory=lambda: {"kubernetes.io/os": "linux"}
    )
    affinity: Annotated[dict[str, Any], says("affinity of the pods")] = {}
    tolerations: Annotated[list[dict[str, Any]], says("taints that keep no agent away: all")] = msgspec.field(
        default_factory=lambda: [{"operator": "Exists"}]
    )
    max_unavailable: Annotated[
        int | Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,3}%$")],
        says("nodes that an update takes at a time, as a number or a percentage"),
    ] = 1
    host_network: Annotated[
        bool, says("the host's network: the agent then starts before the network plugin does")
    ] = False
    se_linux_options: Annotated[
        Labels, says("where SELinux is enforced: `{type: spc_t}`, for containers may not write cgroups there")
    ] = msgspec.field(name="seLinuxOptions", default_factory=dict)
    pod_labels: Annotated[Labels, says("further labels of the pods")] = {}
    pod_annotations: Annotated[Labels, says("further annotations of the pods")] = {}
    liveness_probe: Probe = Probe()
    pod_disruption_budget: Budget = Budget()
    system_bus: Bus = Bus()
    restore: Restore = Restore()
    admission: Admission = Admission()
