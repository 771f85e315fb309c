"""`make uninstall-node`: what it asks of the node, in which order, and what it leaves."""

from __future__ import annotations

import os
import pathlib

import pytest

from hack import node as nodes

PREFIX = "/opt/cpuset-reconciler"


@pytest.fixture
def installed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> nodes.Node:
    """What `install` leaves, with a program and a systemctl that write down what they are called with."""
    node = nodes.Node(str(tmp_path / "node"), PREFIX)
    said = tmp_path / "said"
    tools = tmp_path / "tools"
    tools.mkdir()
    for path in (node.at(node.program), tools / "systemctl"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$(basename "$0") $*" >> {said}\nexit $CODE\n')
        path.chmod(0o755)
    for file in (node.unit, node.at(f"{nodes.STATE}/checkpoint.json"), node.at(nodes.CONFIG)):
        file.parent.mkdir(parents=True)
        file.touch()
    node.plugin.parent.mkdir(parents=True)
    node.plugin.symlink_to(node.program)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("CODE", "0")
    monkeypatch.setattr(node, "is_real", True)
    # The program is not at its place on this machine, but below the folder that stands for the node.
    monkeypatch.setattr(node, "program", str(node.at(node.program)))
    node.plugin.unlink()
    node.plugin.symlink_to(node.program)
    return node


def files(node: nodes.Node) -> set[str]:
    """Every file and link of the node."""
    root = node.at("/")
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file()}


def test_the_agent_is_stopped_then_containers_are_given_back_what_they_had_then_all_is_removed(
    installed: nodes.Node, tmp_path: pathlib.Path
) -> None:
    nodes.uninstall(installed, "/run/crio/crio.sock", keep=False)
    assert (tmp_path / "said").read_text().splitlines() == [
        "systemctl disable --now cpuset-reconciler.service",
        f"cpuset-reconciler restore --config {nodes.CONFIG} --cri-socket /run/crio/crio.sock",
        "systemctl daemon-reload",
    ]
    assert files(installed) == set()


def test_where_they_cannot_be_given_it_back_the_program_stays_and_that_is_told(
    installed: nodes.Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODE", "1")
    with pytest.raises(SystemExit, match="restart the runtime first"):
        nodes.uninstall(installed, None, keep=False)
    assert os.path.exists(installed.program)
    assert not os.path.lexists(installed.plugin)
    nodes.uninstall(installed, None, keep=True)
    assert files(installed) == set()


def test_a_configuration_that_somebody_has_written_stays(
    installed: nodes.Node, capsys: pytest.CaptureFixture[str]
) -> None:
    installed.at(nodes.CONFIG).write_text("isolation: partition\n")
    nodes.uninstall(installed, None, keep=False)
    assert files(installed) == {nodes.CONFIG.lstrip("/")}
    assert nodes.CONFIG in capsys.readouterr().out


def test_a_plugin_of_somebody_else_stays(installed: nodes.Node) -> None:
    installed.plugin.unlink()
    installed.plugin.symlink_to("/usr/bin/other")
    nodes.uninstall(installed, None, keep=False)
    assert files(installed) == {f"{nodes.PLUGINS}/{nodes.PLUGIN}".lstrip("/")}


@pytest.mark.parametrize(
    ("version", "why"), [("3.10", "what an older Python needs"), ("three", "a version such as 3.14")]
)
def test_a_python_that_cannot_be_installed_for_is_refused_before_anything_is_made(
    version: str, why: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(SystemExit, match=f"--python {version}: {why}"):
        nodes.main(["install", "--destdir", str(tmp_path / "node"), "--python", version])
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize("prefix", ["/", "/opt", "/usr/local/", "opt/x", ""])
def test_a_prefix_that_is_no_folder_of_its_own_is_refused(prefix: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(SystemExit, match="a folder of its own"):
        nodes.Node(str(tmp_path), prefix)
