"""Every prefix of a plan is safe, also where writes fail, and a whole plan comes to what is desired."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler import diff, events, inventory, observed, plan, report
from reconciler.cpu.idset import CpuSet, NodeSet
from reconciler.daemon import executor
from reconciler.host import cgroupfs
from reconciler.policy import desired, state
from reconciler.sim import machine
from tests.pipeline import kernel, samples

# covers: PRD-4.2, PRD-4.7

Overlaps = dict[tuple[events.ContainerId, events.ContainerId], int]
"""What a holder and another container both have, by the two; bit i for CPU i."""

THOROUGH = settings(
    deadline=None, max_examples=1000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
FAIRLY = settings(THOROUGH, max_examples=500)
BRIEF = settings(THOROUGH, max_examples=150)
HOLDERS = st.tuples(st.sampled_from(["a", "ab"]), st.sampled_from([None, NodeSet((0,)), NodeSet((0, 1))]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is desired of each container, what its files say, and which writes will fail."""

    online: CpuSet
    wanted: dict[events.ContainerId, desired.Placement]
    cpus: kernel.Sets
    mems: dict[events.ContainerId, NodeSet]
    failing: frozenset[int] = frozenset()
    broken: frozenset[str] = frozenset()
    vanishing: frozenset[str] = frozenset()

    @property
    def claimed(self) -> CpuSet:
        """All exclusive claims."""
        claimed = CpuSet()
        for placement in self.wanted.values():
            if placement.owner is not None:
                claimed |= placement.cpus
        return claimed


@dataclass(slots=True)
class Run:
    """A plan that is carried out by the real executor on a kernel of dictionaries, watched write by write."""

    situation: Situation
    ground: kernel.Kernel = field(init=False)
    steps: plan.Plan = field(init=False)
    results: tuple[report.Result, ...] = field(init=False, default=())
    made: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        its = self.situation
        self.ground = kernel.Kernel(
            online=its.online,
            cpus=dict(its.cpus),
            mems=dict(its.mems),
            failing=its.failing,
            broken=its.broken,
            vanishing=its.vanishing,
        )
        looks = self.ground.looks(its.wanted)
        differences = diff.compare(its.wanted, looks, {}, its.online)
        self.steps = plan.order(differences, its.wanted, looks, its.claimed, its.online - its.claimed)

    def execute(self) -> None:
        """All of it; the situation's kernel says what fails."""
        tree = cast("cgroupfs.Cgroupfs", self.ground)
        self.results = executor.execute(self.steps, _known(self.situation.wanted), tree)

    def prefix(self, count: int) -> kernel.Sets:
        """What the cgroups may run on after the first `count` writes, all of which succeed."""
        while self.made < count:
            step = self.steps[self.made]
            self.ground.write(step.container, step.file, step.text)
            self.made += 1
        return self.ground.reach()


def _known(wanted: desired.Desired) -> state.State:
    """A state whose containers have the cgroups that are called as they are."""
    containers = {
        id_: events.Container(
            id=id_,
            sandbox=events.SandboxId("sandbox"),
            name=id_,
            cgroup=id_,
            limits=events.CpuLimits(),
            phase=events.Phase.RUNNING,
        )
        for id_ in wanted
    }
    known = inventory.Inventory()
    for id_, its in containers.items():
        known = dataclasses.replace(known, containers=known.containers.insert(id_, its))
    return state.State(terms=_TERMS, inventory=known)


_TERMS = samples.fresh(machine.Shape(sockets=1, cores=1)).terms


def overlaps(run: Run, of: Callable[[CpuSet, CpuSet], CpuSet]) -> Overlaps:
    """The CPUs of each holder that each other container reaches: those that `of` says of claim and file."""
    wanted, ground = run.situation.wanted, run.ground
    reach = [(other, wanted[other].owner, cpus.bits) for other, cpus in ground.reach().items()]
    found = {}
    for holder, placement in wanted.items():
        if placement.owner is None or holder not in ground.cpus:
            continue
        own = of(placement.cpus, ground.cpus[holder]).bits
        for other, owner, cpus in reach:
            if own & cpus and owner != placement.owner:
                found[holder, other] = own & cpus
    return found


def taken(claim: CpuSet, file: CpuSet) -> CpuSet:
    """What a holder has of its claim by its own file."""
    return claim & file


def in_force(claim: CpuSet, file: CpuSet) -> CpuSet:
    """The whole claim of a holder whose file names CPUs of it and no others."""
    return claim if file and file <= claim else CpuSet()


def whole(claim: CpuSet, file: CpuSet) -> CpuSet:
    """The whole claim, whatever its holder's file says."""
    return claim


def within(now: Overlaps, before: Overlaps) -> bool:
    """Whether nothing overlaps that did not before."""
    return all(not cpus & ~before.get(pair, 0) for pair, cpus in now.items())


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Up to 16 CPUs, up to four disjoint claims with one or two holders each, up to four others, and anything
    in their files: what is right, what is wrong, nothing, what others hold."""
    return _drawn(draw)


@st.composite
def crowded(draw: st.DrawFn) -> Situation:
    """The same where no CPU is in the pool, so that there is nowhere to step to."""
    calm = _drawn(draw)
    taken_ = calm.claimed
    wanted = {id_: its for id_, its in calm.wanted.items() if its.owner is not None}
    return Situation(
        online=taken_,
        wanted=wanted,
        cpus={id_: calm.cpus[id_] & taken_ for id_ in wanted},
        mems={id_: calm.mems[id_] for id_ in wanted},
    )


def _drawn(draw: st.DrawFn) -> Situation:
    count = draw(st.integers(2, 16))
    online = CpuSet(range(count))
    holder_of = [byte % 5 for byte in draw(st.binary(min_size=count - 1, max_size=count - 1))]
    wanted: dict[events.ContainerId, desired.Placement] = {}
    pool = online
    for holder in range(1, 5):
        cpus = CpuSet(cpu + 1 for cpu, by in enumerate(holder_of) if by == holder)
        if cpus:
            owner = state.ClaimKey(events.PodUid(f"pod-{holder}"), "")
            names, mems = draw(HOLDERS)
            placement = desired.Placement(cpus=cpus, mems=mems, owner=owner)
            wanted |= {events.ContainerId(f"{holder}{name}"): placement for name in names}
            pool -= cpus
    for number, byte in enumerate(draw(st.binary(max_size=4))):
        cpus = CpuSet.from_bits(byte * 257) & pool or pool
        wanted[events.ContainerId(f"shared-{number}")] = desired.Placement(cpus=cpus)
    files = draw(st.binary(min_size=4 * len(wanted), max_size=4 * len(wanted)))
    written = {id_: files[4 * at : 4 * at + 4] for at, id_ in enumerate(wanted)}
    return Situation(
        online=online,
        # Any order: a pass takes containers as the inventory has them.
        wanted=dict(sorted(wanted.items(), key=lambda item: written[item[0]][3])),
        cpus={id_: _in_file(seed, wanted[id_].cpus, online) for id_, seed in written.items()},
        mems={id_: NodeSet.from_bits(seed[3] % 4) for id_, seed in written.items()},
    )


def _in_file(seed: bytes, right: CpuSet, online: CpuSet) -> CpuSet:
    """What a file says: mostly anything, now and then what is right, or nothing."""
    if seed[0] >= 224:
        return CpuSet()
    return right if seed[0] >= 192 else CpuSet.from_bits(seed[1] | seed[2] << 8) & online


@st.composite
def troubled(draw: st.DrawFn) -> Situation:
    """The same where some writes fail, some cgroups refuse every write, and some vanish."""
    calm = draw(situations())
    failing, fate = draw(st.tuples(st.integers(0, 0xFFF), st.binary(min_size=12, max_size=12)))
    fates = list(zip(calm.wanted, fate, strict=False))
    return Situation(
        online=calm.online,
        wanted=calm.wanted,
        cpus=calm.cpus,
        mems=calm.mems,
        failing=frozenset(CpuSet.from_bits(failing)),
        broken=frozenset(id_ for id_, byte in fates if byte >= 224),
        vanishing=frozenset(id_ for id_, byte in fates if 192 <= byte < 224),
    )


@given(situations())
@THOROUGH
def test_no_prefix_puts_anyone_on_cpus_that_a_holder_has_for_itself(situation: Situation) -> None:
    run = Run(situation)
    at_first = overlaps(run, whole)
    seen = overlaps(run, taken)
    for count, step in enumerate(run.steps, 1):
        run.prefix(count)
        now = overlaps(run, taken)
        assert within(now, seen), step
        assert within(overlaps(run, in_force), at_first), step
        seen = now


@given(situations())
@BRIEF
def test_one_whole_plan_comes_to_what_is_desired(situation: Situation) -> None:
    run = Run(situation)
    run.prefix(len(run.steps))
    for id_, want in situation.wanted.items():
        assert run.ground.cpus[id_] == want.cpus
        assert want.mems in (None, run.ground.mems[id_])


@given(situations())
@BRIEF
def test_whoever_is_on_a_claim_leaves_before_anything_else_is_done(situation: Situation) -> None:
    run = Run(situation)
    order = [step.phase for step in run.steps]
    assert order == sorted(order, key=list(plan.Phase).index)
    run.prefix(order.count(plan.Phase.LEAVE))
    assert overlaps(run, whole) == {}


@given(situations())
@BRIEF
def test_a_write_says_truly_what_it_needs_and_what_it_vacates(situation: Situation) -> None:
    run = Run(situation)
    for count, step in enumerate(run.steps, 1):
        before = run.prefix(count - 1)[step.container]
        after = run.prefix(count)[step.container]
        assert step.vacates <= before, step
        assert step.vacates.isdisjoint(after), step
        if step.file == observed.CPUS:
            assert (after - before) & situation.claimed <= step.needs, step


@given(situations())
@BRIEF
def test_only_what_differs_is_written_and_nobody_is_written_to_more_than_twice(situation: Situation) -> None:
    run = Run(situation)
    for id_, want in situation.wanted.items():
        steps = [step for step in run.steps if step.container == id_ and step.file == observed.CPUS]
        assert len(steps) <= 2
        if situation.cpus[id_] == want.cpus:
            assert steps == []
    for step in run.steps:
        assert step.text, "an empty text would open everything to the container"


@given(crowded())
@FAIRLY
def test_without_a_pool_every_prefix_is_safe_and_no_file_is_emptied(situation: Situation) -> None:
    run = Run(situation)
    at_first = overlaps(run, whole)
    seen = overlaps(run, taken)
    for count, step in enumerate(run.steps, 1):
        assert step.text, step
        run.prefix(count)
        now = overlaps(run, taken)
        assert within(now, seen), step
        assert within(overlaps(run, in_force), at_first), step
        seen = now


@given(troubled())
@FAIRLY
def test_no_prefix_is_unsafe_where_writes_fail(situation: Situation) -> None:
    run = Run(situation)
    at_first = overlaps(run, whole)
    seen = overlaps(run, taken)

    def check() -> None:
        nonlocal seen
        now = overlaps(run, taken)
        assert within(now, seen)
        assert within(overlaps(run, in_force), at_first)
        seen = now

    run.ground.after = check
    run.execute()


@given(troubled())
@BRIEF
def test_nobody_settles_where_a_holder_could_not_be_moved_away(situation: Situation) -> None:
    run = Run(situation)
    run.execute()
    for result in run.results:
        id_ = result.write.container
        if result.write.phase is not plan.Phase.SETTLE or result.failed or result.gone:
            continue
        for holder, placement in situation.wanted.items():
            if placement.owner is not None and holder in run.ground.cpus:
                left_over = situation.cpus[holder] & run.ground.cpus[holder] - placement.cpus
                grown = run.ground.reach()[id_] - (situation.cpus[id_] or situation.online)
                assert left_over.isdisjoint(grown & result.write.needs), result


@given(troubled())
@BRIEF
def test_whoever_was_not_held_up_is_as_desired_in_the_end(situation: Situation) -> None:
    run = Run(situation)
    run.execute()
    untouched = {result.write.container for result in run.results if result.failed or result.gone}
    for id_, want in situation.wanted.items():
        if id_ not in untouched:
            assert run.ground.cpus[id_] == want.cpus
    stuck = CpuSet()
    for result in run.results:
        if result.blocked:
            assert not result.write.needs.isdisjoint(stuck), result
        if result.failed:
            stuck |= result.write.vacates


def _situation(files: dict[str, tuple[str, str, str]], *, online: str = "0-7") -> Situation:
    """From a table: container to what is desired, who owns it ("" for nobody), and what its file says."""
    return Situation(
        online=samples.cpus(online),
        wanted={
            events.ContainerId(id_): desired.Placement(
                cpus=samples.cpus(want), owner=state.ClaimKey(events.PodUid(owner), "main") if owner else None
            )
            for id_, (want, owner, _) in files.items()
        },
        cpus={events.ContainerId(id_): samples.cpus(has) for id_, (_, _, has) in files.items()},
        mems={events.ContainerId(id_): NodeSet() for id_ in files},
    )


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        pytest.param({}, [], id="nothing runs"),
        pytest.param({"db": ("2-3", "db", "2-3"), "web": ("0-1,4-7", "", "0-1,4-7")}, [], id="all in order"),
        pytest.param(
            {"db": ("2-3", "db", ""), "web": ("0-1,4-7", "", "0-7"), "new": ("0-1,4-7", "", "0")},
            ["leave web 0-1,4-7", "admit db 2-3", "settle new 0-1,4-7"],
            id="who must leave, who is admitted, who grows",
        ),
        pytest.param(
            {"a": ("2-3", "a", "4-5"), "b": ("4-5", "b", "2-3")},
            ["leave a 0-1,6-7", "leave b 0-1,6-7", "admit a 2-3", "admit b 4-5"],
            id="two that are on each other's CPUs go through free ones",
        ),
        pytest.param(
            {"a": ("2-3", "a", "2-5"), "b": ("4-5", "b", "")},
            ["leave b 0-1,6-7", "leave a 2-3", "admit b 4-5"],
            id="a holder that was widened goes back to its own at once",
        ),
        pytest.param(
            {"a": ("2-3", "a", "3-4"), "b": ("4-5", "b", "4-5")},
            ["leave a 3", "admit a 2-3"],
            id="a holder on half of its own keeps that half while it waits",
        ),
        pytest.param(
            {"a": ("2-3", "a", "6-7"), "web": ("0-1,4-7", "", "0-5")},
            ["leave web 0-1,4-5", "admit a 2-3", "settle web 0-1,4-7"],
            id="a shared one comes onto CPUs that a holder leaves when it has left",
        ),
    ],
)
def test_the_order_is_leave_admit_settle(files: dict[str, tuple[str, str, str]], lines: list[str]) -> None:
    steps = Run(_situation(files)).steps
    told = [f"{step.phase.value} {step.container} {step.text}" for step in steps]
    assert sorted(told) == sorted(lines)
    assert [line.split()[0] for line in told] == [line.split()[0] for line in lines]


@pytest.mark.parametrize(
    ("files", "passes"),
    [
        pytest.param(
            {"a": ("0-1", "a", "2-3"), "b": ("2-3", "b", "4-5"), "c": ("4-7", "c", "6-7")},
            [["a 0-1"], ["b 2-3"], ["c 4-7"], []],
            id="each when those before it have gone",
        ),
        pytest.param(
            {"a": ("0-3", "a", "4-5"), "b": ("4-7", "b", "6-7")},
            [["a 0-3"], ["b 4-7"], []],
            id="from half of its own to all of it",
        ),
        pytest.param(
            {"a": ("0-3", "a", "4-7"), "b": ("4-7", "b", "0-3")}, [[]], id="two on each other's stay there"
        ),
    ],
)
def test_without_a_pool_holders_move_as_far_as_they_can(
    files: dict[str, tuple[str, str, str]], passes: list[list[str]]
) -> None:
    situation = _situation(files)
    told = []
    for _ in passes:
        run = Run(situation)
        run.prefix(len(run.steps))
        told.append([f"{step.container} {step.text}" for step in run.steps if step.file == observed.CPUS])
        situation = dataclasses.replace(situation, cpus=run.ground.cpus)
    assert told == passes


def test_a_holder_that_cannot_leave_holds_up_only_who_comes_in_its_place() -> None:
    files = {
        "a": ("2-3", "a", "4-5"),
        "b": ("4-5", "b", "0"),
        "c": ("6-7", "c", "1"),
        "web": ("0-1", "", "0-7"),
    }
    calm = _situation(files)
    run = Run(
        Situation(
            online=calm.online, wanted=calm.wanted, cpus=calm.cpus, mems=calm.mems, broken=frozenset({"a"})
        )
    )
    run.execute()
    assert {result.write.container for result in run.results if result.blocked} == {"b"}
    assert {id_: str(cpus) for id_, cpus in run.ground.cpus.items()} == {
        "a": "4-5",
        "b": "0",
        "c": "6-7",
        "web": "0-1",
    }


def test_memory_that_cannot_be_written_holds_nobody_up() -> None:
    web, db = events.ContainerId("web"), events.ContainerId("db")
    wanted = {
        web: desired.Placement(cpus=samples.cpus("0-1"), mems=NodeSet((0,))),
        db: desired.Placement(cpus=samples.cpus("2-3"), owner=state.ClaimKey(events.PodUid("db"), "main")),
    }
    run = Run(
        Situation(
            online=samples.cpus("0-3"),
            wanted=wanted,
            cpus={web: samples.cpus("0-3"), db: CpuSet()},
            mems={web: NodeSet((0, 1)), db: NodeSet()},
            failing=frozenset({1}),
        )
    )
    run.execute()
    assert [(result.write.file, result.failed) for result in run.results] == [
        (observed.CPUS, False),
        (observed.MEMS, True),
        (observed.CPUS, False),
    ]


def test_narrowed_containers_are_not_written_to() -> None:
    id_ = events.ContainerId("web")
    wanted = {id_: desired.Placement(cpus=samples.cpus("0-3"))}
    looks: dict[events.ContainerId, observed.Look] = {id_: samples.look("0-3", effective="0-1")}
    online = samples.cpus("0-7")
    differences = diff.compare(wanted, looks, {}, online)
    assert [difference.cause for difference in differences] == [diff.Cause.NARROWED]
    assert plan.order(differences, wanted, looks, CpuSet(), online) == ()


def test_trespassers_are_all_on_the_cpus_but_those_that_are_to_be_there() -> None:
    key = state.ClaimKey(events.PodUid("db"), "")
    holder = desired.Placement(cpus=samples.cpus("2-3"), owner=key)
    away = desired.Placement(cpus=samples.cpus("0-1"))
    wanted = {
        events.ContainerId("same-claim"): holder,
        events.ContainerId("on-one-of-them"): away,
        events.ContainerId("elsewhere"): away,
        events.ContainerId("overlapping"): desired.Placement(cpus=samples.cpus("1-2")),
        events.ContainerId("beyond-its-list"): desired.Placement(cpus=samples.cpus("1-2")),
    }
    written = {
        events.ContainerId("same-claim"): samples.cpus("2-3"),
        events.ContainerId("on-one-of-them"): samples.cpus("1-2"),
        events.ContainerId("elsewhere"): samples.cpus("0-1"),
        events.ContainerId("overlapping"): samples.cpus("1-2"),
        events.ContainerId("beyond-its-list"): samples.cpus("1-3"),
        events.ContainerId("unknown"): samples.cpus("3"),
    }
    assert plan.trespassers(holder, written, wanted) == ("beyond-its-list", "on-one-of-them", "unknown")
