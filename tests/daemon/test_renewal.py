"""Changes of the configuration and of the CPUs that are online, while the agent runs."""

# covers: PRD-9.3

from __future__ import annotations

import asyncio
import io
import json
import os
import pathlib
from typing import Any

import pytest

from reconciler import errors
from reconciler.config import schema
from reconciler.cpu import topology as topologies
from reconciler.daemon import logs, renewal
from reconciler.sim import machine


class Host:
    """A machine and a configuration file."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.root = str(folder / "host")
        machine.write(self.root, machine.vm())
        self.config = folder / "config.yaml"
        self.config.write_text("minSharedCpus: 2\n")
        self.log = io.StringIO()

    def renewal(self, path: str | None = None) -> renewal.Renewal:
        """What is in force at the start."""
        its = str(self.config) if path is None else path
        return renewal.Renewal(its, self.root, logs.configure("json", self.log))

    def online(self, cpus: str) -> None:
        """Let these CPUs be online."""
        machine.write(self.root, {topologies.ONLINE: f"{cpus}\n"})

    def told(self) -> list[dict[str, Any]]:
        """What was logged."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    """A machine of 8 CPUs."""
    return Host(tmp_path)


def test_nothing_is_new_where_nothing_has_changed(host: Host) -> None:
    in_force = host.renewal()
    assert (in_force.config.min_shared_cpus, str(in_force.topology.online)) == (2, "0-7")
    assert not in_force.look()
    assert host.told() == []


def test_a_change_of_the_file_comes_into_force(host: Host) -> None:
    in_force = host.renewal()
    host.config.write_text("minSharedCpus: 3\nreservedCpus: '0'\n")
    assert in_force.look()
    assert (in_force.config.min_shared_cpus, in_force.config.reserved_cpus) == (3, "0")
    assert [(record["event"], record["path"]) for record in host.told()] == [
        ("config.reloaded", str(host.config))
    ]
    assert not in_force.look()


def test_a_file_that_was_put_in_the_place_of_the_old_one_comes_into_force(host: Host) -> None:
    in_force = host.renewal()
    before = host.config.stat()
    fresh = host.config.with_suffix(".new")
    fresh.write_text("minSharedCpus: 4\n")
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(host.config)
    assert in_force.look()
    assert in_force.config.min_shared_cpus == 4


def test_a_config_map_that_changes_its_link_comes_into_force(host: Host, tmp_path: pathlib.Path) -> None:
    for name, count in (("first", 2), ("second", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"minSharedCpus: {count}\n")
    link = tmp_path / "..data"
    link.symlink_to("first")
    in_force = host.renewal(str(link / "config.yaml"))
    (tmp_path / "..data.new").symlink_to("second")
    (tmp_path / "..data.new").replace(link)
    assert in_force.look()
    assert in_force.config.min_shared_cpus == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("minSharedCpus: 0\n", "minSharedCpus", id="out of range"),
        pytest.param("minimum: 1\n", "minimum", id="unknown key"),
        pytest.param("minSharedCpus: [\n", "config.yaml: while parsing", id="not YAML"),
        pytest.param("reservedCpus: 3-1\n", "reservedCpus", id="not a list of CPUs"),
        pytest.param(None, "No such file", id="no file any more"),
    ],
)
def test_a_bad_change_keeps_the_old_one_in_force_and_says_so(
    host: Host, text: str | None, reason: str
) -> None:
    in_force = host.renewal()
    if text is None:
        host.config.unlink()
    else:
        host.config.write_text(text)
    assert not in_force.look()
    assert in_force.config == schema.Config(min_shared_cpus=2)
    [told] = host.told()
    assert (told["event"], told["level"]) == ("config.rejected", "warning")
    assert reason in told["reason"]
    assert told["kept"] == "the configuration before it"
    assert not in_force.look(), "the same fault is told once"
    assert len(host.told()) == 1
    host.config.write_text("minSharedCpus: 3\n")
    assert in_force.look()
    assert in_force.config.min_shared_cpus == 3


def test_another_address_to_listen_at_needs_a_restart(host: Host) -> None:
    in_force = host.renewal()
    host.config.write_text("minSharedCpus: 2\nmetrics: {listen: '127.0.0.1:9465'}\n")
    assert in_force.look()
    told = host.told()
    assert [record["event"] for record in told] == ["config.restart-needed", "config.reloaded"]
    assert told[0]["key"] == "metrics"


def test_to_see_who_writes_needs_a_restart(host: Host) -> None:
    in_force = host.renewal()
    host.config.write_text("minSharedCpus: 2\nattribution: fanotify\n")
    assert in_force.look()
    told = host.told()
    assert [record["event"] for record in told] == ["config.restart-needed", "config.reloaded"]
    assert told[0]["key"] == "attribution"


def test_another_taint_needs_a_restart(host: Host) -> None:
    in_force = host.renewal()
    host.config.write_text("minSharedCpus: 2\nstartupTaint: weka.io/cpus-not-ready\n")
    assert in_force.look()
    told = host.told()
    assert [record["event"] for record in told] == ["config.restart-needed", "config.reloaded"]
    assert told[0]["key"] == "startupTaint"


def test_a_change_that_changes_nothing_is_not_told(host: Host) -> None:
    in_force = host.renewal()
    host.config.write_text("# the same again\nminSharedCpus: 2\n")
    assert not in_force.look()
    assert host.told() == []


def test_another_plugin_name_is_said_to_need_a_restart(host: Host) -> None:
    in_force = host.renewal()
    host.config.write_text("minSharedCpus: 2\nnri: {pluginIndex: '10'}\n")
    assert in_force.look()
    assert [record["event"] for record in host.told()] == ["config.restart-needed", "config.reloaded"]


@pytest.mark.parametrize(
    ("before", "after", "went", "came"),
    [
        pytest.param("0-7", "0-5", "6-7", "", id="offline"),
        pytest.param("0-5", "0-7", "", "6-7", id="online"),
    ],
)
def test_cpus_that_come_and_go_are_told(host: Host, before: str, after: str, went: str, came: str) -> None:
    host.online(before)
    in_force = host.renewal()
    host.online(after)
    assert in_force.look()
    assert str(in_force.topology.online) == after
    [told] = host.told()
    assert (told["event"], told["online"], told["went"], told["came"]) == (
        "topology.changed",
        after,
        went,
        came,
    )
    assert not in_force.look()


@pytest.mark.parametrize("text", ["0-x\n", None], ids=["garbage", "no file"])
def test_a_sysfs_that_cannot_be_read_keeps_the_topology(host: Host, text: str | None) -> None:
    in_force = host.renewal()
    online = pathlib.Path(host.root, topologies.ONLINE)
    if text is None:
        online.unlink()
    else:
        online.write_text(text)
    assert not in_force.look()
    assert str(in_force.topology.online) == "0-7"
    [told] = host.told()
    assert told["event"] == "topology.unreadable"
    assert topologies.ONLINE in told["reason"]
    assert not in_force.look(), "the same fault is told once"
    assert len(host.told()) == 1
    host.online("0-5")
    assert in_force.look()
    online.unlink()
    in_force.look()
    assert len(host.told()) == 3, "it is told again when it comes again"


def test_a_start_without_a_configuration_has_all_defaults(host: Host) -> None:
    in_force = renewal.Renewal(None, host.root, logs.configure("json", host.log))
    assert in_force.config == schema.Config()
    assert not in_force.look()


def test_a_start_with_a_bad_configuration_is_refused(host: Host) -> None:
    host.config.write_text("minSharedCpus: none\n")
    with pytest.raises(errors.Usage, match="minSharedCpus"):
        host.renewal()


@pytest.mark.looptime
async def test_what_is_new_is_followed(host: Host) -> None:
    in_force = host.renewal()
    followed: list[tuple[str, int]] = []

    def follow(topology: topologies.Topology, config: schema.Config) -> None:
        followed.append((str(topology.online), config.min_shared_cpus))

    serving = asyncio.create_task(in_force.serve(follow))
    await asyncio.sleep(renewal.PAUSE * 3)
    assert followed == []
    host.config.write_text("minSharedCpus: 3\n")
    host.online("0-5")
    await asyncio.sleep(renewal.PAUSE * 3)
    serving.cancel()
    assert followed == [("0-5", 3)]
