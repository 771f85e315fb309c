"""When the agent counts as alive, and when the node counts as served."""

from __future__ import annotations

import errno
import pathlib

import pytest

from reconciler.daemon import agent, pages, passes, probes
from tests.daemon import node, observing, pods

# covers: PRD-12.4
# covers: PRD-12.5

WEB = pods.pod("web")
SHARED = pods.container(WEB)


async def test_a_node_is_served_once_the_first_list_is_taken_over_and_all_is_in_order(
    tmp_path: pathlib.Path,
) -> None:
    async with node.running(tmp_path, ready=False) as made:
        its = observing.sources(made, tmp_path).probes
        assert its.unready() == "no runtime is connected: no runtime has connected yet"
        made.agent.connected(node.PEER)
        assert its.unready() == "the node has not converged yet"
        made.make(SHARED, "0-1")
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EROFS
        await made.synchronize((WEB, SHARED))
        assert its.unready() == "the node has not converged yet"
        del made.kernel.refuses[str(SHARED.cgroup)]
        await made.quiet()
        assert its.unready() == ""


async def test_a_drift_and_a_change_do_not_end_that(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path).probes
        await made.run(WEB, SHARED)
        await made.quiet()
        assert its.unready() == ""
        made.kernel.refuses[str(SHARED.cgroup)] = errno.EROFS
        made.put(SHARED, "0-1")
        await made.quiet()
        assert made.status()["converged"] is False
        assert its.unready() == ""


@pytest.mark.parametrize("mode", ["cri", "cgroup"])
async def test_a_lesser_door_serves_and_none_does_not(tmp_path: pathlib.Path, mode: str) -> None:
    async with node.running(tmp_path) as made:
        its = observing.sources(made, tmp_path)
        readyz = pages.pages(its)["/readyz"]
        made.agent.set_mode(mode, "no NRI: it is switched off")
        reply = await readyz()
        assert (reply.status, reply.body) == (
            200,
            f"ready; mode {mode}: no NRI: it is switched off\n".encode(),
        )
        made.agent.set_mode("none", "nobody answers")
        reply = await readyz()
        assert (reply.status, reply.body) == (503, b"no runtime is connected: nobody answers\n")


async def test_a_dry_run_is_ready_though_nothing_converges(tmp_path: pathlib.Path) -> None:
    async with node.running(tmp_path, dry=True, ready=False) as made:
        its = observing.sources(made, tmp_path, dry=True).probes
        made.make(SHARED, "0-1")
        made.agent.connected(node.PEER)
        assert its.unready() == "the node has not converged yet"
        await made.synchronize((WEB, SHARED))
        assert made.status()["converged"] is False
        assert its.unready() == ""


async def test_a_pass_that_does_not_end_makes_it_unwell(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node.running(tmp_path) as made:
        await made.run(WEB, SHARED)
        await made.quiet()
        its = observing.sources(made, tmp_path)
        healthz = pages.pages(its)["/healthz"]
        made.kernel.hold()
        made.passes.everything()
        await node.until(lambda: made.passes.seconds() > 0)
        assert (await healthz()).status == 200
        monkeypatch.setattr(probes, "STUCK_SECONDS", 0.0)
        reply = await healthz()
        assert (reply.status, reply.body) == (
            503,
            b"the pass that is under way has taken 0 s: a file of the host does not answer\n",
        )
        made.kernel.release()
        await made.quiet()
        assert made.passes.seconds() == 0.0


class Passes(passes.Passes):
    """A pass that has taken as long as is said."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def seconds(self) -> float:
        """As is said."""
        return self._seconds


@pytest.mark.parametrize(("seconds", "well"), [(0.0, True), (29.9, True), (30.0, False)])
async def test_half_a_minute_is_too_long_for_a_pass(
    tmp_path: pathlib.Path, seconds: float, well: bool
) -> None:
    async with node.running(tmp_path) as made:
        its_agent: agent.Agent = made.agent
        its = probes.Probes(its_agent, Passes(seconds), made.book)
        assert (its.unwell() == "") is well
