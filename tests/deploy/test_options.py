"""What is delivered beside the program says what the program says."""

from __future__ import annotations

import collections
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest

from reconciler.cli import launched, main
from reconciler.config import schema
from reconciler.daemon import options

# covers: PRD-8.17
DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
UNIT = DEPLOY / "systemd/cpuset-reconciler.service"
PLUGIN = schema.Nri().plugin_name
TOLERATES = "tolerate-missing-plugins.noderesource.dev"


def settings() -> dict[str, list[str]]:
    """The words of each setting of the unit."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found[name] += value.split()
    return found


def test_the_unit_comes_after_any_runtime_and_before_kubelet() -> None:
    found = settings()
    assert found["After"] == ["containerd.service", "crio.service"]
    assert found["Before"] == ["kubelet.service"]
    assert found["Type"] == ["notify"]
    assert "kubelet.service" in found["WantedBy"]
    assert {"Requires", "BindsTo", "PartOf", "RequiredBy"} & found.keys() == set()


def test_the_unit_gives_the_program_what_it_takes_by_default() -> None:
    found = settings()
    program, *arguments = found["ExecStart"]
    assert pathlib.Path(program).name == main.PROGRAM
    given = main._parse(arguments)
    assert (given.command, given.config) == ("run", launched.CONFIG)
    assert given.state_dir == f"/var/lib/{found['StateDirectory'][0]}"
    assert given.api_socket == options.API_SOCKET == f"/run/{found['RuntimeDirectory'][0]}/api.sock"


def test_the_unit_is_started_again_but_for_what_starting_again_does_not_help() -> None:
    found = settings()
    assert (found["Restart"], found["RestartPreventExitStatus"]) == (["always"], ["2", "3"])
    interval, burst, pause = found["StartLimitIntervalSec"], found["StartLimitBurst"], found["RestartSec"]
    # Fewer starts than the limit lets pass without end, or the limit would never hold.
    assert (interval, 60 * 10 / int(pause[0]) > int(burst[0])) == (["10min"], True)


def test_the_unit_may_write_cgroups() -> None:
    found = settings()
    assert found["ProtectControlGroups"] == ["no"]
    assert not any("/sys" in word for name in found for word in found[name] if name.endswith("Paths"))
    # It makes all of /sys read-only (systemd.exec(5)).
    assert "ProtectKernelTunables" not in found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd")
def test_systemd_understands_every_line_of_the_unit(tmp_path: pathlib.Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, said) == (0, [])


def test_containerds_option_requires_the_plugin_by_its_name() -> None:
    option = tomllib.loads((DEPLOY / "containerd/required-plugin.toml").read_text())
    assert option["version"] == 3
    assert option["plugins"]["io.containerd.nri.v1.nri"]["default_validator"] == {
        "enable": True,
        "required_plugins": [PLUGIN],
        "tolerate_missing_plugins_annotation": TOLERATES,
    }


def test_crios_option_requires_the_plugin_by_its_name() -> None:
    option = tomllib.loads((DEPLOY / "crio/required-plugin.conf").read_text())
    assert option["crio"]["nri"]["default_validator"] == {
        "nri_enable_default_validator": True,
        "nri_validator_required_plugins": [PLUGIN],
        "nri_validator_tolerate_missing_plugins_annotation": TOLERATES,
    }
