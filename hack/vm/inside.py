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

PAYLOAD = pathlib.Path("/opt/payload")
RESULTS_DISK = "/dev/disk/by-id/virtio-results"
LIVE_PORT = "/dev/virtio-ports/live"
RESULTS = pathlib.Path("/run/results")
SLICES = ("kubepods.slice", "kubepods-burstable.slice", "kubepods-besteffort.slice")


def main() -> None:
    """Ready the node, run the tests, hand back what came of it."""
    RESULTS.mkdir()
    code = 1
    with open(LIVE_PORT, "wb", buffering=0) as live:
        try:
            _ready()
            live.write(b"the node is up\n")
            code = _test(live)
        finally:
            with (RESULTS / "journal.txt").open("wb") as out:
                subprocess.run(["journalctl", "--no-pager", "-o", "short-monotonic"], stdout=out, check=False)
            (RESULTS / "code").write_text(str(code))
            with tarfile.open(RESULTS_DISK, "w") as archive:
                archive.add(RESULTS, arcname=".")
            os.sync()


def _ready() -> None:
    """Import the image, and make the slices that kubelet makes, with the controllers that it turns on."""
    until = time.monotonic() + 120
    command = ["ctr", "-n", "k8s.io", "images", "import", "/opt/image.tar"]
    while subprocess.run(command, check=False).returncode != 0:
        if time.monotonic() > until:
            sys.exit("containerd does not take the image")
        time.sleep(1)
    subprocess.run(["systemctl", "start", *SLICES], check=True)
    root = pathlib.Path("/sys/fs/cgroup")
    kubepods = root / "kubepods.slice"
    qos = [kubepods / name for name in SLICES[1:]]
    for group in (root, kubepods, *qos):
        (group / "cgroup.subtree_control").write_text("+cpuset +cpu +memory +pids")


def _test(live: io.FileIO) -> int:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{PAYLOAD}:{PAYLOAD / 'site'}:{PAYLOAD / 'hack/vm'}",
        "SHARE": _share(),
        "PYTHONUNBUFFERED": "1",
        "RESULTS": str(RESULTS),
    }
    arguments = json.loads((PAYLOAD / "pytest.json").read_text())
    given = [sys.executable, "-m", "pytest", "-p", "share", *arguments]
    given.append(f"--junitxml={RESULTS / 'junit.xml'}")
    with contextlib.chdir(PAYLOAD):
        done = subprocess.run(given, env=environment, stdout=live, stderr=live, check=False)
    return done.returncode


def _share() -> str:
    """Which of how many machines this one is, from the kernel's command line."""
    words = pathlib.Path("/proc/cmdline").read_text().split()
    return next(word.removeprefix("e2e.share=") for word in words if word.startswith("e2e.share="))


if __name__ == "__main__":
    main()
