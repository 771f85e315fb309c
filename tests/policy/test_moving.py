"""Integer containers make room for annotated pods: who goes where, when nobody can, and that it is exact."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import errors, events, intent
from reconciler.config import schema
from reconciler.cpu.idset import CpuSet
from reconciler.policy import lifecycle, matching, moving, state
from reconciler.sim import machine
from tests.pipeline import samples
from tests.pipeline.samples import cpus

# covers: PRD-5.6, PRD-3.9

EIGHT = machine.Shape(sockets=1, cores=4, adjacent=True)
TWO_NODES = machine.Shape(sockets=2, cores=4, adjacent=True)


def integer(name: str, count: int, forbidden: str = "") -> events.ContainerCreating:
    annotations = {intent.FORBID: forbidden} if forbidden else {}
    pod = samples.pod(name, qos=samples.GUARANTEED, annotations=annotations)
    return samples.creating(pod, samples.container(pod, limits=samples.whole(count)))


def annotated(listed: str, count: int = 0) -> events.ContainerCreating:
    qos = samples.GUARANTEED if count else samples.BURSTABLE
    pod = samples.pod("listed", qos=qos, annotations={intent.CORES: listed})
    return samples.creating(pod, samples.container(pod, limits=samples.whole(count) if count else None))


def node(*created: events.ContainerCreating, shape: machine.Shape = EIGHT, reserved: str = "") -> state.State:
    now = samples.fresh(shape, config=schema.Config(reserved_cpus=reserved))
    for event in created:
        now, _, _ = lifecycle.admit(now, event)
    return now


def held(now: state.State) -> dict[str, str]:
    return {claim.pod.removeprefix("test/"): str(claim.cpus) for claim in now.ledger.claims.values()}


@pytest.mark.parametrize("count", [2, 0], ids=["exclusive", "shared"])
def test_an_integer_container_makes_room(count: int) -> None:
    before = node(integer("db", 2))
    after, placement, _ = lifecycle.admit(before, annotated("2-3", count))
    assert held(after) == {"db": "4-5", "listed": "2-3"}
    assert placement.cpus == cpus("2-3")
    assert moving.moves(before.ledger, after.ledger) == (
        moving.Move(
            key=state.ClaimKey(events.PodUid("uid-db"), "main"),
            pod="test/db",
            before=cpus("2-3"),
            after=cpus("4-5"),
        ),
    )


def test_what_is_not_wanted_is_kept() -> None:
    now = node(integer("db", 4), annotated("2-3", 2))
    assert held(now) == {"db": "4-7", "listed": "2-3"}


def test_a_better_place_is_taken_where_what_could_be_kept_would_split_the_container_over_nodes() -> None:
    now = node(integer("other", 4), integer("db", 4), annotated("6-7,9,11-13", 6), shape=TWO_NODES)
    nodes = [{cpu // 8 for cpu in claim.cpus} for claim in now.ledger.claims.values() if claim.key.name]
    assert all(len(its) == 1 for its in nodes), held(now)


def test_only_those_in_the_way_move_where_that_does() -> None:
    now = node(integer("one", 2), integer("two", 2), annotated("2", 1))
    assert held(now)["two"] == "4-5"


def test_reserved_cpus_are_no_room() -> None:
    now = node(integer("db", 2), reserved="4-7")
    with pytest.raises(errors.Refused) as refused:
        lifecycle.admit(now, annotated("1-3", 3))
    assert str(refused.value) == (
        "annotation weka.io/cores-ids=1-3 conflicts with CPUs that are held, and there is no room to move: "
        "CPU 2-3 by integer test/db container main, which needs 2 CPUs and could have 1 elsewhere; choose "
        "other CPUs or remove a pod that holds some"
    )


def test_nobody_is_moved_onto_what_its_pod_forbids() -> None:
    now = node(integer("db", 2, "4-7"))
    with pytest.raises(errors.Refused, match="needs 2 CPUs and could have 1 elsewhere"):
        lifecycle.admit(now, annotated("1-3", 3))
    assert held(node(integer("db", 2, "4-7"), annotated("2", 1)))["db"] == "0-1"


def test_another_container_moves_along_where_it_takes_that() -> None:
    """`db` may only have 2-5; `web` is on 4-5 and can go anywhere."""
    now = node(integer("db", 2, "0-1,6-7"), integer("web", 2))
    assert held(now) == {"db": "2-3", "web": "4-5"}
    after, _, _ = lifecycle.admit(now, annotated("2-3", 2))
    assert held(after) == {"listed": "2-3", "db": "4-5", "web": "6-7"}


def test_a_move_that_would_starve_the_pool_is_refused() -> None:
    now = node(integer("db", 4), integer("web", 2))
    with pytest.raises(errors.Refused, match="leave 0 CPUs in the shared pool"):
        lifecycle.admit(now, annotated("2-3", 2))
    assert held(now) == {"db": "2-5", "web": "6-7"}


def test_a_refusal_names_everyone_who_stays() -> None:
    now = node(integer("db", 2), integer("web", 2))
    with pytest.raises(errors.Refused) as refused:
        lifecycle.admit(now, annotated("1-6", 6))
    assert "CPU 2-3 by integer test/db container main, which needs 2 CPUs and could have 2" in str(
        refused.value
    )
    assert "CPU 4-5 by integer test/web container main, which needs 2 CPUs and could have 2" in str(
        refused.value
    )


DEMANDS = st.lists(
    st.builds(matching.Demand, size=st.integers(0, 3), allowed=st.integers(0, 63)), min_size=1, max_size=3
)


def _exhaustive(demands: list[matching.Demand], room: int) -> bool:
    if not demands:
        return True
    first, *rest = demands
    free = [1 << cpu for cpu in range(8) if room & first.allowed & 1 << cpu]
    return any(_exhaustive(rest, room & ~sum(chosen)) for chosen in itertools.combinations(free, first.size))


@given(DEMANDS)
@settings(deadline=None, max_examples=2000)
def test_demands_are_met_exactly_where_an_exhaustive_search_can_meet_them(
    demands: list[matching.Demand],
) -> None:
    shares = matching.assign(demands)
    assert (shares is not None) == _exhaustive(demands, 63)
    if shares is not None:
        taken = 0
        for demand, share in zip(demands, shares, strict=True):
            assert share.bit_count() == demand.size
            assert not share & ~demand.allowed
            assert not share & taken
            taken |= share


FORBIDDEN = st.integers(0, 255).map(lambda bits: str(CpuSet.from_bits(bits)))


@given(
    st.lists(st.tuples(st.integers(1, 3), FORBIDDEN), min_size=1, max_size=3),
    st.integers(1, 255),
    st.booleans(),
)
@settings(deadline=None, max_examples=1500)
def test_room_is_made_where_there_is_some_and_nothing_is_on_what_is_wanted_or_forbidden(
    wishes: list[tuple[int, str]], wanted: int, exclusive: bool
) -> None:
    now = samples.fresh(EIGHT)
    for number, (count, forbidden) in enumerate(wishes):
        try:
            now, _, _ = lifecycle.admit(now, integer(f"db-{number}", count, forbidden))
        except errors.Refused:
            continue
    listed = CpuSet.from_bits(wanted)
    before = dict(now.ledger.claims)
    demands = [
        matching.Demand(len(claim.cpus), 255 & ~wanted & ~claim.forbidden.bits) for claim in before.values()
    ]
    fits = _exhaustive(demands, 255 & ~wanted)
    total = sum(len(claim.cpus) for claim in before.values()) + (len(listed) if exclusive else 0)
    in_the_way = any(not claim.cpus.isdisjoint(listed) for claim in before.values())
    possible = (fits or not in_the_way) and total < 8
    try:
        after, _, _ = lifecycle.admit(now, annotated(str(listed), len(listed) if exclusive else 0))
    except errors.Refused:
        assert not possible
        return
    assert possible
    taken = CpuSet()
    for key, claim in after.ledger.claims.items():
        if claim.kind is intent.Kind.INTEGER:
            assert len(claim.cpus) == len(before[key].cpus)
            assert claim.cpus.isdisjoint(listed | claim.forbidden | taken)
            taken |= claim.cpus
    assert {move.key for move in moving.moves(now.ledger, after.ledger)} == {
        key for key in before if after.ledger.claims[key].cpus != before[key].cpus
    }
