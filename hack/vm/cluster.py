"""Runs tests/live on a real cluster: a control plane on this host, and an emulated node that joins it. I/O.

Usage: cluster.py [--cache DIR] [--wait] [-k EXPRESSION] [-- PYTEST-ARGUMENTS]

Run as root on a Debian host that has Go. Exits with pytest's code, or 1 where the cluster could not be had.
All of it runs in a network namespace of its own, so that no port of the host is taken and nobody else can ask
the cluster for anything. Nothing of the host is changed outside the cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import boot
import control_plane
import disks
import image
import modules
import payload
import runs
import trouble

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUITE = "unstable"
PACKAGES = {**trouble.PACKAGES, "openssl": "openssl", "ip": "iproute2", "go": "golang (1.26 or newer)"}
ISOLATED = "CLUSTER_IS_ISOLATED"
"""In the environment of the program once it is in a network namespace of its own."""
TESTS = ("tests/live", "tests/deploy")
"""The second for what it asks of the program helm, which is here."""
JOIN_SECONDS = 600
_MEMBER_BYTES = "256M"


def main() -> None:
    """Parse, run, and exit."""
    options, passed_on = _arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is ended
    try:
        cache = options.cache.resolve()
        if ISOLATED not in os.environ:
            prepare(cache)
            os.environ[ISOLATED] = "1"
            isolated = ["--net", "--", sys.executable, *sys.argv]
            os.execv(trouble.find("unshare"), ["unshare", *isolated])  # noqa: S606  no shell is wanted
        sys.exit(run(options, passed_on, cache))
    except trouble.TroubleError as error:
        sys.exit(f"cluster: {error}")


def prepare(cache: pathlib.Path) -> None:
    """Make everything for which others must be asked. Raises TroubleError."""
    runs.check_host(PACKAGES)
    with runs.locked(cache):
        for source in (modules.KUBERNETES, modules.CONTAINERD):
            source.programs(cache)
        made, _ = image.get(SUITE, cache, None)
        payload.site(made, cache)
    payload.archive(None)


def run(options: argparse.Namespace, passed_on: list[str], cache: pathlib.Path) -> int:
    """Start the cluster, and test on it. Raises TroubleError."""
    with runs.locked(cache):
        folder = cache / "cluster"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        programs = modules.KUBERNETES.programs(cache)
        trouble.call(["ip", "link", "set", "lo", "up"], log=folder / "ip.log")
        began = time.monotonic()
        with control_plane.running(programs, folder) as control, _node(programs, control, cache):
            environment = _environment(programs, control)
            _await_node(environment)
            print(f"the cluster is up in {time.monotonic() - began:.0f} s; logs in {folder}", flush=True)
            if options.wait:
                return _wait(environment)
            expression = ["-k", options.k] if options.k else []
            pytest = [sys.executable, "-m", "pytest", *(passed_on or ["-v"]), *expression, *TESTS]
            return subprocess.run(pytest, cwd=ROOT, env=environment, check=False).returncode


@contextlib.contextmanager
def _node(programs: pathlib.Path, control: control_plane.ControlPlane, cache: pathlib.Path) -> Iterator[None]:
    """A machine that joins; switched off afterwards."""
    made, _ = image.get(SUITE, cache, None)
    disk = control.folder / "payload.img"
    payload.disk(disk, made, payload.site(made, cache), [], payload.archive(None))
    member = control.folder / "member.img"
    shutil.copy(programs / "kubelet", control.folder / "member")
    for program in modules.CONTAINERD.programs(cache).iterdir():
        shutil.copy(program, control.folder / "member")
    log = control.folder / "member.log"
    disks.write(member, control.folder / "member", _MEMBER_BYTES, log=log, label="member")
    stop = threading.Event()
    with (control.folder / "node.log").open("w") as log:
        plan = boot.Plan(
            image=made,
            root=made.disk,
            payload=disk,
            folder=control.folder,
            suite=SUITE,
            number=1,
            machines=1,
            long=False,
            say=lambda line: print(line, file=log, flush=True),
            stop=stop,
            devices=[*boot.disk("member", member, "readonly=on"), *_network()],
            words="e2e.member=1 net.ifnames=0",
        )
        thread = threading.Thread(target=_boot, args=[plan], daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _boot(plan: boot.Plan) -> None:
    try:
        boot.run(plan)
    except trouble.TroubleError as error:
        plan.say(str(error))


def _network() -> list[str]:
    """The host's loopback is the address of the control plane, and its port of a kubelet is the node's."""
    here = f"hostfwd=tcp:127.0.0.1:{control_plane.KUBELET_PORT}"
    there = f"{control_plane.NODE_ADDRESS}:{control_plane.KUBELET_PORT}"
    net = f"user,id=net,net={control_plane.NETWORK},host={control_plane.HOST},{here}-{there}"
    return ["-netdev", net, "-device", "virtio-net-pci,netdev=net"]


def _environment(programs: pathlib.Path, control: control_plane.ControlPlane) -> dict[str, str]:
    beside = pathlib.Path(sys.executable).parent
    path = f"{programs}:{beside}:{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "KUBECONFIG": str(control.kubeconfig),
        "LIVE_NODE": control_plane.NODE,
    }


def _await_node(environment: dict[str, str]) -> None:
    until = time.monotonic() + JOIN_SECONDS
    command = ["kubectl", "get", "nodes", "--output=json"]
    while time.monotonic() < until:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        nodes = json.loads(done.stdout)["items"] if done.returncode == 0 else []
        ready = [
            node
            for node in nodes
            for condition in node["status"].get("conditions", [])
            if (condition["type"], condition["status"]) == ("Ready", "True")
        ]
        if ready:
            return
        time.sleep(1)
    raise trouble.TroubleError(f"the node is not ready within {JOIN_SECONDS} s")


def _wait(environment: dict[str, str]) -> int:
    """Leave the cluster to somebody who looks at it, until this is ended."""
    enter = f"nsenter --net=/proc/{os.getpid()}/ns/net env"
    names = " ".join(f"{name}={environment[name]}" for name in ("PATH", "KUBECONFIG"))
    print(f"{enter} {names} kubectl get pods", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    return 0


def _arguments(given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = runs.parser("hack/vm/cluster.py", __doc__ or "")
    parser.add_argument("--wait", action="store_true", help="test nothing: keep it up until interrupted")
    return runs.parse(parser, given)


if __name__ == "__main__":
    main()
