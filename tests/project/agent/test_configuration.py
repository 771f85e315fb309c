"""A configuration that cannot be used is refused with its place, at the start; later it changes nothing."""

from __future__ import annotations

import pathlib

import pytest
import structlog
from structlog.testing import capture_logs

from reconciler import errors
from reconciler.cli import main
from reconciler.config import load, schema
from reconciler.cpu import topology as topologies
from reconciler.cpu.idset import CpuSet
from reconciler.daemon import renewal
from reconciler.sim import machine

# covers: PRD-9.2, PRD-9.3

BAD = [
    pytest.param("minSharedCpu: 2", "unknown field `minSharedCpu`", id="unknown key"),
    pytest.param(
        "nri: {pluginIndx: '10'}", "unknown field `pluginIndx` - at `$.nri`", id="unknown key below"
    ),
    pytest.param("minSharedCpus: two", "at `$.minSharedCpus`", id="type"),
    pytest.param("minSharedCpus: 0", "at `$.minSharedCpus`", id="range"),
    pytest.param("nri: {pluginIndex: '200'}", "at `$.nri.pluginIndex`", id="index"),
    pytest.param("isolatedCpus: maybe", "at `$.isolatedCpus`", id="choice"),
    pytest.param("reservedCpus: 3-1", "reservedCpus at position 0", id="list"),
    pytest.param("onGuard: admit\nonGuard: refuse", "'onGuard' stands twice", id="twice"),
    pytest.param("[1, 2]", "Expected `object`", id="no mapping"),
    pytest.param("a: [", "while parsing", id="no YAML"),
    pytest.param("!!python/object:os.system {}", "could not determine a constructor", id="tag"),
]


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_a_bad_configuration_is_refused_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(errors.Usage) as raised:
        load.parse(text, what="config.yaml")
    assert str(raised.value).startswith("config.yaml: ")
    assert expected in str(raised.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"], ids=["empty", "comment", "mapping"])
def test_an_empty_configuration_is_all_defaults(text: str) -> None:
    assert load.parse(text, what="config.yaml") == schema.Config()


def test_a_bad_configuration_ends_a_command_with_code_2_and_one_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("minSharedCpus: 0\n")
    assert main.main(["check-config", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"cpuset-reconciler: {file}: ")
    assert said.err.count("\n") == 1


@pytest.fixture
def node(tmp_path: pathlib.Path) -> pathlib.Path:
    machine.write(str(tmp_path / "host"), machine.vm())
    (tmp_path / "config.yaml").write_text("minSharedCpus: 2\n")
    return tmp_path


def _renewal(node: pathlib.Path) -> renewal.Renewal:
    return renewal.Renewal(str(node / "config.yaml"), str(node / "host"), structlog.get_logger())


def test_a_changed_configuration_is_taken(node: pathlib.Path) -> None:
    with capture_logs() as logs:
        in_force = _renewal(node)
        assert not in_force.look()
        (node / "config.yaml").write_text("minSharedCpus: 3\n# another size\n")
        assert in_force.look()
        assert not in_force.look()
    assert in_force.config.min_shared_cpus == 3
    assert [entry["event"] for entry in logs] == ["config.reloaded"]


def test_a_bad_change_keeps_the_old_configuration_and_says_so_once(node: pathlib.Path) -> None:
    with capture_logs() as logs:
        in_force = _renewal(node)
        (node / "config.yaml").write_text("minSharedCpus: nothing at all\n")
        assert not in_force.look()
        assert not in_force.look()
    assert in_force.config.min_shared_cpus == 2
    assert [entry["event"] for entry in logs] == ["config.rejected"]
    assert "$.minSharedCpus" in logs[0]["reason"]


def test_a_file_that_is_gone_keeps_the_old_configuration(node: pathlib.Path) -> None:
    with capture_logs() as logs:
        in_force = _renewal(node)
        (node / "config.yaml").unlink()
        assert not in_force.look()
    assert in_force.config.min_shared_cpus == 2
    assert [entry["event"] for entry in logs] == ["config.rejected"]


def test_another_plugin_name_waits_for_a_restart(node: pathlib.Path) -> None:
    with capture_logs() as logs:
        in_force = _renewal(node)
        (node / "config.yaml").write_text("minSharedCpus: 2\nnri: {pluginIndex: '80'}\n")
        in_force.look()
    assert [entry["event"] for entry in logs] == ["config.restart-needed", "config.reloaded"]


def test_a_cpu_that_goes_offline_is_seen(node: pathlib.Path) -> None:
    with capture_logs() as logs:
        in_force = _renewal(node)
        machine.write(str(node / "host"), {topologies.ONLINE: "0-6\n"})
        assert in_force.look()
    assert in_force.topology.offline == CpuSet((7,))
    assert [(entry["event"], entry["went"]) for entry in logs] == [("topology.changed", "7")]
