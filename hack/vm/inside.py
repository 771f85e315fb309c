"""Runs in the emulated node: readies it, runs pytest, writes everything to the results disk. I/O.

Standard library only. What it prints goes to the console; pytest's output goes to a port that the host
reads while the tests run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import time

import member
import suites

PAYLOAD = pathlib.Path("/opt/payload")
RESULTS_DISK = "/dev/disk/by-id/virtio-results"
LIVE_PORT = "/dev/virtio-ports/live"
RESULTS = pathlib.Path("/run/results")
CONTAINERD = pathlib.Path("/etc/containerd/config.toml")
SLICES = ("kubepods.slice", "kubepods-burstable.slice", "kubepods-besteffort.slice")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
PODS = ("kubepods", "kubepods/burstable", "kubepods/besteffort")
CONTROLLERS = "+cpuset +cpu +memory +pids"


def main() -> None:
    """Ready the node, run the tests, hand back what came of it."""
    RESULTS.mkdir()
    suite = suites.SUITES[_told("e2e.suite")]
    code = 1
    with open(_present(LIVE_PORT), "wb", buffering=0) as live:
        try:
            _ready(suite)
            if _told("e2e.member") == "1":
                member.serve(live)
            live.write(b"the node is up\n")
            code = _test(live, suite)
        finally:
            with (RESULTS / "journal.txt").open("wb") as out:
                subprocess.run(["journalctl", "--no-pager", "-o", "short-monotonic"], stdout=out, check=False)
            (RESULTS / "code").write_text(str(code))
            with tarfile.open(RESULTS_DISK, "w") as archive:
                archive.add(RESULTS, arcname=".")
            os.sync()


def _present(path: str) -> str:
    """The path, once udev has made it: its driver may come as a module."""
    until = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.2)
    return path


def _ready(suite: suites.Suite) -> None:
    """Import the image, and make what kubelet makes, with the controllers that it turns on."""
    if suite.driver == "cgroupfs":
        text = CONTAINERD.read_text()
        CONTAINERD.write_text(text.replace("SystemdCgroup = true", "SystemdCgroup = false"))
        subprocess.run(["systemctl", "restart", "containerd.service"], check=True)
    until = time.monotonic() + 120
    command = ["ctr", "-n", "k8s.io", "images", "import", "/opt/image.tar"]
    while subprocess.run(command, check=False).returncode != 0:
        if time.monotonic() > until:
            sys.exit("containerd does not take the image")
        time.sleep(1)
    if suite.driver == "systemd":
        subprocess.run(["systemctl", "start", *SLICES], check=True)
        groups = [CGROUPS, CGROUPS / SLICES[0], *(CGROUPS / SLICES[0] / name for name in SLICES[1:])]
    else:
        groups = [CGROUPS, *(CGROUPS / name for name in PODS)]
    for group in groups:
        group.mkdir(exist_ok=True)
        (group / "cgroup.subtree_control").write_text(CONTROLLERS)


def _test(live: io.FileIO, suite: suites.Suite) -> int:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{PAYLOAD}:{PAYLOAD / 'site'}:{PAYLOAD / 'hack/vm'}",
        "SHARE": _told("e2e.share"),
        "DRIVER": suite.driver,
        "DOOR": suite.door,
        "TESTS": suite.tests,
        "LONG": _told("e2e.long"),
        "PYTHONUNBUFFERED": "1",
        "RESULTS": str(RESULTS),
    }
    arguments = json.loads((PAYLOAD / "pytest.json").read_text())
    given = [sys.executable, "-m", "pytest", "-p", "share", *arguments]
    given.append(f"--junitxml={RESULTS / 'junit.xml'}")
    with contextlib.chdir(PAYLOAD):
        done = subprocess.run(given, env=environment, stdout=live, stderr=live, check=False)
    return done.returncode


def _told(name: str) -> str:
    """A word of the kernel's command line, less its name; "" where it is not there."""
    words = pathlib.Path("/proc/cmdline").read_text().split()
    found = (word.removeprefix(f"{name}=") for word in words if word.startswith(f"{name}="))
    return next(found, "")


if __name__ == "__main__":
    main()
