"""Runs in the emulated node that joins a cluster: the network, kubelet, and the newest runtime. I/O.

Standard library only. What kubelet and the runtime say goes to the port that the host reads.
"""

from __future__ import annotations

import io
import json
import pathlib
import subprocess

import control_plane

DISK = "/dev/disk/by-id/virtio-member"
HERE = pathlib.Path("/opt/member")
IMAGES = pathlib.Path("/opt/payload/image.tar")
K3S = pathlib.Path("/run/k3s/containerd")
"""Where k3s has its runtime's sockets: a link, for what is deployed there."""
PODS_NETWORK = pathlib.Path("/etc/cni/net.d/10-loopback.conflist")


def serve(live: io.FileIO) -> None:
    """Join, say so, and tell what goes on until the machine is switched off."""
    HERE.mkdir(exist_ok=True)
    _run("mount", "-o", "ro", DISK, str(HERE))
    for program in ("containerd", "containerd-shim-runc-v2"):
        _run("mount", "--bind", str(HERE / program), f"/usr/bin/{program}")
    _run("systemctl", "restart", "containerd.service")
    _connect()
    _run("ctr", "-n", "k8s.io", "images", "import", str(IMAGES))
    K3S.parent.mkdir()
    K3S.symlink_to("/run/containerd")
    _start_kubelet()
    live.write(b"the node is up\n")
    units = ("--unit=kubelet.service", "--unit=containerd.service")
    subprocess.run(["journalctl", "--follow", "--output=short-monotonic", *units], stdout=live, check=False)


def _connect() -> None:
    """Give the node its address, and the pods a network in which each has one of the same emulated net."""
    _run("modprobe", "virtio_net")
    _run("busybox", "ip", "addr", "add", f"{control_plane.NODE_ADDRESS}/24", "dev", "eth0")
    _run("busybox", "ip", "link", "set", "eth0", "up")
    _run("busybox", "ip", "route", "add", "default", "via", control_plane.HOST)
    first, last = control_plane.PODS
    addresses = {
        "subnet": control_plane.NETWORK,
        "rangeStart": first,
        "rangeEnd": last,
        "gateway": control_plane.HOST,
    }
    plugin = {
        "type": "ipvlan",
        "master": "eth0",
        "ipam": {"type": "host-local", "ranges": [[addresses]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    PODS_NETWORK.write_text(json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}))


def _start_kubelet() -> None:
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(HERE / "authority.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": str(HERE / "kubelet.crt"),
        "tlsPrivateKeyFile": str(HERE / "kubelet.key"),
        "makeIPTablesUtilChains": False,
        "failSwapOn": False,
        "resolvConf": "",
        "clusterDNS": [control_plane.HOST],  # nobody answers there, and nobody asks
        # The disk is small, and the emulator slow.
        "evictionHard": {"memory.available": "64Mi"},
        "imageGCHighThresholdPercent": 100,
        "runtimeRequestTimeout": "10m",
        "nodeLeaseDurationSeconds": 240,
    }
    configuration = pathlib.Path("/run/kubelet.json")
    configuration.write_text(json.dumps(settings))
    command = [
        *(str(HERE / "kubelet"), f"--config={configuration}", f"--hostname-override={control_plane.NODE}"),
        *(f"--kubeconfig={HERE / 'kubelet.kubeconfig'}", f"--node-ip={control_plane.NODE_ADDRESS}"),
    ]
    _run("systemd-run", "--quiet", "--unit=kubelet.service", "--setenv=GOMAXPROCS=1", *command)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
