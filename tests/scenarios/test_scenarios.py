"""Every scenario on every ground that this machine can be."""

from __future__ import annotations

import pathlib

import pytest

from tests.scenarios import ground, model, pure

FILES = model.files()


def _ids(path: pathlib.Path) -> str:
    return path.stem


def scenario_for(path: pathlib.Path, name: model.GroundName) -> model.Scenario:
    """The scenario, or a skip with the reason that the file gives."""
    scenario = model.load(path)
    if name in scenario.not_on:
        pytest.skip(f"{path.stem} cannot run on {name}: {scenario.not_on[name]}")
    return scenario


@pytest.mark.parametrize("path", FILES, ids=_ids)
async def test_the_pure_pipeline_does_as_the_scenario_says(path: pathlib.Path) -> None:
    scenario = scenario_for(path, "pure")
    await ground.play(scenario, pure.PureGround(scenario))


def test_there_are_scenarios() -> None:
    assert len(FILES) >= 20
