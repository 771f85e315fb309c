"""An agent that is killed at any step leaves nothing that the next one does not put right in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from reconciler.cpu.idset import CpuSet
from tests.killed import agents, checks, every, ground, play, script, steps

# covers: PRD-6.9, PRD-4.2

DOORS: tuple[ground.Door, ...] = ("nri", "cri")
MOVE = next(number for number, action in enumerate(script.ACTIONS) if len(action.concerns) == 3)
"""The creation that moves two others."""
GROW = next(number for number, action in enumerate(script.ACTIONS) if action.name.endswith("resized to 2"))


@pytest.fixture
async def zygote() -> AsyncIterator[agents.Zygote]:
    """What agents are forked from."""
    async with agents.running() as made:
        yield made


@pytest.mark.parametrize("door", DOORS)
async def test_killed_at_any_step_the_next_one_has_every_claim_and_placement_in_one_pass(
    door: ground.Door, zygote: agents.Zygote
) -> None:
    """A spread of the steps; `python -m tests.killed`, which `make soak` runs, takes each of them."""
    rehearsal = await play.rehearse(door, zygote)
    assert _lacks(rehearsal.steps, door) == []
    assert await every.die(door, zygote, rehearsal, every.spread(rehearsal.steps, every.STRIDE)) == []


def _lacks(found: Sequence[steps.Step], door: ground.Door) -> list[str]:
    """Of what the script must come to, what it does not."""
    kinds = Counter((step.action, step.kind) for step in found if step.moment == "before")
    told = "answer" if door == "nri" else "event"
    least = {(number, told): 1 for number in range(len(script.ACTIONS))}
    least |= {(MOVE, "write"): 8, (GROW, "write"): 6, (MOVE, "checkpoint"): 7, (GROW, "checkpoint"): 7}
    return [f"{action} {kind}" for (action, kind), count in least.items() if kinds[action, kind] < count]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("action", [pytest.param(MOVE, id="moving"), pytest.param(GROW, id="resizing")])
async def test_killed_again_while_it_starts_it_is_no_worse(
    action: int, door: ground.Door, zygote: agents.Zygote
) -> None:
    rehearsal = await play.rehearse(door, zygote)
    writes = [step for step in rehearsal.steps if step[:2] == (action, "write") and step.moment == "after"]
    last = writes[len(writes) // 2]
    restart = await play.rehearse_restart(door, zygote, last)
    assert {"write", "checkpoint"} <= {step.kind for step in restart}
    deaths = [(last, again) for again in restart[:: every.STRIDE]]
    assert await every.die(door, zygote, rehearsal, deaths) == []


@pytest.mark.parametrize("door", DOORS)
async def test_who_was_resized_after_the_last_save_has_his_cpus_to_himself_while_the_next_one_starts(
    door: ground.Door, zygote: agents.Zygote
) -> None:
    rehearsal = await play.rehearse(door, zygote)
    last = next(step for step in rehearsal.steps if step[:2] == (GROW, "checkpoint"))
    assert await every.die(door, zygote, rehearsal, [(last, None)]) == []


def cpus(text: str) -> CpuSet:
    return CpuSet.parse(text, what="a test")


@pytest.mark.parametrize(
    ("now", "is_fine"),
    [
        pytest.param({"a": "2-3", "b": "4"}, True, id="as before"),
        pytest.param({"a": "4-5", "b": "2", "c": "3"}, True, id="as decided"),
        pytest.param({"a": "4-5", "b": "4"}, True, id="one as before, one as decided"),
        pytest.param({"a": "2-3"}, False, id="one is lost"),
        pytest.param({"a": "2-3", "b": "6"}, False, id="one is elsewhere"),
        pytest.param({"a": "2-3", "b": "4", "d": "7"}, False, id="one too many"),
    ],
)
def test_a_claim_that_is_neither_as_before_nor_as_decided_is_noticed(
    now: dict[str, str], is_fine: bool
) -> None:
    before, after = {"a": "2-3", "b": "4"}, {"a": "4-5", "b": "2", "c": "3"}
    held = [{name: cpus(text) for name, text in claims.items()} for claims in (now, before, after)]
    if is_fine:
        checks.is_one_of(*held)
        return
    with pytest.raises(AssertionError):
        checks.is_one_of(*held)


@pytest.mark.parametrize(
    ("others", "is_fine"),
    [
        pytest.param({"b": "0-1,4-7"}, True, id="beside it"),
        pytest.param({"b": "0-2"}, False, id="on one of its CPUs"),
        pytest.param({"b": ""}, False, id="everywhere"),
    ],
)
def test_anyone_on_the_cpus_of_a_holder_is_noticed(others: dict[str, str], is_fine: bool) -> None:
    cpusets = {"a": cpus("2-3"), **{name: cpus(text) for name, text in others.items()}}
    if is_fine:
        checks.alone({"a": cpus("2-3")}, cpusets)
        return
    with pytest.raises(AssertionError, match="b has"):
        checks.alone({"a": cpus("2-3")}, cpusets)


async def test_a_step_that_does_not_come_up_is_a_failure(zygote: agents.Zygote) -> None:
    rehearsal = await play.rehearse("nri", zygote)
    never = steps.Step(0, "write", 1000, "before")
    [wrong] = await every.die("nri", zygote, rehearsal, [(never, None)])
    assert "0 write 1000 before did not come up" in wrong


async def test_a_claim_that_the_dead_agent_had_saved_and_that_is_gone_is_noticed(
    zygote: agents.Zygote,
) -> None:
    rehearsal = await play.rehearse("nri", zygote)
    forged = play.Rehearsal(rehearsal.steps, tuple({**its, "x/main": cpus("0")} for its in rehearsal.claims))
    last = next(step for step in rehearsal.steps if step.action == MOVE)
    [wrong] = await every.die("nri", zygote, forged, [(last, None)])
    assert "x/main" in wrong
