"""The script for clusters plays the scenarios on this one, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess

from tests.live import kubernetes

PLAYED = re.compile(r"^(\d+) played, (\d+) skipped, (\d+) failed$", re.MULTILINE)


def test_the_scenarios_are_played_and_nothing_is_left() -> None:
    before = {item["metadata"]["name"] for item in kubernetes.get("namespaces")["items"]}
    environment = {
        **os.environ,
        "IMAGE": f"{kubernetes.REPOSITORY}:{kubernetes.BUILT}",
        "NODE": kubernetes.node(),
        "PATIENCE": f"{kubernetes.PATIENCE:.0f}",
    }
    command = [str(kubernetes.ROOT / "hack/e2e-live.sh"), os.environ["KUBECONFIG"]]
    said = ""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        for line in script.stdout:
            print(line, end="", flush=True)
            said += line
    assert script.returncode == 0
    found = PLAYED.search(said)
    assert found is not None
    assert (int(found[1]) >= 25, found[3]) == (True, "0")
    after = {item["metadata"]["name"] for item in kubernetes.get("namespaces")["items"]}
    assert after == before
