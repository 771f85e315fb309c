"""Every scenario on every ground that needs no root: pure, on a fake file system, on the simulated node with
NRI and without."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import pytest

from tests.scenarios import fakefs, ground, model, polled, pure, simulated

if TYPE_CHECKING:
    from pyfakefs.fake_filesystem import FakeFilesystem

FILES = model.files()
by_file = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def scenario_for(path: pathlib.Path, name: model.GroundName) -> model.Scenario:
    """The scenario, or a skip with the reason that the file gives."""
    scenario = model.load(path)
    if name in scenario.not_on:
        pytest.skip(f"{path.stem} cannot run on {name}: {scenario.not_on[name]}")
    return scenario


@by_file
async def test_the_pure_pipeline_does_as_the_scenario_says(path: pathlib.Path) -> None:
    scenario = scenario_for(path, "pure")
    await ground.play(scenario, pure.PureGround(scenario))


@by_file
async def test_passes_over_files_do_as_the_scenario_says(path: pathlib.Path, fs: FakeFilesystem) -> None:
    fs.add_real_directory(model.FOLDER.parent)
    scenario = scenario_for(path, "fakefs")
    await ground.play(scenario, fakefs.FakeFsGround(scenario))


@by_file
async def test_the_simulated_node_does_as_the_scenario_says(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    scenario = scenario_for(path, "simulated")
    async with simulated.node(tmp_path, scenario) as node:
        await ground.play(scenario, node)


@by_file
async def test_the_simulated_node_does_as_the_scenario_says_without_nri(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    scenario = model.load(path)
    if why := polled.why_not(scenario):
        pytest.skip(f"{path.stem} cannot run without NRI: {why}")
    async with polled.node(tmp_path, scenario) as node:
        await ground.play(scenario, node)


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 60
