"""Every scenario on the real node."""

from __future__ import annotations

import pathlib

import pytest

from tests.e2e import ground as real
from tests.e2e import kubelet, place
from tests.scenarios import ground, model, polled


@pytest.mark.parametrize("path", model.files(), ids=lambda path: path.stem)
async def test_the_node_does_as_the_scenario_says(path: pathlib.Path) -> None:
    scenario = model.load(path)
    if "real" in scenario.not_on:
        pytest.skip(f"{path.stem} cannot run on a real node: {scenario.not_on['real']}")
    if place.DOOR == "cri" and (why := polled.why_not(scenario)):
        pytest.skip(f"{path.stem} cannot run without NRI: {why}")
    kubelet.start()
    played_on = real.RealGround(scenario)
    try:
        await played_on.begin()
        await ground.play(scenario, played_on)
    finally:
        await played_on.end(path.stem)
