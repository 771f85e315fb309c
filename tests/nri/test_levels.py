"""The level of NRI is what the runtime says, else what its release carries, else the oldest."""

from __future__ import annotations

import pytest

from reconciler.runtime.nri import levels


@pytest.mark.parametrize(
    ("runtime", "version", "said", "expected"),
    [
        ("containerd", "v2.3.4", "v0.12.0", "0.12.0"),
        ("containerd", "2.1.9+ds1", "", "0.8.0"),
        ("containerd", "1.7.24~ds1", "", "0.6.1"),
        ("containerd", "v1.7.0", "", "0.3.0"),
        ("containerd", "v1.7.6", "", "0.3.0"),
        ("containerd", "v1.7.13", "", "0.4.0"),
        ("containerd", "v1.7.15", "", "0.6.0"),
        ("containerd", "v1.7.26", "", "0.8.0"),
        ("containerd", "v2.0.0-rc.1", "", "0.8.0"),
        ("containerd", "v2.2.0", "", "0.10.0"),
        ("containerd", "v2.2.1", "", "0.11.0"),
        ("containerd", "v2.3.0", "(devel)", "0.12.0"),
        ("containerd", "v2.4.0-beta.0", "unknown", "0.12.1"),
        ("containerd", "v3.0.0", "0.0.0-unknown", "0.12.1"),
        ("containerd", "1.6.20", "", "0.3.0"),
        ("containerd", "unknown", "", "0.3.0"),
        ("cri-o", "1.26.0", "", "0.3.0"),
        ("cri-o", "1.29.1", "", "0.5.0"),
        ("cri-o", "1.30.0", "", "0.6.0"),
        ("cri-o", "1.31.4", "", "0.6.1"),
        ("cri-o", "1.32.0", "", "0.9.0"),
        ("cri-o", "1.33.0", "", "0.9.1"),
        ("cri-o", "1.34.2", "", "0.10.0"),
        ("cri-o", "1.36.3", "", "0.11.0"),
        ("other", "9.9.9", "", "0.3.0"),
        ("", "", "", "0.3.0"),
    ],
)
def test_the_level_of_a_runtime(runtime: str, version: str, said: str, expected: str) -> None:
    assert str(levels.infer(runtime, version, said)) == expected


def test_the_masks_ask_for_what_is_used() -> None:
    assert f"{levels.EVENTS:#x} {levels.FEWER_EVENTS:#x}" == "0x6af 0x6a8"
