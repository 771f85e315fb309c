"""The nodes that the tests run on: a generation of Debian and who makes cgroups there. Values only.

Standard library only: the emulated node itself reads this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One kind of node. `driver` is the cgroup driver of kubelet and the runtime, `door` what the agent
    finds there by itself. `tests` is one of `share.SIZES`. `machines` share them. With `boot`
    the agent is in the runtime's plugin directory when the node boots.
    """

    debian: str
    driver: Literal["systemd", "cgroupfs"]
    door: Literal["nri", "cri"]
    tests: Literal["whole", "part", "few", "boot"]
    machines: int = 1


SUITES = {
    "unstable": Suite(debian="unstable", driver="systemd", door="nri", tests="whole", machines=2),
    "trixie": Suite(debian="trixie", driver="systemd", door="nri", tests="part"),
    "bookworm": Suite(debian="bookworm", driver="systemd", door="cri", tests="part"),
    "unstable-cgroupfs": Suite(debian="unstable", driver="cgroupfs", door="nri", tests="few"),
    "trixie-cgroupfs": Suite(debian="trixie", driver="cgroupfs", door="nri", tests="few"),
    "bookworm-cgroupfs": Suite(debian="bookworm", driver="cgroupfs", door="cri", tests="few"),
    "unstable-plugin": Suite(debian="unstable", driver="systemd", door="nri", tests="boot"),
}
"""By the name that `SUITE` gives them. unstable has Linux 7, containerd 2 with NRI 0.8; trixie Linux 6.12,
containerd 1.7 with NRI 0.6, which has to be switched on; bookworm Linux 6.1, containerd 1.6 without NRI."""


def named(text: str) -> list[str]:
    """The suites that a text means: `all`, or names with commas or blanks between. Raises ValueError."""
    if text == "all":
        return list(SUITES)
    names = text.replace(",", " ").split()
    unknown = [name for name in names if name not in SUITES]
    if unknown or not names:
        raise ValueError(f"{text!r}: the suites are all, {', '.join(SUITES)}")
    return names
