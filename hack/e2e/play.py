"""Plays the scenarios on a cluster where the agent runs: `python -m hack.e2e.play --help`. I/O.

One line a scenario: `ok`, `skip` with the reason, or `FAIL` with what was not so. The exit code is 0 where at
least one was played and none failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fnmatch
import sys
from collections.abc import Iterable, Sequence

from hack.e2e import cluster, judgement, selection
from reconciler.cpu.idset import CpuSet
from tests.scenarios import ground, model, pure


class Player:
    """One scenario on the cluster, beside the same on the pure pipeline."""

    def __init__(self, scenario: model.Scenario, there: cluster.Cluster, namespace: str) -> None:
        self._scenario = scenario
        self._there = there
        self._namespace = namespace
        self._model = pure.PureGround(scenario)
        self._pods: dict[str, model.Pod] = {}
        self._waiting: set[str] = set()
        """Pods that were refused and that a later step sees created: kubelet tries them all the while."""

    def play(self) -> None:
        """Raises ClusterError with the number of the step and what was not so."""
        pools = self._there.status()["pools"]
        before = _set(pools["shared"]) | _set(pools["exclusive"])
        for number, step in enumerate(self._scenario.steps, 1):
            try:
                self._step(step, self._scenario.steps[number:], before)
            except cluster.ClusterError as error:
                raise cluster.ClusterError(f"step {number}: {error}") from error

    def _step(self, step: model.Step, later: Sequence[model.Step], before: CpuSet) -> None:
        if step.refused is None:
            self._do(step)
        else:
            self._be_refused(step, step.refused, later)
        if self._waiting:
            return
        asyncio.run(self._model.settle())
        wanted = asyncio.run(self._model.status())
        look = self._there.settle({judgement.key_of(its) for its in wanted["containers"]})
        for complaint in judgement.complaints(wanted, self._pods, look, before):
            raise cluster.ClusterError(complaint)
        _check_reasons(step, look)

    def _do(self, step: model.Step) -> None:
        parts = step.together or (step,)
        runs = [part.run for part in parts if part.run is not None]
        gone = [part.delete for part in parts if part.delete is not None and part.delete in self._pods]
        for pod in runs:
            self._there.create(pod)
            self._pods[pod.pod] = pod
        self._there.delete(gone)
        for pod in runs:
            self._there.until_ready(pod.pod)
        if step.create is not None:
            self._there.until_ready(step.create.split("/")[0])
            self._waiting.discard(step.create.split("/")[0])
        if step.write is not None:
            self._there.write(step.write.container, step.write.text)
        for part in parts:
            if part.delete is None or part.delete in gone:
                asyncio.run(ground.act(part, self._model))
        for name in gone:
            del self._pods[name]

    def _be_refused(self, step: model.Step, why: str, later: Sequence[model.Step]) -> None:
        """On the scenario's machine too, so that its container is known there as it is here."""
        pod = step.run
        if pod is None:
            raise cluster.ClusterError("only a pod that is run can be seen to be refused here")
        with contextlib.suppress(ground.RefusedError):
            asyncio.run(ground.act(step, self._model))
        self._there.create(pod)
        self._pods[pod.pod] = pod
        self._there.until_refused(pod.pod, why.replace("default/", f"{self._namespace}/"))
        if any(it.create is not None and it.create.split("/")[0] == pod.pod for it in later):
            self._waiting.add(pod.pod)
            return
        # Kubelet would try it again and again.
        self._there.delete([pod.pod])
        asyncio.run(self._model.delete_pod(pod.pod))
        del self._pods[pod.pod]


def _check_reasons(step: model.Step, look: judgement.Look) -> None:
    for key, expected in step.expect.items():
        told = look.entries()[key]["reason"]
        if expected.reason is not None and expected.reason not in told:
            raise cluster.ClusterError(f"{key}: the reason lacks {expected.reason!r}: {told}")


def main() -> None:
    """Play, and exit."""
    given = _arguments(sys.argv[1:])
    names = cluster.Names(
        namespace=given.namespace,
        agent_namespace=given.agent_namespace,
        node=given.node,
        image=given.image,
    )
    there = cluster.Cluster(names, patience=given.patience)
    try:
        sys.exit(run(there, given.namespace, given.only))
    except cluster.ClusterError as error:
        sys.exit(f"play: {error}")


def run(there: cluster.Cluster, namespace: str, only: Iterable[str]) -> int:
    """Play every scenario whose file a pattern of `only` names. Raises ClusterError where nothing can be."""
    patterns = list(only) or ["*"]
    counts = {"ok": 0, "skip": 0, "FAIL": 0}
    for path in model.files():
        if any(fnmatch.fnmatch(path.stem, pattern) for pattern in patterns):
            word, why = _played(model.load(path), there, namespace)
            counts[word] += 1
            print(f"{word:4}  {path.stem}{': ' if why else ''}{why}", flush=True)
    print(f"{counts['ok']} played, {counts['skip']} skipped, {counts['FAIL']} failed")
    if not counts["ok"]:
        print("play: no scenario was played to its end", file=sys.stderr)
    return 1 if counts["FAIL"] or not counts["ok"] else 0


def _played(scenario: model.Scenario, there: cluster.Cluster, namespace: str) -> tuple[str, str]:
    if why := selection.why_not(scenario, there.node()):
        return "skip", why
    try:
        Player(scenario, there, namespace).play()
    except cluster.ClusterError as error:
        return "FAIL", str(error)
    finally:
        there.clear()
    return "ok", ""


def _set(text: str) -> CpuSet:
    return CpuSet.parse(text, what="pool")


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hack.e2e.play", description=__doc__)
    parser.add_argument("--namespace", required=True, help="where the scenarios' pods are made")
    parser.add_argument("--agent-namespace", required=True, help="where the agent's pods are")
    parser.add_argument("--node", required=True, help="the node on which all is played")
    parser.add_argument("--image", required=True, help="one with sleep and cat, as the agent's own has")
    parser.add_argument("--patience", type=float, default=120, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("only", nargs="*", metavar="PATTERN", help="names of scenarios, such as 'a-list-*'")
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
