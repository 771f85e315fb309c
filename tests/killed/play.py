"""Plays the script with agents that die at one step or at none, and starts the next one after them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.killed import agents, checks, ground, script, steps

RESTART = len(script.ACTIONS)
"""The number of the action in which the second agent starts."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The script without a death: every step that there is, and the claims after each action."""

    steps: tuple[steps.Step, ...]
    claims: tuple[checks.Claims, ...]


class MissedError(AssertionError):
    """A step that the rehearsal had does not come up this time."""


async def rehearse(door: ground.Door, zygote: agents.Zygote) -> Rehearsal:
    """Play it to its end."""
    claims = []
    async with ground.node(door, zygote) as node:
        await script.before(node)
        agent = await node.start("first")
        for number, action in enumerate(script.ACTIONS):
            node.action(number)
            await action.do(node)
            status = await node.quiet()
            assert status is not None, agent.records()[-5:]
            checks.settled(node, status)
            claims.append(checks.saved(node))
        checks.said_nothing_bad(agent)
        made = Rehearsal(tuple(agent.steps()), tuple(claims))
        assert await agent.stop() == 0
    return made


async def rehearse_restart(
    door: ground.Door, zygote: agents.Zygote, last: steps.Step
) -> tuple[steps.Step, ...]:
    """The steps of the agent's start after a death at that step."""
    async with ground.node(door, zygote) as node:
        await _until_dead(node, last)
        node.action(RESTART)
        agent = await node.start("second")
        assert await node.quiet() is not None, agent.records()[-5:]
        return tuple(agent.steps())


async def die(
    door: ground.Door,
    zygote: agents.Zygote,
    rehearsal: Rehearsal,
    last: steps.Step,
    again: steps.Step | None = None,
) -> None:
    """Play it to that step, start the agent again, and judge. With `again`, that one dies, too.

    Raises AssertionError where anything is lost, MissedError where a step does not come up.
    """
    action = script.ACTIONS[last.action]
    before = rehearsal.claims[last.action - 1] if last.action else {}
    after = rehearsal.claims[last.action]
    async with ground.node(door, zygote) as node:
        held = await _until_dead(node, last)
        checks.untouched(node, held, action)
        checks.is_one_of(checks.saved(node), before, after)
        if again is not None:
            node.action(RESTART)
            await _dies(node, await node.start("second", again), again)
            checks.is_one_of(checks.saved(node), before, after)
        await checks.lives_on(node, before, after)


async def _until_dead(node: ground.Node, last: steps.Step) -> checks.Claims:
    """Play the script until the agent has died; the exclusive claims before that action, by ids."""
    await script.before(node)
    agent = await node.start("first", last)
    held: checks.Claims = {}
    for number, action in enumerate(script.ACTIONS[: last.action]):
        node.action(number)
        await action.do(node)
        status = await node.quiet()
        assert status is not None, agent.records()[-5:]
        held = ground.claims(status)
    node.action(last.action)
    await script.ACTIONS[last.action].do(node)
    await _dies(node, agent, last)
    return held


async def _dies(node: ground.Node, agent: agents.Agent, last: steps.Step) -> None:
    if await node.quiet() is not None:
        raise MissedError(f"{last} did not come up: {agent.steps()}")
    assert agent.steps()[-1] == last, agent.records()[-5:]
