"""What kind of node this is: the suite's cgroup driver, and the door that its runtime has for the agent."""

from __future__ import annotations

import os

import pytest

from reconciler.sim import runtime_pods

DOOR = os.environ.get("DOOR", "nri")
"""`nri` or `cri`: the mode that an agent comes to by itself."""
DRIVER = runtime_pods.Driver(os.environ.get("DRIVER", "systemd"))
NAMING = runtime_pods.Naming(driver=DRIVER)
HAS_SYSTEMD = DRIVER is runtime_pods.Driver.SYSTEMD
"""Whether containers' cgroups are systemd's."""
LONG = os.environ.get("LONG") == "1"
"""Whether what is random or rare is done as often as a release needs (`--long`)."""

needs_nri = pytest.mark.skipif(DOOR != "nri", reason="the runtime of this node has no NRI")
needs_systemd = pytest.mark.skipif(
    not HAS_SYSTEMD, reason="the containers of this node are not systemd's: it changes nothing of them"
)
