"""The state machine: what may happen on a node, in any order, with writes that fail at any time."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Literal

import hypothesis
from hypothesis import stateful
from hypothesis import strategies as st

from reconciler import events, intent
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.sim import machine
from tests.pipeline import samples
from tests.soak import decisions, draws, runtime

STEPS = 20
"""Rules in one sequence, at most."""


class Machine(stateful.RuleBasedStateMachine):
    """One sequence; `reached` counts over all of them."""

    def __init__(self, reached: Counter[str]) -> None:
        super().__init__()
        self.reached = reached
        self.its: runtime.Runtime
        self._outside = sys.exception()

    @stateful.initialize(
        shape=st.sampled_from(draws.SHAPES),
        mask=st.integers(0, 0xFFFF),
        minimum=st.sampled_from((1, 1, 2)),
        overlap=draws.OVERLAP,
        ceiling=draws.CEILING,
        crowd=draws.CROWDS,
    )
    def boot(
        self,
        *,
        shape: machine.Shape,
        mask: int,
        minimum: int,
        overlap: Literal["refuse", "allow"],
        ceiling: int,
        crowd: tuple[tuple[int, str], ...],
    ) -> None:
        config = schema.Config(
            min_shared_cpus=minimum,
            annotated_overlap=overlap,
            max_exclusive_cpus={runtime.CAPPED: ceiling},
        )
        self.its = runtime.Runtime(shape, self.reached, config=config, mask=mask)
        for name, (count, forbid) in zip(draws.NAMES, crowd, strict=False):
            self.its.run(name, samples.GUARANTEED, {intent.FORBID: forbid} if forbid else {})
            self.its.create(name, "main", count)

    @stateful.rule(
        name=draws.POD,
        sort=draws.SORTS,
        first=draws.SMALL,
        width=draws.WIDTHS,
        forbid=draws.FORBIDS,
        count=draws.COUNTS,
    )
    def run(self, *, name: str, sort: str, first: int, width: int, forbid: str, count: int) -> None:
        cpus = self.its.shape.cpus
        annotations = {}
        if sort == "own lists":
            annotations[f"{intent.CORES}.main"] = draws.cpu_list(first, width, cpus)
            annotations[f"{intent.CORES}.side"] = draws.cpu_list(first + width, 1, cpus)
        elif sort.startswith("listed"):
            annotations[intent.CORES] = draws.cpu_list(first, width, cpus)
        elif forbid:
            annotations[intent.FORBID] = forbid
        qos = samples.BURSTABLE if sort in ("shared", "listed shared") else samples.GUARANTEED
        self.its.run(name, qos, annotations)
        self.its.create(name, "main", count)

    @stateful.rule(
        name=draws.POD,
        container=draws.CONTAINERS,
        count=draws.COUNTS,
        held=st.booleans(),
        meanwhile=draws.MEANWHILE,
        choice=draws.CHOICE,
    )
    def create(
        self, *, name: str, container: str, count: int, held: bool, meanwhile: str, choice: int
    ) -> None:
        name = self._pod(name)
        self.its.create(name, container, count, held=held, meanwhile=self._meanwhile(meanwhile, choice))

    @stateful.rule(
        name=draws.POD,
        choice=draws.CHOICE,
        first=draws.SMALL,
        width=draws.WIDTHS,
        count=draws.COUNTS,
        failing=draws.FAILING,
        meanwhile=draws.MEANWHILE,
    )
    def press(
        self,
        *,
        name: str,
        choice: int,
        first: int,
        width: int,
        count: int,
        failing: int,
        meanwhile: str,
    ) -> None:
        """A pod names CPUs of a container that then has to move, which may fail."""
        held = sorted(
            (key, claim.cpus)
            for key, claim in self.its.agent.now.ledger.claims.items()
            if claim.kind is intent.Kind.INTEGER
        )
        if held:
            _, cpus = held[choice % len(held)]
            wanted = draws.cpu_list(sorted(cpus)[first % len(cpus)], width, self.its.shape.cpus)
            self.its.run(name, samples.GUARANTEED, {intent.CORES: wanted})
            self._fail_next(failing)
            self.its.create(name, "main", count, meanwhile=self._meanwhile(meanwhile, choice))

    @stateful.rule(choice=draws.CHOICE, count=draws.COUNTS, failing=draws.FAILING, meanwhile=draws.MEANWHILE)
    def resize(self, choice: int, count: int, failing: int, meanwhile: str) -> None:
        guaranteed = {pod.sandbox for pod in self.its.pods.values() if pod.qos is samples.GUARANTEED}
        running = self._all(events.Phase.RUNNING)
        if there := [id_ for id_ in running if self.its.containers[id_].sandbox in guaranteed]:
            self._fail_next(failing)
            self.its.resize(there[choice % len(there)], count, self._meanwhile(meanwhile, choice + 1))

    @stateful.rule(choice=draws.CHOICE)
    def bear(self, choice: int) -> None:
        if unborn := sorted(self.its.unborn):
            self.its.bear(unborn[choice % len(unborn)])

    @stateful.rule(choice=draws.CHOICE, dropped=st.booleans(), clings=draws.CLINGS)
    def exit(self, choice: int, dropped: bool, clings: bool) -> None:
        if its := self._one(choice, events.Phase.RUNNING):
            if clings:
                self.its.cling(its)
            self.its.exit(its)
            if dropped:
                self.its.drop(its)

    @stateful.rule(choice=draws.CHOICE)
    def drop(self, choice: int) -> None:
        if its := self._one(choice, events.Phase.STOPPED):
            self.its.drop(its)

    @stateful.rule(name=draws.POD, again=st.booleans(), clings=draws.CLINGS)
    def end(self, name: str, again: bool, clings: bool) -> None:
        name = self._pod(name)
        if clings:
            self.its.cling_all(name)
        if again:
            self.its.again(name)
        else:
            self.its.end(name)

    @stateful.rule(
        how=st.sampled_from(("restart", "remember", "reconnect", "miss", "miss an end")),
        name=draws.POD,
        choice=draws.CHOICE,
        count=draws.COUNTS,
    )
    def connection(self, how: str, name: str, choice: int, count: int) -> None:
        if how in ("restart", "remember"):
            self.its.restart(remembers=how == "remember")
        elif how == "reconnect":
            self.its.reconnect()
        elif how == "miss":
            self.its.miss(self._pod(name), "side", count)
        elif its := self._one(choice, events.Phase.RUNNING):
            self.its.miss_end(its)

    @stateful.rule(
        how=st.sampled_from(("all", "a node", "some")),
        off=draws.SOME,
        choice=draws.CHOICE,
        noticed=st.booleans(),
    )
    def hotplug(self, how: str, off: int, choice: int, noticed: bool) -> None:
        everything = CpuSet(range(self.its.shape.cpus))
        gone = CpuSet()
        if how == "a node":
            nodes = self.its.agent.now.terms.topology.nodes
            gone = nodes[choice % len(nodes)].cpus
        elif how == "some":
            gone = CpuSet.from_bits(off) & everything
        self.its.hotplug((everything - gone) or CpuSet((0,)), noticed=noticed)

    @stateful.rule(
        minimum=st.sampled_from((1, 2, 4)),
        reserved=st.sampled_from(("", "0", "0-1", "5")),
        memory=st.sampled_from(("leave", "pin")),
        ceiling=draws.CEILING,
    )
    def reload(self, minimum: int, reserved: str, memory: str, ceiling: int) -> None:
        self.its.config = schema.convert(
            {
                "minSharedCpus": minimum,
                "reservedCpus": reserved,
                "integerMemory": memory,
                "annotatedOverlap": self.its.config.annotated_overlap,
                "maxExclusiveCpus": {runtime.CAPPED: ceiling},
            }
        )
        self.its.notice()

    @stateful.rule(groups=draws.SOME, always=st.booleans(), coming=draws.SMALL)
    def fail(self, groups: int, always: bool, coming: int) -> None:
        self._fail_next(groups, coming + 1)
        if always:
            self.its.ground.broken |= self.its.ground.failing.keys()

    @stateful.rule(choice=draws.CHOICE)
    def vanish(self, choice: int) -> None:
        if its := self._one(choice, events.Phase.RUNNING):
            self.its.ground.vanishing.add(its)

    @stateful.rule(what=st.sampled_from(("writes", "processes")), choice=draws.CHOICE, noticed=st.booleans())
    def heal(self, what: str, choice: int, noticed: bool) -> None:
        if what == "writes":
            self.its.heal()
        elif there := sorted(self.its.ground.stubborn):
            self.its.let_go(there[choice % len(there)], noticed=noticed)

    @stateful.rule(choice=draws.CHOICE, cpus=draws.SOME)
    def drift(self, choice: int, cpus: int) -> None:
        if its := self._one(choice, events.Phase.RUNNING):
            everything = CpuSet(range(self.its.shape.cpus))
            self.its.drift(its, CpuSet.from_bits(cpus) & everything)

    def teardown(self) -> None:
        if hasattr(self, "its") and sys.exception() is self._outside:
            self.its.settle()
            self.its.clear()
            self.reached["sequences"] += 1

    def _fail_next(self, groups: int, coming: int = 1) -> None:
        """Of the coming writes to these groups those fail whose bits are set in `coming`."""
        ground = self.its.ground
        for at, path in enumerate(sorted(ground.cpus)):
            if groups >> at & 1:
                ground.failing[path] = coming

    def _pod(self, name: str) -> str:
        """A pod that there is, where there is one."""
        there = sorted(self.its.pods)
        return there[draws.NAMES.index(name) % len(there)] if there else name

    def _one(self, choice: int, phase: events.Phase) -> events.ContainerId | None:
        there = self._all(phase)
        return there[choice % len(there)] if there else None

    def _all(self, phase: events.Phase) -> list[events.ContainerId]:
        return sorted(id_ for id_, its in self.its.containers.items() if its.phase is phase)

    def _meanwhile(self, what: str, choice: int) -> Callable[[], None]:
        """What happens between the writes of a transaction and its verdict."""
        its = self.its

        def creation() -> None:
            if draws.BYSTANDER not in its.pods:
                its.run(draws.BYSTANDER, samples.GUARANTEED, {})
            its.create(draws.BYSTANDER, "main", 1 + choice % 2, held=True)

        def end() -> None:
            if there := sorted(its.pods):
                its.end(there[choice % len(there)])

        def exit_() -> None:
            if one := self._one(choice, events.Phase.RUNNING):
                its.exit(one)

        def hotplug() -> None:
            everything = CpuSet(range(its.shape.cpus))
            its.hotplug(everything - CpuSet((choice % len(everything),)), noticed=True)

        return {
            "nothing": decisions.nothing,
            "a creation": creation,
            "a pod's end": end,
            "an exit": exit_,
            "hotplug": hotplug,
        }[what]


def run(sequences: int, seed: int | None = None) -> Counter[str]:
    """Run that many sequences, other ones for each seed, or at random; what they reached.

    Raises what the machine raises, with the shortest sequence that does.
    """
    reached: Counter[str] = Counter()

    def made() -> Machine:
        return Machine(reached)

    if seed is not None:
        made = hypothesis.seed(seed)(made)
    stateful.run_state_machine_as_test(made, settings=_settings(sequences))  # type: ignore[arg-type]
    return reached


def _settings(sequences: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=sequences,
        stateful_step_count=STEPS,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
